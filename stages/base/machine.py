"""Make a program independent of how text and the standard streams are set up on the machine.

`stages/__init__.py` calls this module when a program starts. Processes that only import `stages`
are left as they are.
"""

import os
import sys


def prepare() -> None:
    """Have names of files be UTF-8, and have standard streams that exist and take any letter."""
    _open_streams()
    _read_names_as_utf8()


def _read_names_as_utf8() -> None:
    """Start this program again in Python's UTF-8 mode where the locale has another encoding, such
    as Latin-1.

    Python decodes the names of files as the locale says, from its start on. "M\u00fcller" would be
    another name in the manifest, another slide, and not the one that a table of labels holds.
    Programs that this one starts inherit the mode. DVC itself, started in such a locale, writes the
    other names into its cache: hence the warning.
    """
    # With PYTHONUTF8 it has been tried. (On Windows names are always UTF-8.)
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        print(
            f"warning: the locale's encoding is {sys.getfilesystemencoding()}; names of files are read as UTF-8 here. "
            "DVC reads other names: set PYTHONUTF8=1 in the environment",
            file=sys.stderr,
            flush=True,
        )
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _open_streams() -> None:
    """Lead standard streams that are closed to nowhere, and write letters that an encoding lacks as
    `\\u0130`.

    A daemon or pythonw has no such streams. A file that is opened later would take the number of a
    closed stream, and what libraries write to the standard error would end up in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # It takes the lowest free number.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(
                sys,
                name,
                os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False),
            )
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
