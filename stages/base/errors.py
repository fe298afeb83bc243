"""What a user can cause ends in one line on the screen and a non-zero exit, never in a traceback."""

import sys
from collections.abc import Callable, Sequence

from stages.base.arguments import argument_parser

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


def run_program(main: Callable[[], None], description: str | None = None) -> None:
    """Run a stage's `main`; turn a `UserError` or an `OSError` (disk full, no permission) into text and exit code 1.

    Args:
        description: of a stage that takes no arguments; --help prints it, and any other argument is refused.
    """
    if description:
        argument_parser(description).parse_args()
    try:
        main()
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
