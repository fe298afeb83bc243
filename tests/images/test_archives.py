"""Images in ZIP archives are read as if unpacked, and nothing of an archive is trusted."""

import io
import os
import shutil
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages import pack as pack_program
from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.images.archives import Member, locate
from stages.images.opening import load_image
from stages.intake.crops import make_manifest
from stages.intake.listing import list_images
from stages.intake.source import find_crops
from tests.conftest import make_classes, make_table, save_crop


@pytest.fixture
def folder(workplace):
    """data/small, with 8 crops of two slides."""
    return make_classes(slides=2)


def pack(folder, archive, keep=(), **how):
    """Move the images below a folder into an archive in it."""
    with zipfile.ZipFile(folder / archive, "w", **how) as out:
        for file in sorted(folder.rglob("*.png")):
            name = file.relative_to(folder).as_posix()
            out.write(file, name)
            if name not in keep:
                file.unlink()
    return folder / archive


def write(archive, members):
    """Write an archive of members, (name or ZipInfo, content)."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.unlink(missing_ok=True)
    with warnings.catch_warnings(), zipfile.ZipFile(archive, "w") as out:
        warnings.simplefilter("ignore", UserWarning)  # A name that appears twice.
        for member, content in members:
            out.writestr(member, content)


def manifest():
    return make_manifest(read_dataset("small"), Path("unreadable.csv"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_manifest_of_an_archive_is_that_of_the_unpacked_folder(folder, compression):
    before = manifest()
    pixels = [np.asarray(load_image(locate(folder, row.path))) for row in before.rows]
    pack(folder, "crops.zip", compression=compression)
    assert manifest() == before
    again = [locate(folder, row.path) for row in before.rows]
    assert all(isinstance(one, Member) for one in again)
    assert all((np.asarray(load_image(one)) == old).all() for one, old in zip(again, pixels))
    assert str(again[0]) == "data/small/crops.zip/GS/s0-0.png" and again[0].name == "s0-0.png"


def test_archives_lie_in_any_folder_next_to_files(folder):
    before = manifest()
    pack(folder / "nonGS", "a.zip")
    pack(folder, "b.ZIP", keep=["GS/s0-0.png"])
    write(folder / "c.zip", [("GS/", b""), ("empty/", b"")])
    with zipfile.ZipFile(folder / "b.ZIP") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    write(folder / "b.ZIP", [one for one in content.items() if one[0] != "GS/s0-0.png"])
    assert manifest() == before


def test_a_member_goes_to_other_processes_with_its_code(folder):
    pack(folder, "crops.zip")
    member = locate(folder, "GS/s0-0.png").absolute()
    import stages

    cloudpickle.register_pickle_by_value(stages)
    try:
        sent = cloudpickle.dumps((load_image, member))
    finally:
        cloudpickle.unregister_pickle_by_value(stages)
    load, there = cloudpickle.loads(sent)
    assert load(there).size == (12, 9)


def crop():
    content = io.BytesIO()
    from PIL import Image

    Image.new("RGB", (5, 4), (200, 100, 50)).save(content, "PNG")
    return content.getvalue()


def named(name, **fields):
    info = zipfile.ZipInfo("x")
    info.filename = name
    for key, value in fields.items():
        setattr(info, key, value)
    return info


NAMES = {
    "/GS/s9-0.png": "has a path that is not made of names with a / between them",
    "../s9-0.png": "has a path that is not made of names with a / between them",
    "GS/../../s9-0.png": "has a path that is not made of names with a / between them",
    "./GS/s9-0.png": "has a path that is not made of names with a / between them",
    "GS//s9-0.png": "has a path that is not made of names with a / between them",
    "GS\\s9-0.png": "has a path that is not made of names with a / between them",
    "C:/GS/s9-0.png": "has a path that is not made of names with a / between them",
    "GS/s9\0-0.png": "has a control character in its name; rename it",
    "GS\n/s9-0.png": "has a control character in its name; rename it",
    "GS/s9-0.png ": "has a space at the end of its name; rename it",
    "GS/more.zip": "is an archive in an archive; unpack it",
    "GS/s1-1.ZIP": "is an archive in an archive; unpack it",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_name_in_an_archive_is_refused(folder, name):
    write(folder / "crops.zip", [(named(name), crop())])
    with pytest.raises(UserError) as error:
        manifest()
    assert str(error.value) == f"{f'data/small/crops.zip/{name}'!r} {NAMES[name]}"
    assert not any("s9" in path for path in list_images(folder).images)


def test_names_that_are_not_marked_as_utf8_are_refused(folder):
    write(folder / "crops.zip", [("GS/s9-é.png", crop())])
    content = (folder / "crops.zip").read_bytes()
    local, central = content.index(b"PK\3\4"), content.index(b"PK\1\2")
    changed = bytearray(content)
    changed[local + 7] = changed[central + 9] = 0  # The upper flags.
    (folder / "crops.zip").write_bytes(changed)
    with pytest.raises(UserError, match=r"has a name that is not marked as UTF-8; rename it, or"):
        manifest()


def test_marked_names_may_have_any_letters(folder):
    write(folder / "crops.zip", [("GS/Müller.png", crop())])
    assert "GS/Müller.png" in list_images(folder).images
    assert load_image(locate(folder, "GS/Müller.png")).size == (5, 4)


def encrypted(archive):
    patch(archive, 8, 0x1)


def compressed_by_an_unknown_method(archive):
    patch(archive, 10, 98)


def huge(archive):
    patch(archive, 24, 2**31, "<I")


def beyond_the_end(archive):
    patch(archive, 42, 2**31, "<I")


def a_part_of_several(archive):
    patch(archive, 34, 2)


def a_link(archive):
    patch(archive, 38, (stat.S_IFLNK | 0o777) << 16, "<I")


def cut_short(archive):
    os.truncate(archive, archive.stat().st_size - 30)


def no_archive(archive):
    archive.write_text("a text")


def empty(archive):
    archive.write_bytes(b"")


def other_file(archive):
    archive.unlink()
    archive.symlink_to("/etc/passwd")


def patch(archive, place, value, how="<H"):
    """Change a field of each member in the directory of an archive."""
    content = bytearray(archive.read_bytes())
    start = content.index(b"PK\1\2")
    while start >= 0:
        struct.pack_into(how, content, start + place, value)
        start = content.find(b"PK\1\2", start + 4)
    archive.write_bytes(content)


PATCHES = {
    encrypted: "GS/s0-0.png' is encrypted; pack it without a password (7 more in this archive)",
    compressed_by_an_unknown_method: "is compressed by method 98; use Deflate, or no compression",
    huge: "has more than 800,000,000 bytes, which no image has that is read",
    beyond_the_end: "is not in the archive, which is damaged, or one part of several",
    a_part_of_several: "is not in the archive, which is damaged, or one part of several",
    a_link: "is a link; pack the file that it leads to",
    cut_short: "'data/small/crops.zip' does not open as a ZIP archive: File is not a zip file",
    no_archive: "'data/small/crops.zip' does not open as a ZIP archive: File is not a zip file",
    empty: "'data/small/crops.zip' does not open as a ZIP archive: File is not a zip file",
    other_file: "'data/small/crops.zip' is a link that leads out of data/small",
}


@pytest.mark.parametrize("damage", PATCHES)
def test_what_is_not_read_in_an_archive_is_one_line(folder, damage):
    damage(pack(folder, "crops.zip"))
    with pytest.raises(UserError) as error:
        manifest()
    assert PATCHES[damage] in str(error.value) and "\n" not in str(error.value)


def other_content(archive):
    content = bytearray(archive.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    archive.write_bytes(content)


def other_place(archive):
    patch(archive, 42, 1, "<I")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (other_content, "GS/s0-0.png is damaged: it does not have its size and CRC-32"),
        (other_place, "GS/s0-0.png is not where the directory of the archive says"),
    ],
)
def test_damage_in_an_archive_is_found_when_it_is_read(folder, damage, said):
    damage(pack(folder, "crops.zip"))
    with pytest.raises(UserError, match=f"^data/small/crops.zip/{said}"):
        manifest()


def test_more_bytes_than_declared_are_not_unpacked(folder):
    """A zip bomb declares a small size."""
    archive = folder / "crops.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("GS/s9-0.png", bytes(50_000_000))
    patch(archive, 24, 1000, "<I")
    with pytest.raises(UserError, match="s9-0.png is damaged: it does not have its size and CRC"):
        locate(folder, "GS/s9-0.png").read_bytes()


def test_an_archive_next_to_its_content_is_refused_in_one_line(folder):
    pack(
        folder,
        "crops.zip",
        keep=[f"{one}/s{n}-{m}.png" for one in ("GS", "nonGS") for n in (0, 1) for m in range(4)],
    )
    said = "'data/small/crops.zip/GS/s0-0.png' is also in data/small; remove one (7 more in this "
    said += "archive)"
    for read in (manifest, lambda: find_crops(folder)):
        with pytest.raises(UserError) as error:
            read()
        assert str(error.value) == said
    # As Windows unpacks it.
    (folder / "crops").mkdir()
    for name in ("GS", "nonGS"):
        shutil.move(folder / name, folder / "crops")
    with pytest.raises(UserError, match="crops.zip is an archive; give the folder that it is in"):
        find_crops(folder / "crops.zip")
    with pytest.raises(UserError, match="' is also in data/small/crops; remove one \\(7 more"):
        find_crops(folder)


def test_a_single_image_is_not_taken_from_an_archive_next_to_it(folder):
    file, *_ = sorted(folder.rglob("*.png"))
    other = sorted(folder.rglob("*.png"))[-1]
    with zipfile.ZipFile(file.with_name("old.zip"), "w") as archive:
        archive.write(other, file.name)
    source = find_crops(file)
    assert locate(source.folder, source.names[0]) == file


def test_a_name_in_two_archives_is_refused(folder):
    archive = pack(folder, "crops.zip")
    shutil.copy(archive, folder / "crops (1).zip")
    with pytest.raises(UserError, match=r"' is also in crops \(1\).zip; remove one \(7 more"):
        manifest()
    (folder / "GS").mkdir(exist_ok=True)
    write(folder / "crops (1).zip", [])
    write(folder / "GS/more.zip", [("s0-0.png", crop()), ("s0-9.png", crop())])
    with pytest.raises(UserError) as error:
        manifest()
    assert str(error.value) == (
        "'data/small/GS/more.zip/s0-0.png' is also in data/small/crops.zip; remove one"
    )
    write(folder / "GS/more.zip", [("s0-9.png", crop()), ("s0-9.png", crop())])
    with pytest.raises(UserError, match="more.zip/s0-9.png' is in the archive twice"):
        manifest()


def test_a_link_out_of_the_folder_hides_no_file(folder):
    """`locate` would find the image of the archive that is not read."""
    write(Path("elsewhere.zip"), [("GS/s0-0.png", crop())])
    (folder / "other.zip").symlink_to(Path("elsewhere.zip").resolve())
    found = list_images(folder)
    assert "GS/s0-0.png" not in found.images and len(found.images) == 7
    assert set(found.problems) == {"GS/s0-0.png", "other.zip"}


def test_leftovers_in_archives_are_ignored_and_other_files_left_out(folder, capsys):
    before = manifest()
    capsys.readouterr()
    write(
        folder / "crops.zip",
        [
            ("__MACOSX/GS/._s0-0.png", b"x"),
            (".hidden/s0-0.png", b"x"),
            ("GS/.DS_Store", b"x"),
            ("notes/readme.txt", b"x"),
        ],
    )
    write(folder / ".backup.zip", [("GS/s0-0.png", crop())])
    assert manifest() == before
    said = capsys.readouterr().err
    assert "ignored 4 hidden files or folders" in said
    assert "left out, not images by their name: crops.zip/notes/readme.txt" in said


def test_a_table_in_an_archive_is_not_read(workplace):
    folder = make_table("name,truth\na.png,1\nb.png,0\n", ["a.png", "b.png"])
    with zipfile.ZipFile(folder / "all.zip", "w") as out:
        out.write(folder / "labels.csv", "labels.csv")
    (folder / "labels.csv").unlink()
    with pytest.raises(UserError) as error:
        make_manifest(read_dataset("table"), Path("unreadable.csv"))
    assert str(error.value) == (
        "data/table.yaml, line 2: `labels: labels.csv`: data/table/all.zip/labels.csv: "
        "tables in archives are not read; unpack it"
    )


@given(st.lists(st.text(st.sampled_from("aZé/.\\:\0 ~"), min_size=1, max_size=6), max_size=6))
def test_each_image_in_an_archive_is_read_or_named(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("archives", numbered=True)
    write(folder / "a.zip", [(named(f"{name}.png"), b"x") for name in names])
    found = list_images(folder)
    listed = [*found.images, *found.problems, *(one[6:] for one in found.ignored)]
    assert set(listed) == {f"{name}.png" for name in names}
    for path in found.images:
        assert locate(folder, path).read_bytes() == b"x"
        assert (folder / path).resolve().is_relative_to(folder)
    shutil.rmtree(folder)


def run_pack(monkeypatch, *arguments):
    monkeypatch.setattr("sys.argv", ["pack", *map(str, arguments)])
    pack_program.main()


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_packing_gives_the_same_manifest_and_equal_bytes(folder, monkeypatch):
    (folder / "notes").mkdir()
    (folder / "notes/labels.csv").write_text("a table")
    before = manifest()
    run_pack(monkeypatch, folder, "out/small")
    run_pack(monkeypatch, folder, "again")
    assert contents(Path("out/small")) == contents(Path("again"))
    assert set(contents(Path("again"))) == {"crops-0000.zip", "notes/labels.csv"}
    shutil.rmtree(folder)
    Path("again").rename(folder)
    assert manifest() == before
    # Packed once more, from the archive.
    run_pack(monkeypatch, folder, "third")
    assert contents(Path("out/small")) == contents(Path("third"))


def test_names_that_archives_cannot_hold_are_not_packed(folder, monkeypatch):
    save_crop(folder / "GS/a\\b.png", seed=8)
    with pytest.raises(UserError, match="has a name that archives cannot hold; rename it"):
        run_pack(monkeypatch, folder, "packed")
    assert not Path("packed").exists()


def test_adding_a_twin_of_a_packed_name_is_refused(folder, monkeypatch):
    save_crop(folder / "GS/u\u0308.png", seed=7)
    run_pack(monkeypatch, folder, "packed")
    save_crop(Path("more/GS/\u00fc.png"), seed=8)
    with pytest.raises(UserError, match="one name in two Unicode forms"):
        run_pack(monkeypatch, "more", "packed", "--add")


def test_adding_crops_leaves_the_old_archives_as_they_are(folder, monkeypatch, capsys):
    (folder / "labels.csv").write_text("old")
    run_pack(monkeypatch, folder, "packed")
    old = contents(Path("packed"))
    save_crop(folder / "GS/s7-0.png", seed=7)
    (folder / "labels.csv").write_text("new")
    run_pack(monkeypatch, folder, "packed", "--add")
    new = contents(Path("packed"))
    assert old.items() <= new.items() and set(new) - set(old) == {"crops-0001.zip"}
    assert list_images(Path("packed")).images == list_images(folder).images
    assert "not copied, as packed has another one: labels.csv" in capsys.readouterr().err
    save_crop(folder / "GS/s7-0.png", seed=8)
    with pytest.raises(UserError, match="^data/small/GS/s7-0.png has another content than packed/"):
        run_pack(monkeypatch, folder, "packed", "--add")
    assert contents(Path("packed")) == new


def test_archives_have_at_most_the_given_size(folder):
    sizes = [(folder / name).stat().st_size for name in list_images(folder).images]
    names = list_images(folder).images
    assert pack_program.split_by_size(folder, names, sum(sizes)) == [8]
    assert pack_program.split_by_size(folder, names, sum(sizes[:3]))[0] == 3
    assert pack_program.split_by_size(folder, names, 1) == [1] * 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "out"], "nothing is not a folder"),
        (["data/small", "data"], "data already exists; choose another name, or --add to it"),
        (["data/small", "out", "--add"], "out is not a folder; leave out --add to make it"),
        (["data/small", "data/small/out"], "one is in the other"),
        (["data/small", "data", "--add"], "one is in the other"),
    ],
)
def test_packing_never_writes_over_anything(folder, monkeypatch, arguments, said):
    before = contents(Path("data"))
    with pytest.raises(UserError, match=said):
        run_pack(monkeypatch, *arguments)
    assert contents(Path("data")) == before


def test_a_failure_leaves_nothing_behind(folder, monkeypatch):
    archive = pack(folder, "crops.zip")
    other_content(archive)
    with pytest.raises(UserError, match="is damaged"):
        run_pack(monkeypatch, folder, "packed")
    assert (
        sorted(path.name for path in Path().iterdir() if path.name.startswith((".pack", "pack")))
        == []
    )
