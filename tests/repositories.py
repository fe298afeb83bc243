"""A temporary repository with the project's files and tiny parameters, and the real dvc and git in
it.
"""

import atexit
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageOps
from ruamel.yaml import YAML

from stages.experiments.commands import environment
from tests.fork_server import FOLDER, python

PROJECT = Path(__file__).resolve().parent.parent
SMALL = {
    "data": "demo",
    "external": [],
    "demo.sites": 2,
    "demo.slides": 3,
    "demo.glomeruli": 7,
    "split.folds": 3,
    "pad.size": 16,
    "model.step": "logistic",
    "train.epochs": 1,
}


def read_stages() -> dict[str, dict]:
    """Return the stages of both dvc.yaml by name, in order; of a `foreach` stage its content."""
    stages: dict[str, dict] = {}
    for file in ("data/dvc.yaml", "dvc.yaml"):
        for name, stage in YAML(typ="safe", pure=True).load(PROJECT / file)["stages"].items():
            stages[name] = stage.get("do", stage)
    return stages


# What `dvc repro` runs by default, in an order that fits: params.yaml names no external dataset.
STAGES = [name for name in read_stages() if name != "external"]


def _ignore_settings_of_git() -> None:
    """Have git ignore what this machine's users have set: signatures, hooks, line ends.

    DVC asks for a name to commit by, and reads it only from a file.
    """
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    (folder / "git").mkdir()
    (folder / "git/config").write_text(
        f"[user]\n\tname = t\n\temail = t@example.org\n[safe]\n\tdirectory = {PROJECT}\n"
    )
    if subprocess.run(["git", "config", "user.email"], capture_output=True).returncode:
        os.environ["XDG_CONFIG_HOME"] = str(folder)
    os.environ["GIT_CONFIG_GLOBAL"] = str(folder / "git/config")
    os.environ["GIT_CONFIG_NOSYSTEM"] = "1"


_ignore_settings_of_git()
ENVIRONMENT = environment()
ENVIRONMENT["PATH"] = os.pathsep.join([FOLDER, ENVIRONMENT["PATH"]])


def dvc(*arguments, check=True):
    # By default it waits for three seconds if another process works on the repository.
    command = [python(), "-m", "dvc", "--wait-for-lock", *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_program(name, *arguments):
    """Run a program of stages/; return its exit code and what it printed on both streams. It ends
    in no traceback.
    """
    command = [python(), "-m", f"stages.{name}", *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def git(*arguments):
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", *who, *arguments], check=True, capture_output=True, text=True
    ).stdout


def stages_run(output):
    return re.findall(r"^Running stage '(?:data/dvc.yaml:)?([\w@]+)':", output, flags=re.MULTILINE)


def set_params(changes: dict[str, object]) -> None:
    """Change parameters of params.yaml in the current folder; a dot leads into a block."""
    # In C, ten times as fast as what keeps comments.
    yaml = YAML(typ="safe")
    yaml.default_flow_style, yaml.sort_base_mapping_type_on_output = False, False
    params = yaml.load(Path("params.yaml"))
    for name, value in changes.items():
        *blocks, key = name.split(".")
        node = params
        for block in blocks:
            node = node[block]
        node[key] = value
    yaml.dump(params, Path("params.yaml"))


def make_another_laboratory(name="theirs"):
    """Make data/<name> of the crops of data/demo, each upside down, so that no model was trained on
    them.
    """
    for crop in sorted(Path("data/demo").rglob("*.png")):
        file = Path("data", name) / crop.relative_to("data/demo")
        file.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(crop) as image:
            ImageOps.flip(image).save(file)
    shutil.copy("data/demo.yaml", f"data/{name}.yaml")
    return Path("data", name)


# What neither DVC nor a program reads: without it git and DVC are a third faster.
LEFT_OUT = ("benchmarks/", "docs/", "tests/", "tools/")


def make_repository(folder, left_out=LEFT_OUT):
    """Make a git repository of the project's tracked files with SMALL parameters, without results
    and without the folders `left_out`, and enter it.
    """
    os.chdir(PROJECT)
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], check=True, capture_output=True, text=True
    ).stdout.split("\0")
    os.chdir(folder)
    for name in filter(None, tracked):
        if (PROJECT / name).is_file() and not name.startswith(left_out):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, folder / name)
    # Here the drawn crops stand for those of a laboratory.
    card = folder / "data/demo.yaml"
    card.write_text(re.sub("^drawn: .*\n", "", card.read_text(), flags=re.MULTILINE))
    for lock in ("dvc.lock", "data/dvc.lock"):
        (folder / lock).unlink(missing_ok=True)
    set_params(SMALL)
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "Small")
