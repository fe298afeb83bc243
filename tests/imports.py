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
            # Of a folder the modules are named, of a module what is in it.
            whole = Path(*node.module.split(".")).is_dir()
            names = [f"{node.module}.{alias.name}" for alias in node.names] if whole else [node.module]
            for name in names:
                path = Path(*name.split("."))
                if path.parts[0] == "stages" and len(path.parts) > 1:
                    waiting += [path.with_suffix(".py"), *(parent / "__init__.py" for parent in path.parents if parent.parts)]
    return found
