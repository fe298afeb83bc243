"""Which files of stages/ a module runs: itself and all that it imports from stages, directly or through others."""

import ast
from pathlib import Path


def code_of(module: Path) -> set[str]:
    found, waiting = set(), [module]
    while waiting:
        file = waiting.pop()
        if str(file) in found:
            continue
        found.add(str(file))
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stages."):
                waiting.append(Path(*node.module.split(".")).with_suffix(".py"))
    return found
