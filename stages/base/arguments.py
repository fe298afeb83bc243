"""The arguments of a program."""

import argparse
import sys
from pathlib import Path


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for the program as it was started, `python -m stages.<name>`."""
    started = sys.modules["__main__"].__spec__
    return argparse.ArgumentParser(
        prog=f"python -m {started.name}" if started else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_output(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --output, the folder to write to."""
    help = f"the folder to write to (default: {default})"
    parser.add_argument("--output", type=_folder, default=Path(default), help=help)


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("it must name a folder")
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a folder")
    return Path(text)
