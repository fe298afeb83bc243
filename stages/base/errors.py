"""What a user can cause ends in one line on the screen and a non-zero exit, never in a traceback."""

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence

from stages.base.arguments import argument_parser
from stages.base.packages import warn_of_other_versions

SHOWN = 20


class UserError(Exception):
    """Something that the user can put right; its text names the file or parameter and what would be
    right.
    """


def refuse(problems: Sequence[str]) -> None:
    """Raise one `UserError` for all `problems`, a line each: the first 20, and how many more there
    are.

    People repair folders, not files, so all that is wrong is said in one go. Does nothing without
    problems.
    """
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError("\n".join([*problems[:SHOWN], *more]))


def warn(what: str, names: Sequence[str]) -> None:
    """Print a warning for each of `names`: the first 20, and how many more there are. Does nothing
    without names.
    """
    for name in names[:SHOWN]:
        print(f"warning: {what}: {name}", file=sys.stderr)
    if len(names) > SHOWN:
        print(f"warning: {what}: and {len(names) - SHOWN} more", file=sys.stderr)


def run_program(main: Callable[[], None], description: str | None = "") -> None:
    """Run a stage's `main`; turn a `UserError` or an `OSError` (disk full, no permission) into text
    and exit code 1.

    If whoever reads the output stops reading, as `head` does, the program ends silently with the
    shell's code for that, 141.

    Args:
        description: of a stage that takes no arguments; --help prints it, and any other argument is
            refused. `python -OO` makes None of it. Empty if `main` reads the arguments itself.
    """
    # While the modules were imported, Ctrl-C ended the process at once (stages/__init__.py).
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if undecodable := [argument for argument in sys.argv if not _is_text(argument)]:
        sys.exit(
            f"error: {undecodable[0]!r} is not UTF-8 text; rename the file, or the folder that it is in"
        )
    # An empty path would be the current folder.
    if empty := [word for word in sys.argv[1:] if not word or re.fullmatch("--[a-z-]+=", word)]:
        sys.exit(
            f"error: the argument {empty[0]!r} is empty, as of a shell variable that is not set; give a value"
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
        # Here, and not when Python ends, which could only print an exception that is ignored.
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
    """Write what waits to be printed; if that fails, lead it nowhere, so that it does not fail
    again when Python ends.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_text(argument: str) -> bool:
    # Bytes that are not UTF-8 arrive as lone surrogates, which nothing can write.
    return not any("\ud800" <= character <= "\udfff" for character in argument)
