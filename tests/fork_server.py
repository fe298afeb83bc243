"""Start the programs of the tests as forks of one process that has the libraries imported.

A stage that trains imports for five seconds and works for one, and the tests start hundreds of
stages; a fork starts in a tenth of a second. `python()` returns a path that is run like the Python
of this virtual environment. `python -m dvc`, `python -m stages.<name>` and `python -c` become forks
of the server, with the folder, environment, arguments and open files of their caller and with the
code of that folder: the server imports only libraries.

Everything else runs in a new Python, and so does a program whose environment differs from the
server's in what Python or a library reads at its start. Tests of what happens before and during
imports start `sys.executable`. With NO_FORKS=1 in the environment every program does.
"""

import _imp
import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections import OrderedDict
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TextIO

from ruamel.yaml import YAML

import stages  # noqa: F401  # Sets in the environment how numbers are rounded.

FORKS = sys.platform == "linux" and not os.environ.get("NO_FORKS")
CLIENT = Path(__file__).with_name("fork_client.py")
LIBRARIES = """
    numpy scipy.linalg scipy.ndimage scipy.optimize scipy.sparse.csgraph scipy.special
    scipy.stats pandas cv2 joblib pydantic yaml sklearn.isotonic sklearn.linear_model
    sklearn.metrics sklearn.model_selection sklearn.pipeline sklearn.preprocessing PIL.Image
    PIL.ImageDraw PIL.ImageOps PIL.PngImagePlugin PIL.JpegImagePlugin PIL.TiffImagePlugin
    PIL.WebPImagePlugin tqdm jinja2 vl_convert ruamel.yaml dvclive tensorflow keras
    keras.src.applications dvc.cli dvc.cli.parser dvc.commands.completion dvc.repo
    dvc.repo.reproduce dvc.repo.experiments dvc.repo.experiments.queue.tasks
    dvc.repo.experiments.show dvc.repo.experiments.executor.local dvc.repo.plots
    dvc.repo.metrics.show dvc.repo.status dvc.repo.checkout dvc.repo.experiments.run
    dvc.repo.experiments.save dvc.repo.experiments.remove dvc.repo.push dvc.repo.pull
    dvc.repo.commit dvc.stage.run dvc.stage.loader dvc.api dvc.dependency.param dvc_data.index
    dvc_data.hashfile.build dvc.render.match dvc_render dvc.scm dulwich.porcelain pygit2 celery
    kombu.transport.filesystem networkx tabulate rich.table shtab pydot pydantic.main
    pydantic.types pydantic.json_schema pydantic.functional_validators
    pydantic.plugin._schema_validator sklearn.neighbors imagecodecs._spng simplejpeg pyparsing
    tensorflow.python.data.ops.from_generator_op tensorflow.python.data.ops.from_tensors_op
    tensorflow.python.data.ops.flat_map_op dvc.utils.hydra dvc.utils.strictyaml
    hydra._internal.hydra hydra.compose hydra.core.override_parser.overrides_parser
    omegaconf.grammar_visitor dvc.repo.experiments.queue.celery
    dvc.repo.experiments.queue.workspace dvc.repo.experiments.queue.tempdir
    dvc.repo.experiments.brancher dvc.repo.index dvc.repo.stage dvc.repo.metrics.diff
    dvc.repo.plots.diff dvc.repo.open_repo dvc.repo.artifacts dvc.repo.datasets
    dvc.repo.worktree dvc.repo.collect dvc.repo.graph dvc.ui.table dvc.cachemgr dvc.data_cloud
    dvc.daemon dvc_data.index.checkout dvc_data.index.fetch dvc_data.index.push dvc_data.fs
    dvc_data.hashfile.db.local dvc_data.hashfile.status dvc_task.app.filesystem
    dvc_task.proc.manager celery.app.control celery.app.events celery.backends.filesystem
    celery.events.receiver celery.fixups.django celery.loaders.app celery.worker.worker
    dulwich.stash dulwich.worktree dulwich.gc scmrepo.fs scmrepo.git.backend.pygit2.filter
    fsspec.implementations.memory antlr4.LL1Analyzer celery.app.amqp dulwich.bitmap
    dulwich.filters dulwich.line_ending dvc.dirs dvc.repo.brancher dvc.repo.trie
    dvc_data.hashfile._progress encodings.cp437 rich.json multiprocessing.sharedctypes
    pydantic.fields ruamel.yaml.mergevalue
    scmrepo.git.backend.pygit2.callbacks platformdirs.unix
""".split()

_environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1"}
_started: list[subprocess.Popen] = []
# Names, for the workers of pytest-xdist, the folder of the server that all of them use.
SHARED = "TESTS_FORK_SERVER"
_shared = os.environ.pop(SHARED, "")
# Comes first on PATH; holds `python` and `dvc`.
FOLDER = _shared or tempfile.mkdtemp(prefix="fork-server-")
if not _shared:
    atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def python() -> str:
    """Return the path of a Python whose programs are forks of the server; start the server once."""
    if not FORKS:
        return sys.executable
    path = Path(FOLDER) / "python"
    if not _started and not _shared:
        for name, beginning in (("python", ""), ("dvc", "-m dvc ")):
            client = f'"{sys.executable}" -IS "{CLIENT}" "{sys.executable}" "{FOLDER}/socket"'
            path.with_name(name).write_text(f'#!/bin/sh\nexec {client} {beginning}"$@"\n')
            path.with_name(name).chmod(0o755)
        command = [sys.executable, "-m", "tests.fork_server", f"{FOLDER}/socket", str(path)]
        with open(f"{FOLDER}/log.txt", "w") as log, open(f"{FOLDER}/starting", "w") as starting:
            # Clients wait for this lock, which goes with the server's copy of the file.
            fcntl.flock(starting, fcntl.LOCK_EX)
            command.append(str(starting.fileno()))
            # It ends with this process, which closes its input.
            server = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stderr=log,
                env=_environment,
                cwd=CLIENT.parents[1],
                start_new_session=True,
                pass_fds=[starting.fileno()],
            )
        _started.append(server)
    return str(path)


def preload() -> list[str]:
    """Import libraries with this project's arithmetic; return `sys.path` without this folder."""
    # TensorFlow's converter imports jax, which nothing here needs and which warns in a fork.
    sys.modules["jax"] = None  # type: ignore[assignment]
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import PIL.Image
    import pydantic
    from dvc.cli.parser import get_main_parser

    get_main_parser()
    # The first model looks for plugins in all that is installed; the first file, for its format.
    pydantic.create_model("First")
    PIL.Image.init()
    del sys.modules["jax"]
    for name in [name for name in sys.modules if name.split(".")[0] in ("stages", "tests")]:
        del sys.modules[name]
    compile_stages()
    write_locks_by_libyaml()
    # A garbage collection in a fork would otherwise copy the pages of all that was imported.
    gc.freeze()
    return [path for path in sys.path if path not in ("", os.getcwd())]


def compile_stages() -> None:
    """Compile this project's code once, for all forks whose folder holds the same text.

    A fork that ran in a copy of the project would otherwise compile each file: the tests copy it
    hundreds of times, and Python keeps compiled code by the folder.
    """
    compiled = {}
    compile_here = SourceFileLoader.source_to_code
    for file in Path("stages").rglob("*.py"):
        text = file.read_bytes()
        compiled[text] = compile(text, file, "exec", dont_inherit=True)

    def source_to_code(self, data, path, **options):
        if code := compiled.get(bytes(data)):
            _imp._fix_co_filename(code, path)
            return code
        return compile_here(self, data, path, **options)

    SourceFileLoader.source_to_code = source_to_code  # type: ignore[method-assign]


def write_locks_by_libyaml() -> None:
    """Have DVC write the same dvc.lock twenty times as fast.

    It reads and writes the whole file after each stage, by a parser in Python that keeps comments,
    of which this file has none: half of what a `dvc repro` of tiny data takes.
    """
    import dvc.dvcfile
    from dvc.utils.serialize._common import _modify_data

    modify_yaml = dvc.dvcfile.modify_yaml

    def modify(path, fs=None):
        if not str(path).endswith("dvc.lock"):
            return modify_yaml(path, fs=fs)
        return _modify_data(path, load_lock, dump_lock, fs=fs)

    dvc.dvcfile.modify_yaml = modify


def load_lock(text: str, path: str) -> dict:
    return YAML(typ="safe").load(text) or {}


def dump_lock(content: dict, file: TextIO) -> None:
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.Representer.add_representer(OrderedDict, yaml.Representer.represent_dict)
    yaml.dump(content, file)


class Fork(Exception):
    """Raised in the child to leave the server; holds the request and the caller's open files."""


def serve(address: str, starting: int) -> None:
    """Fork for each caller, and tell it the process id and the exit code.

    A fork whose caller is gone is killed.

    Args:
        starting: a locked file, which is closed when callers can connect.

    Raises:
        Fork: in each child.
    """
    from tests.fork_client import runtime_environment

    here = json.dumps(runtime_environment())
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(f"{address}.new")
        listener.listen(64)
        selector.register(listener, selectors.EVENT_READ, "caller")
        selector.register(0, selectors.EVENT_READ, "end")
        os.rename(f"{address}.new", address)
        os.close(starting)
        # Process id and caller, by the file descriptor of the process.
        running: dict[int, tuple[int, socket.socket]] = {}
        while True:
            for key, _ in selector.select():
                if key.data == "end":
                    for number, _ in running.values():
                        os.kill(number, signal.SIGKILL)
                    return
                if key.data == "caller":
                    caller, _ = listener.accept()
                    request, files = receive(caller)
                    taken = request["runtime_environment"] == here
                    number = os.fork() if taken else 0
                    if taken and not number:
                        raise Fork(request, files)
                    # The reader of a pipe would wait as long as this end is open.
                    for file in files:
                        os.close(file)
                    caller.sendall(struct.pack("i", number))
                    if not taken:
                        caller.close()
                        continue
                    process = os.pidfd_open(number)
                    running[process] = number, caller
                    selector.register(process, selectors.EVENT_READ, "ended")
                    selector.register(caller, selectors.EVENT_READ, process)
                elif key.data == "ended":
                    number, caller = running.pop(key.fd)
                    _, status = os.waitpid(number, 0)
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    with contextlib.suppress(KeyError):
                        selector.unregister(caller)
                    with contextlib.suppress(OSError):
                        caller.sendall(struct.pack("i", os.waitstatus_to_exitcode(status)))
                    caller.close()
                elif key.data in running:
                    # A caller sends nothing more: it has been killed.
                    os.kill(running[key.data][0], signal.SIGKILL)
                    selector.unregister(key.fileobj)


def receive(caller: socket.socket) -> tuple[dict, list[int]]:
    """Return the request of a caller and its standard streams."""
    head, files, _, _ = socket.recv_fds(caller, 4, 3)
    (length,) = struct.unpack("i", head)
    data = b""
    while len(data) < length:
        data += caller.recv(length - len(data))
    return json.loads(data), files


def become(request: dict, files: list[int], executable: str, path: list[str]) -> None:
    """Run a program in this process as `python -m` or `python -c` would."""
    for stream, file in enumerate(files):
        os.dup2(file, stream)
        os.close(file)
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=stream is sys.stderr or stream.isatty())
    os.umask(request["umask"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.executable = executable
    # Found again from TMPDIR of this environment.
    tempfile.tempdir = None
    extra = [
        name for name in request["environment"].get("PYTHONPATH", "").split(os.pathsep) if name
    ]
    sys.path[:] = [request["folder"], *extra, *path]
    importlib.invalidate_caches()
    kind, program, *arguments = request["arguments"]
    if kind == "-c":
        sys.argv[:] = ["-c", *arguments]
        exec(compile(program, "<string>", "exec"), vars(sys.modules["__main__"]))
        return
    # As `python -m` begins; by this, stages/__init__.py knows that a program is being imported.
    sys.argv[:] = ["-m", *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


def main() -> None:
    address, executable, starting = sys.argv[1:]
    path = preload()
    try:
        serve(address, int(starting))
    except Fork as fork:
        request, files = fork.args
    else:
        return
    code = 1
    try:
        become(request, files, executable, path)
        code = 0
    except SystemExit as exit:
        if exit.code is None or isinstance(exit.code, int):
            code = exit.code or 0
        else:
            print(exit.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    # All that Python does at its end except for destroying every object of the libraries.
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)


if __name__ == "__main__":
    main()
