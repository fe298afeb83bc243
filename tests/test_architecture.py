"""docs/architecture.md is right: arrows of stages and folders, who prints, who reads params."""

import ast
import re

from tests.repositories import PROJECT, read_stages
from tests.test_style import MAY_IMPORT

PAGE = (PROJECT / "docs/architecture.md").read_text()
# Folders that may print to the standard output; that read params.yaml themselves.
MAY_PRINT = {"evaluation", "intake", "offline", "training"}
MAY_READ_PARAMS = {"base", "experiments"}


def nodes(text):
    return [re.match(r"\w+", node.strip())[0] for node in text.split("&")]


def test_the_arrows_between_stages_are_those_of_dvc_yaml():
    chart = PAGE.split("```mermaid\n")[1].split("```")[0]
    drawn = set()
    for line in chart.splitlines()[1:]:
        *begins, ends = line.split("-->")
        (begin,) = begins
        drawn |= {(start, end) for start in nodes(begin) for end in nodes(ends)}
    stages = read_stages()
    made = {"dataset": {"data/${data}", "data/${data}.yaml"}}
    for name, stage in stages.items():
        listed = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        made[name] = {out if isinstance(out, str) else next(iter(out)) for out in listed}
    found = {
        (start, end)
        for start, outputs in made.items()
        for end, stage in stages.items()
        for output in outputs
        if any(f"{dependency}/".startswith(f"{output}/") for dependency in stage["deps"])
    }
    assert drawn == found | {("demo", "dataset")}


def test_the_imports_of_folders_are_those_allowed():
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|\n]*)\|$", PAGE, flags=re.MULTILINE)
    listed = {folder: set(re.findall(r"`(\w+)`", imports)) for folder, imports in rows}
    assert listed == {folder: set(text.split()) - {"base"} for folder, text in MAY_IMPORT.items()}


def modules_where(matches):
    """The folders of stages/ with a module in which a node of the syntax tree matches."""
    return {
        file.parent.name
        for file in (PROJECT / "stages").glob("*/*.py")
        if any(matches(node) for node in ast.walk(ast.parse(file.read_text())))
    }


def names_in(pattern):
    return set(re.findall(r"`(\w+)`", re.search(pattern, PAGE, flags=re.DOTALL)[1]))


def calls(node, *names):
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


def test_the_folders_that_print_to_the_standard_output():
    printing = modules_where(
        lambda node: calls(node, "print") and "file" not in {word.arg for word in node.keywords}
    )
    assert printing == MAY_PRINT == names_in(r"The folders (.*?)\salso print")


def test_the_folders_that_read_params():
    assert not modules_where(lambda node: calls(node, "read_params", "read_dataset_name"))
    reading = modules_where(
        lambda node: isinstance(node, ast.Constant) and node.value == "params.yaml"
    )
    assert reading == MAY_READ_PARAMS
    assert names_in(r"only (`\w+`) reads the file") == MAY_READ_PARAMS - {"base"}


def test_files_that_the_page_names_exist():
    for name in re.findall(r"`((?:\w+/)+[\w.]+\.(?:py|yaml|json))`", PAGE):
        if not name.startswith(("data/", "metrics/")):
            places = (PROJECT / name, PROJECT / "stages" / name)
            assert any(place.is_file() for place in places), name
