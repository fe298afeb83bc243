"""The arguments of a program."""

import argparse
import sys


def argument_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser that names the program as it is started, `python -m stages.<name>`, and prints `description` as it is."""
    started = sys.modules["__main__"].__spec__
    return argparse.ArgumentParser(
        prog=f"python -m {started.name}" if started else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
