"""The reader of tables and the matcher of names, for manifest, corrections, predict and labels."""

import os
import re
import tracemalloc
import unicodedata
import zipfile
from datetime import date
from pathlib import Path

import openpyxl
import pytest

from stages.base.errors import UserError
from stages.dataset.card import read_dataset
from stages.intake.labels import as_label, read_corrections, read_labels
from stages.intake.names import Names
from stages.intake.source import find_crops
from stages.intake.tables import read_laboratory_table
from tests.conftest import make_table, save_crop


def table(text, name="table.csv", encoding="utf-8"):
    Path(name).write_bytes(text.encode(encoding))
    return Path(name)


def workbook(sheets, name="table.xlsx"):
    """A workbook with sheets, each a list of rows."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(name)
    return Path(name)


def of(path, columns=("name", "label")):
    return [
        (row.line, *map(str.strip, row.fields.values()))
        for row in read_laboratory_table(path, columns).rows
    ]


def labels_of(table, paths, label_column="truth"):
    names = Names(paths, "the folder", what="crops")
    return read_labels(table, names, "name", label_column, of_all=True)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_reads_any_separator_and_line_end(workplace, separator, end):
    lines = [
        separator.join(("name", "label")),
        "",
        separator.join((" a.png ", "1")),
        separator,
        separator.join(("b.png", "0")),
    ]
    assert of(table(end.join(lines))) == [(3, "a.png", "1"), (5, "b.png", "0")]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("sep=;\nname;label\na.png;1\n", [(3, "a.png", "1")]),
        ('"sep=|"\r\nname|label\r\na.png|1\r\n', [(3, "a.png", "1")]),
        ("sep=\t\nname\tlabel\na.png\t1\n", [(3, "a.png", "1")]),
        ("sep=;\nname;label\n1,5.png;1\n", [(3, "1,5.png", "1")]),
        ("\ufeffname,label\na.png,1\n", [(2, "a.png", "1")]),
        ("name,note,label\na.png,,1\nb.png\n", [(2, "a.png", "1"), (3, "b.png", "")]),
        (
            "name,label,,\na.png,1,,\nb.png,0\nc.png,1,\n",
            [(2, "a.png", "1"), (3, "b.png", "0"), (4, "c.png", "1")],
        ),
        ("name,label\na.png,1,,,\n", [(2, "a.png", "1")]),
        ('name,label\n"a ""b"".png","1"\n', [(2, 'a "b".png', "1")]),
    ],
    ids=[
        "sep",
        "sep in quotes",
        "sep tab",
        "sep decides",
        "mark",
        "short",
        "empty columns",
        "long",
        "quotes",
    ],
)
def test_reads_what_spreadsheets_write(workplace, text, rows):
    assert of(table(text)) == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_reads_text_with_a_byte_order_mark(workplace, encoding):
    assert of(table("name\tlabel\nMüller.png\t1\n", encoding=encoding)) == [(2, "Müller.png", "1")]


@pytest.mark.parametrize("header", ["Name, LABEL ", "name,Label", "NAME,label"])
def test_reads_a_column_in_another_case_with_a_warning(workplace, header, capsys):
    assert of(table(f"{header}\na.png,1\n")) == [(2, "a.png", "1")]
    assert "is read as" in capsys.readouterr().err


def test_prefers_the_column_in_the_exact_case(workplace, capsys):
    assert of(table("name,label,Label\na.png,1,0\n")) == [(2, "a.png", "1")]
    assert "the column 'label' is read as 'label', not 'Label'" in capsys.readouterr().err
    with pytest.raises(
        UserError,
        match=r"the column 'label' appears 2 times \('LABEL', 'Label'\); keep one",
    ):
        of(table("name,LABEL,Label\na.png,1,0\n"))


def test_refuses_a_wanted_column_that_appears_twice(workplace):
    save_crop(Path("crops/a.png"), 0)
    twice = table("name,label,label\na.png,0,1\n", "crops/table.csv")
    for read in (lambda: of(twice), lambda: labels_of(twice, ["a.png"], "label")):
        with pytest.raises(UserError, match=r"table.csv: the column 'label' appears 2 times"):
            read()
    with pytest.raises(UserError, match=r"the column 'label' appears 2 times"):
        of(table("name,label,label \na.png,0,1\n"))
    # An unused column may appear several times.
    assert find_crops(twice)[:2] == (Path("crops"), ["a.png"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,label\nb.png,0\na.png,1,2\n", "table.csv, line 3: 3 fields; the header has 2"),
        (
            'name,label\nb.png,0\n"a.png,1\n',
            "table.csv: not a valid CSV table: line 3: unexpected end of data",
        ),
        (
            'name,label\nb.png,0\n"a" b.png,1\n',
            "table.csv: not a valid CSV table: line 3: ',' expected after '\"'",
        ),
        (
            'name,label\n"b.png,0\na.png,1\nc.png"\n',
            "line 2: 'b.png,0\\na.png,1\\nc.png' has a control character",
        ),
        ('name,note,label\nb.png,"x,0\na.png,"y",1\n', "line 2: ',' expected after '\"'"),
        ("", "table.csv: no column 'name'; it is empty"),
        ("name,label\n", "table.csv: a header without rows; add a row for each file"),
        ("name,label\n,\n\n", "table.csv: a header without rows; add a row for each file"),
        ("name\na.png\n", "table.csv: no column 'label'; it has 'name'"),
        ("name|label\na.png|1\n", "table.csv: no column 'name'; it has 'name|label'"),
    ],
)
def test_names_the_line_of_an_unreadable_table(workplace, text, said):
    with pytest.raises(UserError) as error:
        of(table(text))
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "name\nMüller\n".encode("latin-1"),
            "table.csv, line 2: not UTF-8 text; save the table as CSV UTF-8",
        ),
        (
            "name\na\n".encode("utf-16-le"),
            "table.csv, line 1: a zero byte, which no text has; save one table as CSV UTF-8",
        ),
        (b"\x89PNG\r\n\x1a\n", "table.csv: an image, not a table"),
        (b"\xff\xd8\xff\xe0", "table.csv: an image, not a table"),
        (b"\xd0\xcf\x11\xe0\xa1", "table.csv: a workbook in an older Excel format, not a table"),
        (
            b"PK\x03\x04mimetype",
            "table.csv: an archive or a spreadsheet of another program, not a table",
        ),
        (b"%PDF-1.7", "table.csv: a PDF, not a table"),
    ],
)
def test_refuses_files_that_are_not_tables(workplace, content, said):
    Path("table.csv").write_bytes(content)
    with pytest.raises(UserError) as error:
        of(Path("table.csv"), ("name",))
    assert str(error.value).startswith(said)


def test_a_file_that_is_too_large_is_refused_unread(workplace):
    path = table("name,label\na.png,1\n")
    os.truncate(path, 2**30)
    with pytest.raises(
        UserError,
        match=r"^table.csv: 1,073,741,824 bytes; a table has at most 268,435,456$",
    ):
        of(path)


def test_refuses_a_pipe(workplace):
    os.mkfifo("table.csv")
    with pytest.raises(UserError, match=r"^table.csv: a pipe or a device; it must be a table$"):
        of(Path("table.csv"))


def test_warns_of_a_field_of_several_lines(workplace, capsys):
    """A stray quotation mark may have swallowed rows, where nobody asks for the column that it
    stands in.
    """
    assert of(table('name,label,note\na.png,1,"x\nb.png,0,"\nc.png,0,\n')) == [
        (2, "a.png", "1"),
        (4, "c.png", "0"),
    ]
    assert (
        "warning: table.csv, line 2: a field of several lines; are its quotation marks right?"
        in capsys.readouterr().err
    )


def test_workbooks_of_excel(workplace, capsys):
    rows = [
        ["Name", "Label", "scanned"],
        ["a.png", 1, date(2024, 2, 1)],
        [],
        ["b.png", 0.0],
        ["c.png", True],
        [7, "yes", None],
    ]
    path = workbook({"notes": [["read me"]], "crops": rows})
    assert of(path) == [(2, "a.png", "1"), (4, "b.png", "0"), (5, "c.png", "TRUE"), (6, "7", "yes")]
    assert "the column 'Label' is read as 'label'" in capsys.readouterr().err
    with pytest.raises(
        UserError,
        match=r"2 sheets have these columns: one, two; save only the right one",
    ):
        of(workbook({"one": rows, "two": rows}))
    with pytest.raises(
        UserError,
        match=(
            r"line 2: name is '2024-02-01 00:00:00', a date, which Excel makes from names such "
            r"as 1-2"
        ),
    ):
        of(workbook({"one": [["name", "label"], [date(2024, 2, 1), 1]]}))
    with pytest.raises(UserError, match=r"no column 'label'; it has 'name'"):
        of(workbook({"one": [["name"], ["a.png"]]}))
    with pytest.raises(UserError, match=r"no column 'name'; it is empty"):
        of(workbook({"one": []}))


def test_texts_that_cells_share_are_read_as_excel_writes_them(workplace):
    """In parts, with line ends by their number, and with a reading aid for Japanese that is no part
    of the text.
    """
    path = workbook({"one": [["name", "label"], ["a.png", 1]]})
    strings = (
        '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
        "<si><t>name</t></si><si><t>label</t></si><si><r><t>\u6f22</t></r><r><t>1.png</t></r>"
        '<rPh sb="0" eb="1"><t>kan</t></rPh></si><si><t>1_x000D_</t></si></sst>'
    )
    row = '<row r="{}"><c t="s"><v>{}</v></c><c t="s"><v>{}</v></c></row>'
    cells = row.format(1, 0, 1) + row.format(4, 2, 3)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name).decode() for name in archive.namelist()}
    sheet, types = "xl/worksheets/sheet1.xml", "[Content_Types].xml"
    parts[sheet] = re.sub(
        "<sheetData>.*</sheetData>", f"<sheetData>{cells}</sheetData>", parts[sheet]
    )
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"
    parts[types] = parts[types].replace(
        "</Types>", f'<Override PartName="/xl/sharedStrings.xml" ContentType="{kind}"/></Types>'
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in (parts | {"xl/sharedStrings.xml": strings}).items():
            archive.writestr(name, part)
    assert of(path) == [(4, "\u6f221.png", "1")]


def test_reads_hidden_rows_with_a_warning(workplace, capsys):
    path = workbook({"one": [["name", "label"], ["a.png", 1], ["b.png", 0]]})
    book = openpyxl.load_workbook(path)
    book["one"].row_dimensions[3].hidden = True
    book.save(path)
    assert len(of(path)) == 2
    assert "1 rows of the sheet one are hidden, but read" in capsys.readouterr().err


def test_ignores_a_hidden_sheet_with_a_warning(workplace, capsys):
    path = workbook(
        {"new": [["name", "label"], ["a.png", 1]], "old": [["name", "label"], ["a.png", 0]]}
    )
    book = openpyxl.load_workbook(path)
    book["old"].sheet_state = "hidden"
    book.save(path)
    assert of(path) == [(2, "a.png", "1")]
    assert (
        "table.xlsx: not read: the hidden sheet 'old', which has these columns, too"
        in capsys.readouterr().err
    )


def test_prefers_a_visible_column_to_a_hidden_one(workplace, capsys):
    path = workbook({"one": [["name", "Label", "label"], ["a.png", 0, 1]]})
    book = openpyxl.load_workbook(path)
    book.active.column_dimensions["B"].hidden = True
    book.save(path)
    assert of(path) == [(2, "a.png", "1")]
    assert "the column 'label' is read as 'label', not 'Label'" in capsys.readouterr().err
    with pytest.raises(
        UserError,
        match=r"table.xlsx: the column 'Label' is hidden; unhide or rename it",
    ):
        of(path, ("name", "Label"))


def test_warnings_of_openpyxl_are_not_shown(workplace, capsys, recwarn):
    """What openpyxl would lose if it wrote the file, such as rules for valid cells, is nobody's
    concern.
    """
    path = workbook({"one": [["name", "label"], ["a.png", 1]]})
    extension = b'<extLst><ext uri="{CCE6A557-97BC-4b89-ADB6-D9C93CAAB3DF}"/></extLst></worksheet>'
    with zipfile.ZipFile(path) as archive:
        parts = {
            name: archive.read(name).replace(b"</worksheet>", extension)
            for name in archive.namelist()
        }
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    assert of(path) == [(2, "a.png", "1")]
    assert capsys.readouterr().err == "" and not recwarn.list


@pytest.mark.parametrize("rows", [100_000, 1_048_576])
def test_empty_rows_of_a_workbook_take_no_memory(workplace, rows):
    """A colored cell in the last row took gigabytes."""
    path = workbook({"one": [["name", "label"], ["a.png", 1]]})
    book = openpyxl.load_workbook(path)
    book.active.cell(rows, 9).number_format = "0.0"
    book.save(path)
    tracemalloc.start()
    try:
        assert of(path) == [(2, "a.png", "1")]
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_table_of_many_rows_is_read_whole(workplace):
    path = workbook({"one": [["name", "label"], *([f"{row}.png", row % 2] for row in range(5000))]})
    assert of(path) == [(row + 2, f"{row}.png", str(row % 2)) for row in range(5000)]


def test_refuses_changed_names_only_in_columns_that_are_used(workplace):
    """A table that names crops may have dates, in a column that is not asked for; as slides they
    are refused.
    """
    save_crop(Path("crops/a.png"), 0)
    rows = [["name", "slide"], ["a.png", date(2024, 1, 2)]]
    columns = find_crops(workbook({"one": rows}, "crops/table.xlsx")).columns
    with pytest.raises(
        UserError,
        match=(
            r"^crops/table.xlsx: a.png: slide is a date, which Excel makes from names such as "
            r"1-2"
        ),
    ):
        columns.of("slide")
    save_crop(Path("crops/b.png"), 1)
    columns = find_crops(
        table("name,slide,note\na.png,1-2,02-Jan\nb.png,02-Jan,1-2\n", "crops/table.csv")
    ).columns
    assert columns.of("note") == {"a.png": "02-Jan", "b.png": "1-2"}
    with pytest.raises(
        UserError, match=r"^crops/table.csv: b.png: slide is '02-Jan', a date, but '1-2' is not"
    ):
        columns.of("slide")


def test_refuses_a_slide_that_swallowed_a_row(workplace):
    save_crop(Path("crops/a.png"), 0)
    columns = find_crops(table('name,slide\na.png,"S1\nb.png,S2"\n', "crops/table.csv")).columns
    with pytest.raises(
        UserError,
        match=(
            r"a.png: slide is 'S1\\nb.png,S2', which has a control character; is a quotation "
            r"mark"
        ),
    ):
        columns.of("slide")


def test_a_damaged_workbook_is_one_line(workplace):
    path = workbook({"one": [["name", "label"], ["a.png", 1]]})
    content = path.read_bytes()
    for share in (0.3, 0.6, 0.9):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(UserError) as error:
            of(path)
        assert str(error.value).startswith("table.xlsx: ") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["1", "1.0", "1.", "1,0", "1.000", "TRUE", "true", "Yes", "y", "T"]
)
def test_unambiguous_labels_of_1(text):
    assert as_label(text) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "-1",
        "01",
        "1e0",
        "10",
        "nan",
        "positive",
        "one",
        "\u0661",
        "1.5",
        "0.5",
        "+",
        "GS",
        "x",
    ],
)
def test_texts_that_are_not_labels(text):
    assert as_label(text) is None


def test_reports_texts_read_as_labels_once(workplace, capsys):
    names = [f"{letter}.png" for letter in "abcd"]
    given = table("name,truth\na.png,TRUE\nb.png,no\nc.png,1\nd.png,TRUE\n")
    assert list(labels_of(given, names).values()) == [1, 0, 1, 1]
    assert capsys.readouterr().err == "warning: table.csv: read 'TRUE' as 1, 'no' as 0\n"


def test_a_name_that_fits_two_crops_labels_neither(workplace):
    names = ["one/a.png", "two/a.png", "two/b.png"]
    with pytest.raises(
        UserError, match=r"^table.csv, line 2: 'a.png' matches 2 crops: one/a.png, two/a.png$"
    ):
        labels_of(table("name,truth\na.png,1\n"), names)
    given = table("name,truth\none/a.png,1\ntwo/a.png,0\nb.png,1\nelsewhere.png,0\n")
    assert labels_of(given, names) == {
        "one/a.png": 1,
        "two/a.png": 0,
        "two/b.png": 1,
    }


@pytest.mark.parametrize(
    "name",
    [
        r"C:\Crops\sub\B1.png",
        "/home/me/b1.png",
        "b1",
        "B1.PNG",
        "b1.tif",
        r"sub\b1.png",
        "b 1.png",
        "other/b1.png",
    ],
)
def test_a_name_that_is_nearly_right_gets_a_hint_and_no_label(workplace, name):
    names = Names(["a1.png", "sub/b1.png"], "the folder")
    assert names.find(name) == []
    assert names.problem(name) == f"{name!r} is not in the folder; did you mean 'sub/b1.png'?"
    with pytest.raises(UserError) as error:
        labels_of(table(f"name,truth\na1.png,1\n{name},0\n"), ["a1.png", "sub/b1.png"])
    assert str(error.value) == f"table.csv: no label of sub/b1.png; did you mean line 3, {name!r}?"


def test_spaces_around_a_name_count_if_such_a_file_exists(workplace):
    names = Names([" a.png", "b.png", " b.png", "c.png"], "the folder")
    assert [names.find(name) for name in (" a.png", "b.png", " b.png", " c.png\t")] == [
        [" a.png"],
        ["b.png"],
        [" b.png"],
        ["c.png"],
    ]
    assert (
        names.find("a.png") == []
        and names.problem("a.png") == "'a.png' is not in the folder; did you mean ' a.png'?"
    )
    given = table('name,truth\n" a.png",1\nb.png , 0 \n')
    assert labels_of(given, [" a.png", "b.png"]) == {" a.png": 1, "b.png": 0}


def test_finds_names_written_with_an_apostrophe():
    assert Names(["=1.png"], "").find("'=1.png") == ["=1.png"]
    assert (
        Names(["'=1.png"], "").find("''=1.png")
        == Names(["'=1.png"], "").find("'=1.png")
        == ["'=1.png"]
    )
    # Where both are there, it is not known who wrote the table.
    assert Names(["'=1.png", "=1.png"], "").find("'=1.png") == ["'=1.png", "=1.png"]


def test_gives_no_hint_for_an_unrelated_name():
    names = Names(["a1.png"], "the folder")
    assert names.problem("b1.png") == "'b1.png' is not in the folder"
    assert names.find("./a1.png") == ["a1.png"] and names.find("") == []


def test_finds_accented_names_in_either_unicode_form(workplace):
    on_disk, in_table = (unicodedata.normalize(form, "Müller_1.png") for form in ("NFD", "NFC"))
    assert on_disk != in_table
    assert Names([on_disk], "").find(in_table) == [on_disk]
    save_crop(Path("crops") / on_disk, 0)
    assert find_crops(table(f"name\n{in_table}\n", "crops/table.csv"))[:2] == (
        Path("crops"),
        [on_disk],
    )
    assert labels_of(table(f"name,truth\n{in_table},1\n"), [on_disk]) == {on_disk: 1}


def test_corrections_name_paths_in_either_way(workplace):
    on_disk, in_table = (unicodedata.normalize(form, "é1.png") for form in ("NFD", "NFC"))
    card = (
        "title: t\nlabels: labels.csv\ncolumns: {name: name, label: truth}\n"
        "group: '(?P<slide>.)'\ncorrections: new.csv\n"
    )
    folder = make_table(f"name,truth\n{in_table},1\n", [on_disk], card=card)
    table(f"path,label\n{in_table},0\n", folder / "new.csv")
    assert read_corrections(read_dataset("table"), {on_disk: 1}) == {on_disk: 0}


def test_other_files_next_to_a_table_are_irrelevant(workplace):
    """What else lies beside it, links and bad names, is no reason to refuse it."""
    save_crop(Path("crops/a.png"), 0)
    Path("crops/out.png").symlink_to(save_crop(Path("elsewhere.png").resolve(), 1))
    Path("crops/more").symlink_to("/etc")
    Path("crops/x\ny.png").write_bytes(b"")
    assert find_crops(table("name\na.png\n", "crops/table.csv"))[:2] == (Path("crops"), ["a.png"])
    with pytest.raises(
        UserError, match=r"table.csv, line 2: 'crops/out.png' is a link that leads out of crops"
    ):
        find_crops(table("name\nout.png\n", "crops/table.csv"))


def test_one_crop(workplace):
    save_crop(Path("crops/a.png"), 0)
    assert find_crops(Path("crops/a.png"))[:2] == (Path("crops"), ["a.png"])


def test_rows_of_one_crop_must_agree(workplace):
    save_crop(Path("crops/a.png"), 0)
    same = table("name,Slide\na.png,s1\na.png,s1\n", "crops/table.csv")
    columns = find_crops(same).columns
    assert (
        columns.rows == {"a.png": ["a.png", "s1"]}
        and columns.of("slide") == {"a.png": "s1"}
        and columns.of("site") is None
    )
    with pytest.raises(
        UserError, match=r"table.csv, line 3: a.png appears twice, with other values"
    ):
        find_crops(table("name,slide\na.png,s1\na.png,s2\n", "crops/table.csv"))
    with pytest.raises(UserError, match=r"the column 'slide' appears 2 times"):
        find_crops(table("name,slide,Slide\na.png,s1,s2\n", "crops/table.csv")).columns.of("slide")


def test_reads_a_table_once(workplace, capsys):
    save_crop(Path("crops/a.png"), 0)
    find_crops(table('name,note\na.png,"two\nlines"\n', "crops/table.csv"))
    assert capsys.readouterr().err.count("a field of several lines") == 1
