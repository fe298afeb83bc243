"""Features that another tool computed, in the files of each kind, matched to crops by name."""

import csv
import pickle
import re

import h5py
import numpy as np
import pytest

from stages.base.errors import UserError
from stages.intake.embeddings import find_embeddings, match_embeddings

PATHS = ["GS/a_1.png", "nonGS/a_2.png", "nonGS/b_1.png"]
FEATURES = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)


def write_h5(file, names=PATHS, features=FEATURES, **more):
    with h5py.File(file, "w") as content:
        for name, values in ({"names": names, "features": features} | more).items():
            if values is not None:
                content[name] = values
    return file


def write_npy(file, names=PATHS, features=FEATURES, column="name"):
    np.save(file, features)
    with file.with_suffix(".csv").open("w", newline="") as table:
        csv.writer(table).writerows([[column], *([name] for name in names)])
    return file


def write_parquet(file, **columns):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), file)
    return file


def refused(file, **options):
    """The one line by which a file is refused."""
    with pytest.raises(UserError) as error:
        match_embeddings(file, PATHS, "data/mine", **options)
    assert str(error.value).startswith(str(file))
    return str(error.value)


def test_rows_in_any_order_are_matched_by_path_or_last_part_or_without_the_suffix(tmp_path):
    for names in (PATHS, ["a_1.png", "a_2.png", "nonGS/b_1.png"], ["a_1", "nonGS/a_2", "b_1"]):
        for file in (
            write_h5(tmp_path / "mine.h5", names[::-1], FEATURES[::-1].astype(np.float16)),
            write_npy(tmp_path / "mine.npy", names[::-1], FEATURES[::-1].astype(np.float64)),
        ):
            found = match_embeddings(file, PATHS, "data/mine", length=2)
            assert found.dtype == np.float32 and np.array_equal(found, FEATURES)
    left_out = match_embeddings(file, PATHS[:2], "data/mine", left_out=[PATHS[2]])
    assert np.array_equal(left_out, FEATURES[:2])


def test_a_folder_holds_a_file_for_each_crop_as_trident_writes_them(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    for path, vector in zip(PATHS, FEATURES):
        name = path.rpartition("/")[2].removesuffix(".png")
        write_h5(folder / f"{name}.h5", None, vector[None], coords=np.zeros((1, 2), dtype=int))
    np.save(folder / "a_2.npy", FEATURES[1])
    (folder / "a_2.h5").unlink()
    assert np.array_equal(match_embeddings(folder, PATHS, "data/mine"), FEATURES)
    np.save(folder / "a_2.npy", FEATURES[1, :1])
    with pytest.raises(UserError, match=r"a_2.npy: 1 features, but 2 in a_1.h5"):
        match_embeddings(folder, PATHS, "data/mine")
    write_h5(folder / "b_1.h5", None, FEATURES)
    with pytest.raises(UserError, match=r"b_1.h5: features of shape \(3, 2\); .* one vector"):
        match_embeddings(folder, PATHS, "data/mine")


def test_parquet_has_a_column_of_lists_or_numbered_columns(tmp_path):
    file = tmp_path / "mine.parquet"
    write_parquet(file, path=PATHS, label=[1.0, 0.0, 0.0], vector=list(FEATURES))
    assert np.array_equal(match_embeddings(file, PATHS, "data/mine"), FEATURES)
    # By the numbers, not by the place: two files may have another order of columns.
    write_parquet(file, f10=FEATURES[:, 1], name=PATHS, f9=FEATURES[:, 0])
    assert np.array_equal(match_embeddings(file, PATHS, "data/mine"), FEATURES)
    for columns in (
        {"f0": FEATURES[:, 0], "label": [1.0, 0.0, 0.0]},
        {"f0": FEATURES[:, 0], "f2": FEATURES[:, 1]},
        {"f0": FEATURES[:, 0], "g1": FEATURES[:, 1]},
        {"f0": FEATURES[:, 0], "f1": [1, 2, 3]},
        {},
    ):
        assert "numbered without a gap" in refused(write_parquet(file, name=PATHS, **columns))
    ragged = write_parquet(file, name=PATHS, vector=[[1.0], [1.0, 2.0], [1.0]])
    assert "not all of one length" in refused(ragged)
    assert "one column" in refused(write_parquet(file, f0=FEATURES[:, 0]))
    file.write_bytes(b"PAR1")
    assert "not a readable Parquet file" in refused(file)


def test_crops_without_a_row_and_rows_without_a_crop_are_refused(tmp_path):
    file = tmp_path / "mine.h5"
    assert refused(write_h5(file, PATHS[:2], FEATURES[:2])) == (
        f"{file}: no row for 1 of 3 crops: nonGS/b_1.png"
    )
    more = [*PATHS, "c_1.png"]
    assert refused(write_h5(file, more, np.ones((4, 2)))) == (
        f"{file}: 1 of 4 rows name no single crop: 'c_1.png' is not in data/mine; remove rows of "
        "other crops"
    )
    twice = ["a_1.png", "GS/a_1.png", *PATHS[1:]]
    assert "1 crops have several rows: GS/a_1.png" in refused(
        write_h5(file, twice, np.ones((4, 2)))
    )
    paths = ["x/a.png", "x/a.tif"]
    write_h5(file, ["a.png", "a"], np.ones((2, 2)))
    with pytest.raises(UserError, match="'a' matches x/a.png, x/a.tif"):
        match_embeddings(file, paths, "data/mine")


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (
            [[1, 2], [3, np.nan], [5, 6]],
            "1 rows hold NaN or infinity, such as that of nonGS/a_2.png",
        ),
        (np.array([[1, 2], [3, 1e300], [5, 6]]), "NaN or infinity"),
        ([[1, 2], [0, 0], [5, 6]], "only zeros"),
        (np.ones((3, 2), dtype=int), "features of type int64"),
        (np.ones((2, 2)), "2 rows of features, but 3 names"),
        (np.ones((3, 4)), "4 features per crop; the model was trained on 2"),
        (np.ones((3, 4, 2)), "features of shape (3, 4, 2)"),
        (np.ones((3, 0)), "features of shape (3, 0)"),
    ],
)
def test_anything_but_one_vector_of_finite_floats_per_crop_is_refused(tmp_path, features, said):
    features = np.array(features, dtype=None if isinstance(features, np.ndarray) else float)
    assert said in refused(write_h5(tmp_path / "mine.h5", features=features), length=2)


def test_nothing_in_a_file_is_run_or_followed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    bomb = tmp_path / "mine.pt"
    bomb.write_bytes(pickle.dumps(Bomb()))
    assert "a pickle can run code" in refused(bomb)
    npy = write_npy(tmp_path / "mine.npy", features=np.array([Bomb()] * 3, dtype=object))
    (tmp_path / "ran").unlink(missing_ok=True)
    assert "not a readable .npy file: Object arrays cannot be loaded" in refused(npy)
    npy.write_bytes(bomb.read_bytes())
    assert "not a readable .npy file" in refused(npy)
    assert not (tmp_path / "ran").exists()

    other = write_h5(tmp_path / "other.h5")
    file = write_h5(tmp_path / "mine.h5", features=h5py.ExternalLink(other.name, "features"))
    assert "one dataset features or embeddings; it holds names" in refused(file)
    layout = h5py.VirtualLayout((3, 2), np.float32)
    layout[:] = h5py.VirtualSource(str(other), "features", (3, 2))
    with h5py.File(file, "a") as content:
        del content["features"]
        content.create_virtual_dataset("features", layout)
    assert "it holds names" in refused(file)


def test_what_is_no_file_of_features_gets_one_line(tmp_path):
    file = tmp_path / "mine.h5"
    file.write_bytes(b"\x89HDF\r\n\x1a\n" + 100 * b"\0")
    assert re.search("not a readable HDF5 file: [^\n]+$", refused(file))
    slide = write_h5(file, None, coords=np.zeros((3, 2), dtype=int))
    assert "one dataset name or path or names or paths; it holds features, coords" in refused(slide)
    assert "asstr" in refused(write_h5(file, [1, 2, 3]))
    assert "2 of" not in refused(write_h5(file, embeddings=FEATURES))
    npy = tmp_path / "alone.npy"
    np.save(npy, FEATURES)
    assert "0 of these files exist" in refused(npy)
    (tmp_path / "empty").mkdir()
    assert "it holds no file" in refused(tmp_path / "empty")
    assert "not read; convert it" in refused(write_npy(tmp_path / "mine.npy").with_suffix(".csv"))


def test_the_features_of_a_dataset_are_found_by_its_name_in_a_folder(tmp_path):
    file = write_h5(tmp_path / "any.h5")
    assert find_embeddings(file, "mine") == file
    with pytest.raises(
        UserError, match="must hold one of mine.h5, mine.npy, mine.parquet or mine/"
    ):
        find_embeddings(tmp_path, "mine")
    mine = write_npy(tmp_path / "mine.npy")
    (tmp_path / "other").mkdir()
    assert find_embeddings(tmp_path, "mine") == mine
    assert find_embeddings(tmp_path, "other") == tmp_path / "other"
    write_h5(tmp_path / "mine.h5")
    with pytest.raises(UserError, match=r"it holds mine.h5, mine.npy"):
        find_embeddings(tmp_path, "mine")
    with pytest.raises(UserError, match=r"into a folder, .*/mine/any.npy and .*/mine/any.csv"):
        find_embeddings(mine, "any")
    with pytest.raises(UserError, match="does not exist"):
        find_embeddings(tmp_path / "none", "mine")


def test_an_empty_name_or_array_is_refused(tmp_path):
    file = write_npy(tmp_path / "a.npy")
    rows = ["path,slide", *(f"{path},S" for path in PATHS[:2]), ",S"]
    file.with_suffix(".csv").write_text("\n".join(rows))
    assert "name no single crop" in refused(file)
    empty = write_h5(tmp_path / "b.h5", features=h5py.Empty("float32"))
    assert "must hold one dataset" in refused(empty)
