"""Tables, names, folders and pictures with all oddities at once, against small models of what is
right.

The product reads everything exactly as the model says, or refuses and names the line or the file.
200 examples of each; EXAMPLES=10000 in the environment asks for more.
"""

import csv
import io
import os
import shutil
import unicodedata
from pathlib import PurePosixPath

import imagecodecs
import numpy as np
import openpyxl
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.base.errors import UserError
from stages.base.files import as_cell
from stages.dataset.card import CardFields, Dataset
from stages.dataset.polarity import order_doubt
from stages.dataset.slides import slide_pattern
from stages.images.opening import SUFFIXES, load_image
from stages.intake.label_table import labels_from_table
from stages.intake.labels import labels_from_folders
from stages.intake.listing import Listing, list_images
from stages.intake.slides import FEW_SLIDES, assign_slides
from stages.intake.tables import read_laboratory_table

many = settings(
    max_examples=int(os.environ.get("EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.filter_too_much,
    ],
)

LETTERS = "abAB19 _-.,;'\"=+@#()üé漢\u0301\u202e\u00a0<&"
stems = (
    st.text(LETTERS, min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda text: text.strip(". ") and not text.startswith("."))
)
UNKNOWN = ["NA", "nan", "?", "--", "Unknown", "n.a.", "#REF!"]
WORDS = {0: ["0", "0.0", "false", "No", "F", "0,0"], 1: ["1", "1.0", "TRUE", "yes", "y", "1."]}
NEITHER = ["", "2", "-1", "maybe", "01", "nan", "1 0", "\u0661"]


# --- Tables
# ----------------------------------------------------------------------------------------


# What spreadsheets make of 1-2, and of long numbers.
CHANGED = [
    "02-Jan",
    "2. Jan",
    "Jan-02",
    "02-janv.",
    "02.01.2024",
    "2024-01-02 00:00:00",
    "2.02312E+14",
    "2,0E+14",
    "#REF!",
]


@st.composite
def tables(draw):
    """A table as CSV or as a workbook, and what is right: label and slide of each file, or the line
    of the first fault and what is said of it.
    """
    files = draw(
        st.lists(
            stems,
            min_size=1,
            max_size=6,
            unique_by=lambda stem: unicodedata.normalize("NFC", stem).casefold(),
        )
    )
    folders = draw(
        st.lists(
            st.sampled_from(["", "sub/", "sub/x/", " "]), min_size=len(files), max_size=len(files)
        )
    )
    paths = [folder + stem + ".png" for folder, stem in zip(folders, files)]
    form = draw(st.sampled_from(["NFC", "NFD"]))
    disk = [unicodedata.normalize(form, path) for path in paths]
    columns = draw(st.permutations(["name", "truth", "slide", "note", ""]))
    header = [draw(st.sampled_from([column, column.upper(), f" {column} "])) for column in columns]
    truth, rows, fault = {}, [], None
    wanted = draw(st.permutations(list(zip(paths, disk))))
    kinds = ["label", "unknown", "twice", "long", "header", "slide", "unread", "hidden"]
    broken, at = draw(st.sampled_from([None, None, *kinds])), draw(st.integers(0, len(wanted) - 1))
    for number, (path, on_disk) in enumerate(wanted):
        label, slide = (
            draw(st.sampled_from([0, 1])),
            draw(st.sampled_from(["1-2", "3-40", "MAR1", "007", "3E12"])),
        )
        name = draw(
            st.sampled_from(
                [
                    path,
                    unicodedata.normalize("NFD", path),
                    PurePosixPath(path).name,
                    "./" + path,
                    as_cell(path),
                ]
            )
        )
        fields = {
            "name": name,
            "truth": draw(st.sampled_from(WORDS[label])),
            "slide": slide + draw(st.sampled_from(["", " "])),
            "note": draw(st.sampled_from(["", "x", 'a "b"', "1,5;\t"])),
            "": "",
        }
        row = [fields[column] for column in columns]
        if broken == "label" and number == at:
            row[columns.index("truth")], fault = draw(st.sampled_from(NEITHER)), "it must be 0 or 1"
        elif broken == "unknown" and number == at:
            row[columns.index("name")], fault = "../" + name, "is not in the folder"
        elif broken == "unread" and number == at:
            row[columns.index("name")], fault = (
                "sub/is not.heic",
                "but its format is not read",
            )
        elif broken == "hidden" and number == at:
            row[columns.index("name")], fault = "./.hidden.png", "is ignored"
        elif broken == "long" and number == at:
            row, fault = [*row, "", "x"], "fields; the header has "
        elif broken == "header" and number == at:
            row, fault = list(header), "the header again"
        elif broken == "slide" and number == at and len(wanted) > 1:
            row[columns.index("slide")], fault = draw(st.sampled_from(CHANGED)), "slide is '"
        rows.append(row)
        truth[on_disk] = label, slide
        if broken == "twice" and number == at:
            rows.append(list(row))
            fault = "appears twice"
    content, lines = draw(
        as_workbook(header, rows) if draw(st.booleans()) else as_csv(header, rows)
    )
    return content, disk, truth, lines[at + (broken == "twice")] if fault else None, fault


@st.composite
def as_csv(draw, header, rows):
    """The bytes of a table as spreadsheets and other programs write it, and each row's line."""
    separator, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    text, line, lines = io.StringIO(), 1, []
    quoting = draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]))
    writer = csv.writer(text, delimiter=separator, lineterminator=end, quoting=quoting)
    if draw(st.booleans()):
        text.write(f"sep={separator}{end}")
        line += 1
    writer.writerow(header)
    for row in rows:
        for _ in range(draw(st.integers(0, 1))):
            text.write(draw(st.sampled_from(["", separator * 3])) + end)
            line += 1
        line += 1
        lines.append(line)
        # A spreadsheet drops empty fields at the end.
        while row[-1] == "" and len(row) > 1 and draw(st.booleans()):
            row = row[:-1]
        writer.writerow(row)
    return text.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))), lines


@st.composite
def as_workbook(draw, header, rows):
    """The bytes of a workbook, perhaps with a hidden copy of its table, and with empty rows."""
    book, line, lines = openpyxl.Workbook(), draw(st.integers(1, 3)), []
    for row in [header, *rows]:
        for column, text in enumerate(row, 1):
            if text:
                # A text, though it begins as a formula does.
                book.active.cell(line, column, text).data_type = "s"
        lines.append(line)
        line += draw(st.integers(1, 2))
    if draw(st.booleans()):
        book.copy_worksheet(book.active).sheet_state = draw(
            st.sampled_from(["hidden", "veryHidden"])
        )
    if draw(st.booleans()):
        book.active["XFD1048576"].number_format = "0.0"
    content = io.BytesIO()
    book.save(content)
    return content.getvalue(), lines[1:]


def dataset_of(folder, **card):
    if folder.is_dir():
        folder.with_suffix(".yaml").write_text("title: t\nclasses:\nlabels:\ncolumns:\ngroup:\n")
    return Dataset(
        "d",
        folder,
        folder.with_suffix(".yaml"),
        CardFields.model_validate({"title": "t", "group": "(?P<slide>.)", **card}),
        folder.with_name("labels"),
    )


@many
@given(tables())
def test_a_table_is_read_exactly_or_refused_with_its_line(tmp_path_factory, case):
    content, disk, truth, line, fault = case
    folder = tmp_path_factory.mktemp("tables", numbered=True) / "d"
    folder.mkdir()
    try:
        (folder / "labels.csv").write_bytes(content)
        columns = {"name": "name", "label": "truth", "slide": "slide"}
        dataset = dataset_of(folder, labels="labels.csv", columns=columns)
        listing = Listing(
            folder, sorted(disk), ["is not.heic", "sub/is not.heic"], [".hidden.png"], {}
        )
        if fault is None:
            labels, groups, _ = labels_from_table(dataset, listing)
            assert {path: (label, groups[path][0]) for path, label in labels.items()} == truth
            # The opposite, where the card says that 0 is for the sclerotic ones.
            opposite = dataset_of(folder, labels="labels.csv", columns=columns, positive="0")
            assert labels_from_table(opposite, listing)[0] == {
                path: 1 - label for path, label in labels.items()
            }
        else:
            with pytest.raises(UserError) as error:
                labels_from_table(dataset, listing)
            said = str(error.value).splitlines()
            assert said[0].startswith(f"{folder}/labels.csv, line {line}: ") and fault in said[0], (
                said
            )
    finally:
        shutil.rmtree(folder.parent)


@many
@given(st.text(alphabet="name,truth01;\t\n\r\"'.pg \0\ufeff=", max_size=80))
def test_reads_all_rows_of_any_text_or_none(tmp_path_factory, text):
    """Whatever the text: as many rows as a reader with nothing but quotation marks and line ends in
    mind counts, or a refusal.
    """
    file = tmp_path_factory.getbasetemp() / f"any-{os.getpid()}.csv"
    file.write_bytes(("name,truth\n" + text).encode())
    try:
        rows = read_laboratory_table(file, ("name", "truth")).rows
    except UserError as error:
        assert str(file) in str(error)
        return
    expected = [
        row
        for row in csv.reader(io.StringIO(text, newline=""))
        if any(field.strip() for field in row)
    ]
    assert [list(row.fields.values()) for row in rows] == [[*row, ""][:2] for row in expected]


# --- Names
# ----------------------------------------------------------------------------------------


@settings(many, max_examples=many.max_examples // 4)  # Each starts a process.
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Müller", "MU", "a b", "é漢", "x-1", "1", "NA1", "0", *UNKNOWN]),
            st.integers(0, 99),
        )
        | st.tuples(st.integers(2, 99).map(str), st.just(0)),
        min_size=1,
        max_size=16,
    ),
    st.data(),
)
def test_crops_of_one_slide_are_of_one_slide_however_they_are_written(tmp_path_factory, rows, data):
    dataset = dataset_of(
        tmp_path_factory.getbasetemp(), classes=["a", "b"], group=r"(?P<slide>.+)_\d+\.png$"
    )
    paths = {}
    for slide, number in rows:
        form = data.draw(st.sampled_from(["NFC", "NFD"]))
        paths[
            f"{data.draw(st.sampled_from('ab'))}/{unicodedata.normalize(form, slide)}_{number}.png"
        ] = slide
    unknown = [path for path, slide in paths.items() if slide in UNKNOWN]
    single = FEW_SLIDES <= len(paths) == len(set(paths.values()))
    if unknown or single:
        with pytest.raises(
            UserError,
            match=f"the slide of {len(unknown)} of {len(paths)}" if unknown else "a separate slide",
        ):
            assign_slides(dataset, sorted(paths), {})
    else:
        found = assign_slides(dataset, sorted(paths), {})
        assert {path: slide for path, (slide, _) in found.items()} == paths
    one_form = {unicodedata.normalize("NFC", path) for path in paths}
    apart = dataset_of(dataset.folder, classes=["a", "b"], group="none")
    assert {slide for slide, _ in assign_slides(apart, sorted(one_form), {}).values()} == one_form


FILLERS = st.sampled_from(["", "PAS_", "kidney/", "*/", "2024-", "Ü_"])


@many
@given(
    FILLERS,
    st.sampled_from(["GS", "sclerotic", "globally_sclerotic", "Sklerose", "foo", "G"]),
    FILLERS,
    st.sampled_from(["non", "no_", "Non-", "not "]),
)
def test_a_class_and_its_negation_have_one_order(before, name, between, negator):
    """Whatever both folders share, and however the negation is written."""
    positive, negative = before + between + name, before + between + negator + name
    assert order_doubt(negative, positive) is None
    assert order_doubt(positive, negative) == positive


@many
@given(st.text(max_size=12), st.text(max_size=12))
def test_doubts_at_most_one_of_two_orders(one, other):
    assert order_doubt(one, other) is None or order_doubt(other, one) is None


@many
@given(st.text(max_size=30))
def test_accepts_or_refuses_any_pattern(text):
    try:
        assert isinstance(slide_pattern(text).match("a/b.png"), tuple)
    except ValueError as error:
        assert "regular expression" in str(error) or "named group" in str(error)


# --- Folders
# ----------------------------------------------------------------------------------------

CLUTTER = [
    ".DS_Store",
    "._a.png",
    "Thumbs.db",
    "@eaDir",
    "__MACOSX",
    "#recycle",
    "~$x.png",
    "a.png~",
    ".Trash-1000",
    "Icon\r",
]


@st.composite
def trees(draw):
    """A folder's files, what is listed of them, and what is refused."""
    names = draw(
        st.lists(
            stems, max_size=8, unique_by=lambda stem: unicodedata.normalize("NFC", stem).casefold()
        )
    )
    images, others, clutter, bad = [], [], [], {}
    for name in names:
        folder = draw(st.sampled_from(["", "gs/", "gs/non/", "gs/non/x/", "y/"]))
        suffix = draw(st.sampled_from([".png", ".PNG", ".tif", ".jp2", ".txt", "", ".heic"]))
        plain = not (name + suffix).endswith("~") and not (
            name.startswith("#") and (name + suffix).endswith("#")
        )
        is_image = PurePosixPath(name + suffix).suffix.lower() in SUFFIXES
        if plain:
            (images if is_image else others).append(folder + name + suffix)
        if draw(st.integers(0, 3)) == 0:
            clutter.append(folder + draw(st.sampled_from(CLUTTER)))
        if draw(st.integers(0, 9)) == 0:
            bad[folder + name + draw(st.sampled_from(["\n", "\x1b", "\x85"])) + ".png"] = None
        if draw(st.integers(0, 4)) == 0:
            bad[f"{folder}{name}.link.png"] = draw(
                st.sampled_from(
                    [f"{name}.link.png", "gone.png", ".", "..", "/dev/null", "/etc/passwd"]
                )
            )
    return sorted(set(images)), sorted(set(others) - set(images)), sorted(set(clutter)), bad


@many
@given(trees())
def test_a_folder_is_listed_whole_or_what_is_not_read_is_named(tmp_path_factory, tree):
    images, others, clutter, bad = tree
    folder = tmp_path_factory.mktemp("trees", numbered=True) / "d"
    folder.mkdir()
    try:
        for path in [*images, *others, *bad]:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            if target := bad.get(path):
                (folder / path).symlink_to(target)
            else:
                (folder / path).write_bytes(b"x")
        for path in clutter:
            (folder / path).mkdir(parents=True) if "." not in path else (
                folder / path
            ).parent.mkdir(parents=True, exist_ok=True)
            (folder / path / "a.png" if (folder / path).is_dir() else folder / path).write_bytes(
                b"x"
            )
        found = list_images(folder)
        assert (found.images, found.others, sorted(found.problems)) == (images, others, sorted(bad))
        assert [name.rstrip("/") for name in found.ignored] == sorted(clutter)
        # The deepest class folder decides; what is in none is named.
        dataset = dataset_of(folder, classes=["gs/non", "gs"], group=".*/(?P<slide>.)")
        if stray := [path for path in images if not path.startswith("gs/")]:
            with pytest.raises(
                UserError,
                match="is in neither of the class folders|does not exist|is ignored",
            ):
                labels_from_folders(dataset, stray)
        elif (folder / "gs/non").is_dir():
            labels = labels_from_folders(dataset, images)
            assert labels == {path: int(not path.startswith("gs/non/")) for path in images}
    finally:
        shutil.rmtree(folder.parent)


# --- Pictures
# ----------------------------------------------------------------------------------------


def as_png(pixels):
    return imagecodecs.png_encode(pixels), ".png"


def as_tiff(pixels):
    content = io.BytesIO()
    tifffile.imwrite(
        content,
        pixels,
        photometric="rgb" if pixels.ndim == 3 else "minisblack",
        compression="zlib",
        predictor=True,
    )
    return content.getvalue(), ".tif"


def as_jpeg2000(pixels):
    return imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True), ".jp2"


def as_bmp(pixels):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, format="BMP")
    return content.getvalue(), ".bmp"


def as_webp(pixels):
    return imagecodecs.webp_encode(
        np.ascontiguousarray(pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)), lossless=True
    ), ".webp"


@many
@given(
    st.sampled_from([as_png, as_tiff, as_jpeg2000, as_bmp, as_webp]),
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from([1, 3]),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**32 - 1),
)
def test_a_picture_has_the_pixels_that_were_written(
    tmp_path_factory, encode, kind, channels, height, width, seed
):
    if encode in (as_bmp, as_webp):
        kind = np.uint8
    deep = np.iinfo(kind).max
    pixels = np.random.default_rng(seed).integers(
        0, deep, (height, width, channels), dtype=kind, endpoint=True
    )
    pixels[0, 0] = deep  # Somewhere it is bright, or 16 bits would be taken for 12.
    content, suffix = encode(pixels if channels == 3 else pixels[..., 0])
    file = tmp_path_factory.getbasetemp() / f"picture-{os.getpid()}{suffix}"
    file.write_bytes(content)
    upper = (pixels >> 8 if kind == np.uint16 else pixels).astype(np.uint8)
    assert np.array_equal(np.asarray(load_image(file)), np.broadcast_to(upper, (height, width, 3)))
