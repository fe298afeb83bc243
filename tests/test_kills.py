"""After a kill in any stage, by SIGKILL, SIGTERM or Ctrl-C, `dvc repro` gives the same bytes.

DVC does not write dvc.lock and its list of locks, .dvc/tmp/rwlock, in one piece: killed at that
moment, it leaves half a file, which it refuses to read.

GLOMERULI_KILLS is the number of kills (1 by default: each costs half a minute; three per stage are
every signal in every stage).
"""

import hashlib
import os
import random
import re
import signal
import subprocess
import time
from itertools import product
from pathlib import Path

import pytest

from tests.fork_server import python
from tests.repositories import ENVIRONMENT, STAGES, dvc, git, stages_run

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("GLOMERULI_KILLS", "1"))
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
# The approximate duration of stages in this repository, in seconds, on two cores.
SECONDS = {"demo": 5.5, "train": 7.6, "evaluate": 6.3}
OTHERS = 1.5
SCREEN = Path("screen.txt")


def results():
    files = [
        Path("dvc.lock"),
        *Path("metrics").rglob("*"),
        *Path("models").rglob("*"),
        *Path("data").rglob("*"),
    ]
    return {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()
    }


def forget_everything():
    git("clean", "-q", "-d", "-f", "-x", "-e", ".dvc/config")
    git("checkout", "-q", ".")


def start():
    with SCREEN.open("w") as screen:
        return subprocess.Popen(
            [python(), "-m", "dvc", "repro"],
            env=ENVIRONMENT,
            stdout=screen,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def watch(run):
    """Yield the name of each stage in the moment in which it starts."""
    seen = 0
    while run.poll() is None or len(stages_run(SCREEN.read_text())) > seen:
        started = stages_run(SCREEN.read_text())
        yield from started[seen:]
        seen = len(started)
        time.sleep(0.01)


def test_killed_in_any_stage(repository):
    expected = results()
    os.remove("dvc.lock")
    git("commit", "-q", "-a", "-m", "No results")
    choose = random.Random(0)
    kills = list(product(STAGES, SIGNALS))
    choose.shuffle(kills)
    torn = 0
    for stage, how in kills[:KILLS]:
        forget_everything()
        run = start()
        assert stage in watch(run)
        moment = choose.uniform(0, SECONDS.get(stage, OTHERS))
        time.sleep(moment)
        os.killpg(run.pid, how)
        code = run.wait()
        output = dvc("repro", check=False)
        if "dvc.lock" in output and re.search("validation failed|invalid|unable to read", output):
            torn += 1
            os.remove("dvc.lock")  # It asks for the committed one; here there is none.
            output = dvc("repro")
        elif "Unable to read RWLock-file" in output:
            torn += 1
            os.remove(".dvc/tmp/rwlock")
            output = dvc("repro")
        print(f"{how.name} {moment:.2f} s into {stage}: exit {code}, then ran {stages_run(output)}")
        SCREEN.unlink()
        assert results() == expected, output
    print(
        f"{min(KILLS, len(kills))} kills, all recovered to the same bytes, {torn} after removing "
        "half a file of DVC's"
    )
