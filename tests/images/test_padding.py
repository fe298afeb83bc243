"""The stage pads each image that opens to its row, whatever the number of workers, or says
what it cannot read.
"""

import csv
import os
import resource
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from distributed import LocalCluster
from PIL import Image

from stages import pad
from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.dataset.cohort import open_squares
from stages.images import padding
from stages.images.opening import load_image
from stages.images.padding import Crop, pad_all
from stages.images.squares import make_square
from stages.intake.crops import make_manifest
from stages.workers import cluster
from stages.workers.growing import Target, growing_array, row_keys
from tests.conftest import PROJECT, list_crops, make_classes, save_crop, set_params
from tests.workers.killing import killing_one


def run(mode="white", size=16):
    set_params({"pad.mode": mode, "pad.size": size})
    list_crops()
    pad.main()
    return open_squares()


def test_row_i_is_row_i_of_the_manifest(workplace):
    folder = make_classes()
    squares = run("mean")
    with open("data/manifest.csv", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert squares.shape == (24, 16, 16, 3)
    assert squares.dtype == np.uint8
    for path, square in zip(paths, squares, strict=True):
        assert (square == make_square(load_image(folder / path), "mean", 16)).all()


def test_refuses_a_picture_that_was_replaced_after_it_was_listed(workplace):
    folder = make_classes()
    list_crops()
    save_crop(folder / "GS" / "s2-0.png", seed=1)
    with pytest.raises(UserError) as error:
        pad.main()
    said = "it shows another picture than when the crops were listed; run `dvc repro`"
    assert str(error.value) == f"{folder / 'GS' / 's2-0.png'}: {said}"
    assert not Path("data/padded/images.npy").exists()


def test_the_bytes_do_not_depend_on_the_workers(workplace, monkeypatch):
    make_classes()
    contents = []
    for workers in (1, 2, 5):
        monkeypatch.setattr(joblib, "cpu_count", lambda workers=workers: workers)
        run("reflect")
        contents.append(Path("data/padded/images.npy").read_bytes())
    assert contents[0] == contents[1] == contents[2]


def test_mixed_formats_end_in_one_array(workplace):
    folder = make_classes(slides=1)
    for number, mode in enumerate(["RGBA", "L", "P", "1"]):
        save_crop(folder / "nonGS" / f"s1-{number}.png", seed=500 + number, mode=mode)
    save_crop(folder / "nonGS" / "s2-1.jpg", seed=600)
    save_crop(folder / "nonGS" / "s2-2.tiff", seed=601, mode="CMYK")
    Image.fromarray(np.full((5, 9), 40_000, dtype=np.uint16)).save(folder / "nonGS" / "s2-3.tif")
    assert run("zero", 24).shape == (11, 24, 24, 3)


def test_images_that_went_bad_since_are_named_and_nothing_is_left(workplace):
    folder = make_classes()
    set_params({"pad.size": 16})
    list_crops()
    (folder / "GS" / "s1-0.png").write_bytes(b"x")
    (folder / "GS" / "s2-0.png").unlink()
    with pytest.raises(UserError) as error:
        pad.main()
    first, second = str(error.value).splitlines()
    assert first.startswith("data/small/GS/s1-0.png does not open as an image")
    assert second == "data/small/GS/s2-0.png does not open as an image: No such file or directory"
    assert not Path("data/padded").exists()


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(workplace):
    make_classes()
    set_params({"pad.size": 64})
    list_crops()
    done = subprocess.run(
        [sys.executable, "-m", "stages.pad"],
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: [Errno 27] File too large"
    assert "Traceback" not in done.stderr
    assert not Path("data/padded").exists()


def test_the_picture_shows_the_same_crops_in_every_mode(workplace):
    folder = make_classes()
    save_crop(folder / "GS" / "s7-0.png", seed=7, size=(40, 10))
    pictures = []
    for mode in ("white", "zero"):
        run(mode, 64)
        pictures.append(np.asarray(Image.open("metrics/plots/padding.png")))
    white, zero = pictures
    middle = white.shape[0] // 2
    assert (white[:middle] == zero[:middle]).all()
    assert not (white[middle:] == zero[middle:]).all()


def test_all_modes_on_native_crops(workplace, real_data):
    """The twelve native crops, 271 to 744 pixels, RGBA: each mode centers the crop and fills the
    margins its own way.
    """
    project_card = PROJECT / "data/kpmp.yaml"
    Path("data/kpmp.yaml").write_text(project_card.read_text())
    Path("data/kpmp").symlink_to(real_data / "kpmp_sample")
    set_params({"data": "kpmp"})
    rows = make_manifest(read_dataset("kpmp"), Path("unreadable.csv"))[0]
    tall = next(number for number, row in enumerate(rows) if (row.width, row.height) == (498, 709))
    margin = (224 - round(498 * 224 / 709)) // 2
    squares = {
        mode: run(mode, 224)[tall].copy()
        for mode in ("white", "zero", "edge", "reflect", "mean", "stretch")
    }
    inside = slice(margin, 224 - margin - 1)
    for mode in ("zero", "edge", "reflect", "mean"):
        assert (squares[mode][:, inside] == squares["white"][:, inside]).all()
    left = {mode: square[:, :margin] for mode, square in squares.items()}
    assert (left["white"] == 255).all()
    assert (left["zero"] == 0).all()
    assert (left["edge"] == squares["edge"][:, margin : margin + 1]).all()
    assert (left["reflect"][:, ::-1] == squares["reflect"][:, margin + 1 : 2 * margin + 1]).all()
    assert (left["mean"] == left["mean"][0, 0]).all() and 100 < left["mean"].mean() < 220


def pad_files(files, output, scheduler=None):
    """Pad crops of these files to a .npy file; return its bytes and what was written as arrays."""
    given = []
    with growing_array(output, row_keys("", map(str, files)), (16, 16, 3), np.uint8) as rows:
        write = rows.write
        rows.write = lambda row, square: (given.append(square), write(row, square))
        pad_all([Crop(file) for file in files], "reflect", 16, rows, scheduler)
    return output.read_bytes(), [square for square in given if square is not None]


@pytest.mark.slow
@pytest.mark.usefixtures("environment_kept")
def test_a_cluster_whose_worker_comes_late_and_dies_gives_the_same_bytes(tmp_path, monkeypatch):
    files = [save_crop(tmp_path / f"{n}.png", n, (12 + n % 7, 9 + n % 5)) for n in range(40)]
    expected, _ = pad_files(files, tmp_path / "here/images.npy")
    monkeypatch.setattr(padding, "MOST_CROPS", 4)
    with LocalCluster(n_workers=0, threads_per_worker=1, dashboard_address="127.0.0.1:0") as some:
        said, killed = [], []

        def warn(line):
            said.append(line)
            some.scale(1)

        monkeypatch.setattr(cluster, "warn", warn)
        monkeypatch.setattr(padding, "in_any_order", killing_one(killed))
        found, sent = pad_files(files, tmp_path / "there/images.npy", some.scheduler_address)
        assert found == expected and not sent and said and killed
        files[30].write_bytes(b"nothing")
        with pytest.raises(UserError, match=r"30\.png does not open"):
            pad_files(files, tmp_path / "there/images.npy", some.scheduler_address)
    assert not [*tmp_path.glob("*.token.part")]


def test_a_worker_that_does_not_see_the_file_sends_the_squares(tmp_path):
    file = tmp_path / "a.part"
    file.write_bytes(bytes(2 * 3))
    crops = [Crop(save_crop(tmp_path / f"{n}.png", n, (1, 1))) for n in range(2)]
    target = Target(file, 0, "token")
    squares = [padding.pad_one(crop, "white", 1) for crop in crops]
    for another in (False, True):
        if another:
            target._replace(token="of another run").token_file.touch()
        sent = padding.pad_block(target, [1, 0], crops, "white", 1)
        assert np.array_equal(sent, squares) and file.read_bytes() == bytes(6)
    target.token_file.touch()
    assert padding.pad_block(target, [1, 0], crops, "white", 1) == [None, None]
    assert file.read_bytes() == squares[1].tobytes() + squares[0].tobytes()
    # The next run writes to the same file: a worker of this one must not.
    with growing_array(tmp_path / "a/images.npy", row_keys("", "ab"), (1, 1, 3), np.uint8) as rows:
        assert rows.part == file and not target.is_seen()
        rows.write(np.arange(2), np.zeros((2, 1, 1, 3), dtype=np.uint8))
