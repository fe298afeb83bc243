"""Ask the fork server (tests/fork_server.py) to run a program; otherwise run it with Python.

fork_client.py PYTHON SOCKET ARGUMENT ...
"""

import fcntl
import json
import os
import resource
import signal
import socket
import struct
import sys

# Prefixes of the environment variables that Python or a library reads when it starts.
READ_AT_THE_START = tuple(
    """GLOMERULI_ARITHMETIC KERAS LANG LC_ NPY_ OMP_ ONEDNN OPENBLAS TF_ TZ XLA
    PYTHONHASHSEED PYTHONUNBUFFERED PYTHONWARNINGS PYTHONUTF8 PYTHONDONTWRITEBYTECODE
    PYTHONSAFEPATH""".split()
)
LIMITS = ("RLIMIT_AS", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_NOFILE", "RLIMIT_STACK")


def runtime_environment() -> list:
    """Return what a fork cannot take over from its caller: variables, namespaces, limits."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(READ_AT_THE_START)
        and name != "TF_CPP_MIN_LOG_LEVEL"
        # Dask's own for its workers; here no result depends on it. And what is the default anyway.
        and (name, value) not in (("PYTHONHASHSEED", "6640"), ("GLOMERULI_ARITHMETIC", "portable"))
    }
    spaces = [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "pid", "user")]
    limits = [list(resource.getrlimit(getattr(resource, name))) for name in LIMITS]
    return [
        sorted(variables.items()),
        spaces,
        limits,
        os.getuid(),
        os.getpriority(os.PRIO_PROCESS, 0),
        sorted(os.sched_getaffinity(0)),
    ]


def ask(address: str, arguments: list[str]) -> None:
    """Have the server run a program and exit as it exits; return if the server refuses it."""
    with socket.socket(socket.AF_UNIX) as server:
        try:
            # Locked until the server has started.
            with open(os.path.join(os.path.dirname(address), "starting")) as starting:
                fcntl.flock(starting, fcntl.LOCK_SH)
            server.connect(address)
        except OSError:
            return
        mask = os.umask(0)
        os.umask(mask)
        request = {
            "arguments": arguments,
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "umask": mask,
            "runtime_environment": json.dumps(runtime_environment()),
        }
        data = json.dumps(request).encode()
        socket.send_fds(server, [struct.pack("i", len(data))], [0, 1, 2])
        server.sendall(data)
        (number,) = struct.unpack("i", server.recv(4))
        if not number:
            return
        for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(name, lambda name, frame: os.kill(number, name))
        (code,) = struct.unpack("i", server.recv(4))
    if code < 0:
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def main() -> None:
    python, address, *arguments = sys.argv[1:]
    if arguments[:1] == ["-c"] or (
        arguments[:1] == ["-m"]
        and (arguments[1] in ("dask", "dvc") or arguments[1].startswith("stages."))
    ):
        ask(address, arguments)
    os.execv(python, [python, *arguments])


if __name__ == "__main__":
    main()
