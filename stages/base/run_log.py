"""Append a line of JSON for each run of a program to the file that GLOMERULI_RUN_LOG names.

Outputs have neither dates nor durations, so that runs can be compared; here is where they are.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from stages.base.packages import pinned_versions

VARIABLE = "GLOMERULI_RUN_LOG"
# The module that knows the device, if the program has imported it: `base` imports no folder.
BACKEND = "stages.model.backend"


@contextmanager
def logged_run() -> Iterator[None]:
    """Log the block as one run, however it ends; a log that cannot be written is a warning."""
    if not (path := os.environ.get(VARIABLE)):
        yield
        return
    started, clock, ended = datetime.now(UTC), time.perf_counter(), "a fault"
    try:
        yield
        ended = ""
    except SystemExit as error:
        # What sys.exit gets is the exit code, or the text to print with the exit code 1.
        ended = "" if not error.code else str(error.code)
        raise
    finally:
        run = {
            "program": getattr(sys.modules["__main__"].__spec__, "name", sys.argv[0]),
            "arguments": sys.argv[1:],
            "folder": os.getcwd(),
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(time.perf_counter() - clock, 3),
            "exit": int(ended) if ended.isdigit() else int(bool(ended)),
            "error": "" if ended.isdigit() else ended,
            **_used(),
            "machine": {
                "name": platform.node(),
                "architecture": platform.machine(),
                "system": platform.platform(),
                "cores": os.cpu_count(),
            },
            "device": _device(),
            "versions": {"python": platform.python_version()} | _versions(),
        }
        try:
            # One write, so that programs that run at the same time do not mix their lines.
            with open(path, "ab", buffering=0) as file:
                file.write(json.dumps(run, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
        except OSError as error:
            print(f"warning: {VARIABLE}: {path}: {error.strerror}", file=sys.stderr)


def _used() -> dict[str, Any]:
    """Return the processor time and the peak memory of this process, and of those it waited for."""
    try:
        import resource
    except ImportError:  # On Windows.
        return {"processor_seconds": round(time.process_time(), 3), "peak_memory_bytes": None}
    unit = 1 if sys.platform == "darwin" else 1024
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "processor_seconds": round(sum(one.ru_utime + one.ru_stime for one in both), 3),
        "peak_memory_bytes": unit * max(one.ru_maxrss for one in both),
    }


def _device() -> str | None:
    """Return where the program computed with Keras; None if it did not."""
    backend = sys.modules.get(BACKEND)
    here = backend.runtime_environment() if backend else {}
    return f"{here['backend']} on {here['device']}" if here else None


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in pinned_versions():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
