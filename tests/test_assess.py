"""The assessment: all folds and the model to use by one command, and the report on them."""

import csv
import hashlib
import re
from pathlib import Path

from stages.base.parameters import read_yaml
from tests.repositories import dvc, git, run_program

ENSEMBLE = ("-S", "train.ensemble=true")


def measures():
    """The pooled measures that `compare` finds, as they are in the report's table."""
    with open("comparison/settings.csv") as file:
        rows = {row["measure"]: row for row in csv.DictReader(file)}
    return {
        name: " ".join(f"{float(row[key]):.3f}" for key in ("pooled", "low", "high") if row[key])
        for name, row in rows.items()
        if row["pooled"]
    }


def test_one_command_runs_all_folds_and_keeps_the_model(repository):
    code, text, error = run_program("assess", *ENSEMBLE)
    assert code == 0, error
    names = [f"demo-logistic-{which}" for which in ("fold0", "fold1", "fold2", "all")]
    assert set(dvc("exp", "list", "--name-only").split()) == set(names)
    assert "each predicted by a model that has not seen it" in text
    assert git("status", "--short") == ""

    page = Path("assessment/report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*', page) and "<script" not in page
    for heading in (
        "Measures",
        "Sites",
        "Slides",
        "Mistakes",
        "Labels to check",
        "How it was made",
    ):
        assert f"<h2>{heading}</h2>" in page
    assert page.count('<img src="data:image/svg+xml') == 6
    assert f"python -m stages.assess {' '.join(ENSEMBLE)}" in page
    assert git("rev-parse", "HEAD").strip() in page

    # Its measures are those of `compare`.
    code, _, error = run_program("compare", *names[:3])
    assert code == 0, error
    section = page.split('id="measures"')[1].split("</section>")[0]
    table = dict(re.findall(r"<tr>\s*<td>([^<]+)</td>\s*<td>([^<]+)</td>", section))
    found = {name: value.replace("(", "").replace(")", "") for name, value in table.items()}
    for name, shown in (("sensitivity", "sensitivity"), ("f1", "F1"), ("roc_auc", "ROC AUC")):
        assert re.split(r"[ -]", found[shown]) == measures()[name].split(), name

    # The model is that of the experiment on all slides.
    lock = git("show", f"{commit_of(names[3])}:dvc.lock")
    Path("lock.yaml").write_text(lock)
    outs = {out["path"]: out["md5"] for out in read_yaml("lock.yaml")["stages"]["train"]["outs"]}
    model = Path("assessment/model/model.keras").read_bytes()
    assert hashlib.md5(model).hexdigest() == outs["models/model.keras"]

    # Nothing runs twice, and the report keeps its text; a comparison is added if asked for.
    code, _, error = run_program("assess", *ENSEMBLE, "--against", "HEAD")
    assert code == 0, error
    compared = Path("assessment/report.html").read_text()
    assert "<h2>Comparison</h2>" in compared and section in compared
    assert set(dvc("exp", "list", "--name-only").split()) == set(names)

    # A file of the user's is never removed.
    Path("assessment/model/notes.txt").write_text("mine")
    code, _, error = run_program("assess", *ENSEMBLE)
    assert code == 1 and "it holds 'notes.txt', which is not of a model" in error


def commit_of(name):
    (reference,) = [
        line
        for line in git("for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
        if line.endswith(f"/{name}")
    ]
    return git("rev-parse", reference).strip()


def test_what_cannot_be_assessed_is_a_line(repository):
    code, _, error = run_program("assess")
    assert code == 1 and "train.ensemble: it must be true (`-S train.ensemble=true`)" in error
    code, _, error = run_program("assess", *ENSEMBLE, "-S", "split.fold=1")
    assert code == 1 and "-S split.fold=1: the assessment sets split.fold itself" in error
    code, _, error = run_program("assess", *ENSEMBLE, "--against", "nowhere")
    assert code == 1 and error.startswith("error: nowhere: there is no commit")
    assert dvc("exp", "list") == ""
