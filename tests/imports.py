"""Which files of stages/ a module runs: the package's own, itself, and all that it imports,
directly or through others.
"""

import ast
from collections.abc import Iterable
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
            # Of a folder the modules are named, of a module what is in it.
            whole = Path(*node.module.split(".")).is_dir()
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module]
            )
            for name in names:
                path = Path(*name.split("."))
                if path.parts[0] == "stages" and len(path.parts) > 1:
                    waiting += [
                        path.with_suffix(".py"),
                        *(parent / "__init__.py" for parent in path.parents if parent.parts),
                    ]
    return found


def expanded(dependencies: Iterable[str]) -> set[str]:
    """Return the files that dependencies of dvc.yaml in stages/ stand for: a file for itself, a
    folder for its modules.

    The docstrings in the folders' own `__init__.py` run nothing, and do not count.
    """
    paths = [Path(one) for one in dependencies if one.startswith("stages/")]
    return without_docstrings(
        str(file) for path in paths for file in ([path] if path.suffix else path.rglob("*.py"))
    )


def without_docstrings(files: Iterable[str]) -> set[str]:
    return {
        file for file in files if Path(file).name != "__init__.py" or file == "stages/__init__.py"
    }
