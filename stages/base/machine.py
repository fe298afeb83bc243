"""Make a program independent of the machine's text encoding and standard streams.

`stages/__init__.py` calls `prepare` when a program starts, not when `stages` is only imported.
"""

import os
import sys


def prepare() -> None:
    """Read file names as UTF-8, and open standard streams that accept any letter."""
    _open_streams()
    _read_names_as_utf8()


def _read_names_as_utf8() -> None:
    """Restart this program in Python's UTF-8 mode if the locale has another encoding.

    Otherwise "M\u00fcller" would be another slide in the manifest than in a table of labels. The
    programs that this one starts inherit the mode. DVC itself, which is already running, writes the
    other names into its cache: hence the warning.
    """
    # With PYTHONUTF8 a restart has already failed. On Windows names are always UTF-8.
    if sys.getfilesystemencoding() != "utf-8" and os.environ.get("PYTHONUTF8") != "1":
        os.environ["PYTHONUTF8"] = "1"
        print(
            f"warning: the locale's encoding is {sys.getfilesystemencoding()}; names of files are "
            "read as UTF-8 here. DVC reads other names: set PYTHONUTF8=1 in the environment",
            file=sys.stderr,
            flush=True,
        )
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def _open_streams() -> None:
    """Open missing standard streams to nowhere; write letters that an encoding lacks as `\\u0130`.

    A daemon or pythonw has no such streams. A file opened later would get the number of a closed
    stream, and libraries would write their errors into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # `open` returns the lowest free number, which is this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
