"""What file systems leave behind is passed over and counted; of the rest all is read or named."""

import io
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.images.archives import is_ignored
from stages.images.opening import SUFFIXES, load_image
from stages.intake.crops import make_manifest
from stages.intake.listing import list_images
from tests.conftest import PROJECT, make_classes, save_crop

LEFT_BEHIND = {
    "macOS": [
        ".DS_Store",
        "._s0-1.png",
        "Icon\r",
        ".Spotlight-V100/x.png",
        ".Trashes/501/s0-1.png",
        ".fseventsd/0",
        ".recalibrated",
    ],
    "an archive of macOS": ["__MACOSX/nonGS/._s0-1.png", "__MACOSX/nonGS/s0-1.png"],
    "Windows": [
        "Thumbs.db",
        "ehthumbs_vista.db",
        "Desktop.ini",
        "$RECYCLE.BIN/S-1-5/s0-1.png",
        "System Volume Information/x.png",
    ],
    "Windows, copied elsewhere": ["s0-1.png:Zone.Identifier", "Thumbs.db:encryptable"],
    "Synology": [
        "@eaDir/s0-1.png/SYNOPHOTO_THUMB_M.jpg",
        "#recycle/s0-1.png",
        "@tmp/x.png",
        "#snapshot/GMT-1/s0-1.png",
    ],
    "QNAP": [".@__thumb/s800s0-1.png", "@Recycle/s0-1.png", "@Recently-Snapshot/x.png"],
    "other boxes": [
        "~snapshot/hourly.0/s0-1.png",
        ".snapshot/x.png",
        "lost+found/#123.png",
        ".nfs0000001",
        "@GMT-2024.01.01/x.png",
    ],
    "Linux": [".Trash-1000/files/s0-1.png", ".directory", ".fuse_hidden0001"],
    "editors": [
        "labels.csv~",
        ".labels.csv.swp",
        "#labels.csv#",
        ".#labels.csv",
        ".~lock.labels.csv#",
        "~$labels.xlsx",
    ],
    "viewers": [
        "Picasa.ini",
        ".picasaoriginals/s0-1.png",
        "ZbThumbnail.info",
        "AlbumArtSmall.jpg",
        ".thumbnails/x.png",
    ],
    "programs that synchronize": [
        ".dropbox",
        ".stversions/s0-1.png",
        "_gsdata_/x.png",
        ".sync/x.png",
    ],
    "Python and git": [".ipynb_checkpoints/x.png", "__pycache__/x.png", ".git/x.png", ".gitignore"],
}


@pytest.mark.parametrize("kind", LEFT_BEHIND)
def test_ignores_hidden_and_system_files(workplace, kind, capsys):
    folder = make_classes(slides=2)
    before = make_manifest(read_dataset("small"), Path("unreadable.csv"))
    capsys.readouterr()
    for place in ("", "nonGS/"):
        for name in LEFT_BEHIND[kind]:
            file = folder / (place + name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"\0" * 10)
    assert make_manifest(read_dataset("small"), Path("unreadable.csv")) == before
    said = capsys.readouterr().err
    tops = {place + name.split("/")[0] for place in ("", "nonGS/") for name in LEFT_BEHIND[kind]}
    assert said.count("warning: data/small: ignored ") == 1
    assert (
        f"ignored {len(tops)} hidden files or folders, or leftovers of file systems, editors or "
        "archives (" in said
    )


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "recycle",
        "thumbs.png",
        "lost.png",
        "#1.png",
        "a~1.png",
        "tmp",
        "icon.png",
        "eaDir",
        "found.png",
    ],
)
def test_does_not_ignore_ordinary_names(name):
    assert not is_ignored(name)


def test_irrelevant_links_are_no_problem(workplace):
    folder = make_classes(slides=2)
    outside = save_crop(workplace / "s9-1.png", seed=999)
    (folder / "notes.txt").symlink_to(outside)
    (folder / "dangling.txt").symlink_to("nowhere")
    (folder / ".venv").symlink_to("/usr")
    (folder / "nonGS/s0-9.png").symlink_to("s0-1.png")
    os.mkfifo(folder / "control.pipe")
    listing = list_images(folder)
    assert listing.problems == {} and len(listing.images) == 9
    assert listing.others == [
        "control.pipe",
        "dangling.txt",
        "notes.txt",
    ] and listing.ignored == [".venv/"]


@pytest.mark.parametrize("layout", ["files/md5/", ""])
def test_links_into_dvcs_cache_of_either_layout_are_followed(workplace, layout):
    folder = make_classes(slides=2)
    cached = save_crop(workplace / f".dvc/cache/{layout}ab/{'0' * 30}.png", seed=999)
    named = cached.rename(cached.with_suffix(""))
    (folder / "nonGS/s0-9.png").symlink_to(named)
    assert "nonGS/s0-9.png" in list_images(folder).images


def test_refuses_a_folder_name_that_is_not_utf8(workplace):
    folder = make_classes(slides=2)
    os.mkdir(os.fsencode(folder) + b"/sub\xff")
    with pytest.raises(UserError) as error:
        list_images(folder).refuse_problems()
    assert (
        str(error.value) == r"'data/small/sub\udcff' has a name that is not UTF-8 text; rename it"
    )


@pytest.mark.parametrize("character", ["\n", "\r", "\t", "\x1b", "\x7f", "\x85"])
def test_control_characters_are_refused(workplace, character):
    save_crop(make_classes(slides=2) / f"nonGS/s0-{character}.png", seed=999)
    with pytest.raises(UserError, match=r"has a control character in its name; rename it$"):
        list_images(Path("data/small")).refuse_problems()


@pytest.mark.parametrize(
    "character",
    [
        "\u202e",
        "\u00a0",
        "\u3000",
        "\u00ad",
        "\u200b",
        "\ufeff",
        "\u2028",
        "\ue000",
        "😀",
        "\u0301",
    ],
)
def test_accepts_any_other_character(workplace, character):
    save_crop(make_classes(slides=2) / f"nonGS/s0-{character}9.png", seed=999)
    dataset = read_dataset("small")
    dataset = replace(dataset, card=dataset.card.model_copy(update={"group": "(?P<slide>s\\d)"}))
    rows, *_ = make_manifest(dataset, Path("unreadable.csv"))
    assert f"nonGS/s0-{character}9.png" in [row.path for row in rows]


def test_the_documented_suffixes_are_those_that_are_read():
    text = (
        (PROJECT / "docs/datasets.md")
        .read_text()
        .split("## Images")[1]
        .split("are taken for images")[0]
    )
    assert set(re.findall(r"`(\.\w+)`", text)) == SUFFIXES


FORMATS = {
    ".jp": "JPEG",
    ".jf": "JPEG",
    ".ti": "TIFF",
    ".bm": "BMP",
    ".we": "WEBP",
    ".gi": "GIF",
    ".j2": "JPEG2000",
    ".p": "PPM",
}
FORMATS |= {
    ".jp2": "JPEG2000",
    ".jpx": "JPEG2000",
    ".jpf": "JPEG2000",
    ".jpc": "JPEG2000",
    ".png": "PNG",
    ".ap": "PNG",
}


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_each_documented_suffix_is_read(tmp_path, suffix, change):
    kind = FORMATS[max((start for start in FORMATS if suffix.startswith(start)), key=len)]
    content = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 100, 50)).save(content, format=kind)
    file = tmp_path / f"crop{change(suffix)}"
    file.write_bytes(content.getvalue())
    assert list_images(tmp_path).images == [file.name]
    assert load_image(file).size == (9, 7)
