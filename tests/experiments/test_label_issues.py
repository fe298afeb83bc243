"""Labels that were turned round are found among many, and experiments that disagree are refused."""

import csv
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from stages.base.errors import UserError
from stages.experiments.label_issues import find_label_issues, out_of_fold
from stages.experiments.reading import Experiment, read_experiments
from tests.fork_server import python
from tests.repositories import dvc, make_another_laboratory


def test_turned_labels_are_found():
    random = np.random.default_rng(0)
    truth = random.uniform(size=300) < 0.25
    y_score = np.where(truth, random.beta(20, 2, 300), random.beta(2, 20, 300))
    y_true = truth.astype(int)
    turned = [5, 77, 150]
    y_true[turned] = 1 - y_true[turned]
    paths = np.array([f"{row:03}.png" for row in range(300)])
    issues = find_label_issues(paths, np.full(300, "s"), y_true, y_score)
    assert {issue.path for issue in issues[:3]} == {paths[row] for row in turned}
    assert [issue.confidence for issue in issues] == sorted(issue.confidence for issue in issues)
    assert len(issues) < 10
    with pytest.raises(UserError, match="both classes"):
        find_label_issues(paths, np.full(300, "s"), np.zeros(300, dtype=int), y_score)


def test_predictions_of_several_experiments(monkeypatch):
    header = "path,slide,label,probability,predicted\n"
    texts = {
        "a": header + "x.png,s,1,0.25,0\ny.png,s,0,0.5,1\n",
        "b": header + "x.png,s,1,0.75,1\n",
        "c": header + "x.png,s,0,0.5,1\n",
    }
    monkeypatch.setattr(Experiment, "read", lambda self, path: texts[self.name])
    a, b, c = (Experiment(name, "", {}, {}) for name in texts)
    paths, slides, y_true, y_score = out_of_fold([a, b])
    assert (paths.tolist(), slides.tolist(), y_true.tolist(), y_score.tolist()) == (
        ["x.png", "y.png"],
        ["s", "s"],
        [1, 0],
        [0.5, 0.5],
    )
    with pytest.raises(UserError, match=r"several labels or slides of x.png"):
        out_of_fold([a, c])


def test_with_experiments_of_dvc_and_external_data_beside(repository):
    """An experiment that measures on a further dataset, too, trains nothing; and its predictions
    can be doubted.
    """
    theirs = make_another_laboratory()
    with open("metrics/predictions.csv", newline="") as file:
        for row in csv.DictReader(file):
            shutil.copy(Path("data/demo") / row["path"], theirs / row["path"])
    printed = dvc("exp", "run", "-n", "beside", "-S", "external=[theirs]")
    assert "Running stage 'external@theirs'" in printed and "Running stage 'train'" not in printed
    assert "metrics/external/theirs.json" in dvc("exp", "show", "--json")
    with open("metrics/external/theirs.csv", newline="") as file:
        everywhere = {row["path"]: row for row in csv.DictReader(file)}
    with open("metrics/predictions.csv", newline="") as file:
        for row in csv.DictReader(file):
            assert float(everywhere[row["path"]]["probability"]) == pytest.approx(
                float(row["probability"]), abs=1e-5
            )

    # Both datasets have measures; the experiment's own are those of its test set.
    (found,) = read_experiments()
    own = json.loads(Path("metrics/measures.json").read_text())
    assert found.measures()["threshold"] == own["threshold"]
    assert found.measures()["confusion.true_positive"] == own["confusion"]["true_positive"]

    command = [python(), "-m", "stages.label_issues"]
    done = subprocess.run([*command, "beside"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (
        Path("label_issues/label_issues.csv")
        .read_text()
        .startswith("path,slide,label,probability,confidence\n")
    )
    assert Path("label_issues/label_issues.png").is_file()
    # Of a run that took only a part of the stages, the predictions are of other inputs.
    dvc("exp", "run", "-n", "partial", "-S", "pad.mode=zero", "pad")
    done = subprocess.run([*command, "partial"], capture_output=True, text=True)
    assert (
        done.returncode == 1
        and "has not run after data/padded changed" in done.stderr.splitlines()[-1]
    ), done.stderr
    done = subprocess.run([*command, "nothing"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "error: there is no finished experiment nothing; `dvc exp list` names them",
    )
