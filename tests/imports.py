"""Which files of stages/ a module runs: the package's own, itself, and all that it imports, directly or through others."""

import ast
from pathlib import Path


def code_of(module: Path) -> set[str]:
    found, waiting = set(), [Path("stages/__init__.py"), module]
    while waiting:
        file = waiting.pop()
        if str(file) in found:
            continue
        found.add(str(file))
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            names = [f"stages.{alias.name}" for alias in node.names] if node.module == "stages" else [node.module]
            waiting += [Path(*name.split(".")).with_suffix(".py") for name in names if name.startswith("stages.")]
    return found
