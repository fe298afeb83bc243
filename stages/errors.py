"""What a user can cause ends in one line on the screen and a non-zero exit, never in a traceback."""

import sys
from collections.abc import Callable, Sequence

SHOWN = 20


class UserError(Exception):
    """Something that the user can put right; its text names the file or parameter and what would be right."""


def refuse(problems: Sequence[str]) -> None:
    """Raise one `UserError` for all `problems`, a line each: the first 20, and how many more there are.

    People repair folders, not files, so all that is wrong is said in one go. Does nothing without problems.
    """
    if problems:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise UserError("\n".join([*problems[:SHOWN], *more]))


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main`; turn a `UserError` or an `OSError` (disk full, no permission) into text and exit code 1."""
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
