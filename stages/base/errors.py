"""Errors that users can cause end in one line and a non-zero exit code, never in a traceback."""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Sequence

from stages.base.arguments import argument_parser
from stages.base.packages import warn_of_other_versions
from stages.base.run_log import logged_run

SHOWN = 20


class UserError(Exception):
    """An error that the user can fix: `FILE or parameter: what it holds; what would be valid`."""


def refuse(problems: Iterable[str]) -> None:
    """Raise one `UserError` for all `problems`, if any: 20 of them, and how many more there are."""
    if lines := list(problems):
        more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
        raise UserError("\n".join([*lines[:SHOWN], *more]))


def one_line(message: object) -> str:
    """Return what a library or program says as one line, a long one without its middle."""
    line = " ".join(str(message).split())
    return line if len(line) <= 400 else f"{line[:200]} ... {line[-200:]}"


def warn(what: str, names: Sequence[str] | None = None) -> None:
    """Print a warning, or one for each of the first 20 `names`, and how many more there are."""
    if names is None:
        print(f"warning: {what}", file=sys.stderr)
        return
    for name in names[:SHOWN]:
        print(f"warning: {what}: {name}", file=sys.stderr)
    if len(names) > SHOWN:
        print(f"warning: {what}: and {len(names) - SHOWN} more", file=sys.stderr)


def run_program(main: Callable[[], None], description: str | None = "") -> None:
    """Run `main`; turn a `UserError` or `OSError`, such as a full disk, into text and exit code 1.

    If GLOMERULI_RUN_LOG names a file, the run is one line of it (stages/base/run_log.py).

    If the reader of the output stops reading, like `head`, the program ends silently with the
    shell's code for that, 141.

    Args:
        description: of a program without arguments, for --help. Empty if `main` reads arguments;
            None under `python -OO`, which removes docstrings.
    """
    with logged_run():
        _run(main, description)


def _run(main: Callable[[], None], description: str | None) -> None:
    # Until here, Ctrl-C ended the process at once (stages/__init__.py).
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if undecodable := [argument for argument in sys.argv if not _is_text(argument)]:
        sys.exit(
            f"error: {undecodable[0]!r} is not UTF-8 text; rename the file, or the folder that it "
            "is in"
        )
    # An empty path would be the current folder.
    if empty := [word for word in sys.argv[1:] if not word or re.fullmatch("--[a-z-]+=", word)]:
        sys.exit(
            f"error: the argument {empty[0]!r} is empty, as of a shell variable that is not set; "
            "give a value"
        )
    try:
        try:
            if description != "":
                argument_parser(description or "").parse_args()
                warn_of_other_versions()
            main()
        except SystemExit:
            sys.stdout.flush()
            raise
        # At Python's exit a failure could only be printed as an ignored exception.
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        sys.exit(141)
    except (UserError, OSError) as error:
        _drop_output()
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _drop_output() -> None:
    """Flush the output; if that fails, discard it, so that Python's exit does not fail again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_text(argument: str) -> bool:
    # Python decodes bytes that are not UTF-8 as lone surrogates, which cannot be written.
    return not any("\ud800" <= character <= "\udfff" for character in argument)
