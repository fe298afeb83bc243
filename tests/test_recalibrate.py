"""Recalibrating a model with a few labeled crops of another site."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit

import stages.recalibrate
from stages.base.errors import UserError
from stages.base.files import read_table, sha256
from stages.evaluation.recalibrated import Recalibrated
from tests.evaluation.classifiers import a_decision
from tests.repositories import make_another_laboratory, run_program


def trained_on():
    """Return the crops of data/demo that the model was trained on."""
    parts = {row[0]: row[1] for row in zip(*read_table("data/split.csv", ("path", "split")))}
    return [Path("data/demo") / path for path, part in parts.items() if part != "test"]


def ranked(folder, share=None):
    """Return the paths of crops, the least probably sclerotic first, as the model sees them.

    Args:
        share: of the crops, which the model's threshold then has below it; None leaves it as it is.
    """
    assert run_program("predict", folder)[0] == 0
    names, probability = read_table("evaluation.csv", ("name", "probability"))
    crops = sorted(zip(map(float, probability), names))
    if share is not None:
        decision = json.loads(Path("models/calibration.json").read_text())
        decision["threshold"] = crops[int(share * len(crops))][0]
        decision["uncertain"] = {"low": None, "high": None}
        Path("models/calibration.json").write_text(json.dumps(decision))
        assert run_program("predict", folder)[0] == 0
    return [Path(folder) / name for _, name in crops]


def table(rows, name="few.csv"):
    Path(name).write_text(
        "name,ground truth\n" + "".join(f"{path},{label}\n" for path, label in rows)
    )
    return Path(name)


def test_writes_a_recalibrated_model_folder(repository):
    theirs = make_another_laboratory()
    crops = ranked(theirs, share=0.5)
    chosen = {crop: number // 7 for number, crop in enumerate(crops[:7] + crops[-5:])}
    labels = table([(crop.name, label) for crop, label in chosen.items()])
    code, printed, error = run_program(
        "recalibrate", "data/theirs", "--labels", labels, "--output", "models-ours"
    )
    assert code == 0, error
    assert (
        printed.startswith("12 labeled crops of ")
        and ": 5 positive, 7 negative" in printed.splitlines()[0]
    )
    assert " before, " in printed and "of crops chosen over all probabilities" in printed
    record, card = (
        json.loads(Path(f"models-ours/{name}.json").read_text())
        for name in ("recalibration", "model")
    )
    assert (record["crops"], record["positive"]) == (12, 5) and record["sampling"] == "proposed"
    assert (
        card["recalibrated"]["from_sha256"]["model.keras"]
        == sha256("models/model.keras")
        == sha256("models-ours/model.keras")
    )
    digests = {crop.relative_to(theirs).as_posix(): sha256(crop) for crop in chosen}
    assert (
        card["recalibrated"]["crops_sha256"] == digests
        and "threshold moves" in card["recalibrated"]["method"]
    )

    # Only the map is new.
    old, new = (
        json.loads(Path(f"{folder}/calibration.json").read_text())
        for folder in ("models", "models-ours")
    )
    assert new.pop("model_sha256") == sha256("models-ours/model.json") != old.pop("model_sha256")
    assert new["calibration"].pop("local") == record["shift"] and new == old
    assert run_program("predict", "data/theirs", "--model", "models-ours")[0] == 0
    code, _, error = run_program(
        "recalibrate",
        "data/theirs",
        "--labels",
        labels,
        "--output",
        "again",
        "--model",
        "models-ours",
    )
    assert (
        code == 1 and "models-ours is already recalibrated" in error and not Path("again").exists()
    )
    assert [path.name for path in Path(".").glob(".recalibrate-*")] == []
    # Its calibration belongs to this folder only.
    shutil.copytree("models", "mixed")
    shutil.copy("models-ours/calibration.json", "mixed")
    code, _, error = run_program("predict", "data/theirs", "--model", "mixed")
    assert (
        code == 1
        and "mixed/calibration.json: it was made for another model than mixed/model.json" in error
    )


def test_crops_without_a_correction_are_labeled_as_predicted(repository):
    theirs = make_another_laboratory()
    crops = ranked(theirs, share=0.3)
    predicted = dict(zip(*read_table("evaluation.csv", ("name", "predicted"))))
    names = [crop.relative_to(theirs).as_posix() for crop in crops]
    corrected = [(name, 0) for name in names[: len(names) // 2]] + [(names[-1], 1)]
    labels = {name: int(label) for name, label in predicted.items()} | dict(corrected)
    records = []
    for sampling, given in (
        ("corrections", table(corrected)),
        ("slides", table(labels.items(), "all.csv")),
    ):
        output = f"models-{sampling}"
        arguments = ("--labels", given, "--sampling", sampling, "--output", output)
        code, printed, error = run_program("recalibrate", theirs, *arguments)
        assert code == 0, error
        records.append(json.loads(Path(output, "recalibration.json").read_text()))
    assert "without a correction count as predicted correctly" not in printed
    assert [record.pop("sampling") for record in records] == ["corrections", "slides"]
    assert records[0] == records[1] and records[0]["crops"] == len(crops)
    assert records[0]["positive"] == sum(labels.values())


def test_predict_proposes_crops_to_label(repository):
    theirs = make_another_laboratory()
    code, printed, error = run_program("predict", "data/theirs", "--propose", "24")
    assert (
        code == 0
        and "to be labeled, for `python -m stages.recalibrate`: evaluation.propose.csv" in printed
    ), error
    lines = Path("evaluation.propose.csv").read_text().splitlines()
    assert lines[0] == "name,ground truth" and len(lines) == 25 and lines[1:] == sorted(lines[1:])
    labels = "--labels", "evaluation.propose.csv"
    recalibrate = "recalibrate", "data/theirs", *labels, "--output", "models-ours"
    code, _, error = run_program(*recalibrate)
    assert code == 1 and "24 labels are not 0 or 1: empty (24)" in error
    of_both = [crop.relative_to(theirs).as_posix() for crop in ranked(theirs, share=0.5)[-20:]]
    truth = [f"{line.rstrip(',')},{int(line.rstrip(',') in of_both)}" for line in lines[1:]]
    Path("evaluation.propose.csv").write_text("\n".join([lines[0], *truth]) + "\n")
    code, printed, error = run_program(*recalibrate)
    assert code == 0 and printed.startswith("24 labeled crops of "), error
    code, _, error = run_program("predict", "data/theirs", "--propose", "3")
    assert code == 2 and "--propose is 3; it must be 4 or more" in error


def test_errors_have_one_line_and_leave_nothing(repository, monkeypatch):
    theirs = make_another_laboratory()
    crops = sorted(theirs.rglob("*.png"))
    first, last = crops[0].name, [crop.name for crop in crops[-6:]]

    def refused(said, rows, *arguments, output="models-ours"):
        given = [
            "recalibrate",
            "data/theirs",
            "--labels",
            str(table(rows)),
            "--output",
            output,
            *map(str, arguments),
        ]
        monkeypatch.setattr(sys, "argv", given)
        with pytest.raises(UserError) as error:
            stages.recalibrate.main()
        assert said in str(error.value) and "\n" not in str(error.value), error.value
        assert not Path("models-ours").exists()

    refused(
        "labels 0 positive and 6 negative crops; it lacks a positive crop",
        [(name, 0) for name in last],
    )
    refused(
        "labels 2 positive and 0 negative crops; it lacks a negative crop and 4 in all",
        [(name, 1) for name in last[:2]],
    )
    refused(
        "labels 1 positive and 2 negative crops; it lacks 1 more",
        [(first, 1), (last[0], 0), (last[1], 0)],
    )
    refused("line 2: 'none.png' is not in the folder of the crops", [("none.png", 1)])
    refused("line 3: the label of", [(first, 1), (last[0], 7)])
    refused("appears twice", [(first, 1), (first, 1)])
    refused("no column 'verdict'", [(first, 1)], "--label-column", "verdict")
    refused(
        "the folder of a model holds model.keras",
        [(first, 1), *((name, 0) for name in last)],
        "--model",
        "data",
    )
    refused("models already exists", [(first, 1)], output="models")
    refused(" already exists", [(first, 1)], output="")
    shutil.copytree("data/theirs/globally_sclerotic", "mixed")
    (Path("mixed") / first).write_bytes(b"")
    rows = [
        (name, int(number > 2))
        for number, name in enumerate(sorted(path.name for path in Path("mixed").iterdir())[:6])
    ]
    monkeypatch.setattr(
        sys,
        "argv",
        ["recalibrate", "mixed", "--labels", str(table(rows)), "--output", "models-ours"],
    )
    with pytest.raises(UserError, match="does not open as an image"):
        stages.recalibrate.main()
    assert not Path("models-ours").exists()


def test_leaves_out_crops_that_were_trained_on(repository):
    theirs, seen = make_another_laboratory(), trained_on()
    for crop in seen[:5]:
        shutil.copy(crop, theirs / crop.parent.name / f"copy-{crop.name}")
    crops = [crop for crop in ranked(theirs, share=0.4) if not crop.name.startswith("copy")][::4]
    labels = [(crop.name, int(number >= 5)) for number, crop in enumerate(crops)]
    labels = table(labels + [(crop.name, 0) for crop in theirs.rglob("copy-*")])
    code, printed, error = run_program(
        "recalibrate", theirs, "--labels", labels, "--output", "models-ours"
    )
    assert code == 0 and "left out: 5 crops that the model was trained on" in printed, error
    assert json.loads(Path("models-ours/recalibration.json").read_text())["crops"] == len(crops)
    labels = table([(crop.name, int(crop.parent.name == "globally_sclerotic")) for crop in seen])
    code, _, error = run_program(
        "recalibrate", "data/demo", "--labels", labels, "--output", "again"
    )
    assert (
        code == 1
        and "labels 0 positive and 0 negative crops; it lacks" in error
        and not Path("again").exists()
    )


def test_refuses_labels_that_recalibration_cannot_use(repository):
    theirs = make_another_laboratory()
    crops = ranked(theirs)

    def recalibrated(rows, *arguments):
        return run_program(
            "recalibrate",
            theirs,
            *("--labels", table(rows), "--output", "models-ours"),
            *arguments,
        )

    # Right for the highest and the lowest, but not between: as if drawn at random.
    code, _, error = recalibrated([(crop.name, row % 2) for row, crop in enumerate(crops)])
    assert code == 1 and "the model does not tell these crops apart (ROC AUC 0.5" in error
    # The corrections of a page: all of them contradict the model.
    predicted = dict(zip(*read_table("evaluation.csv", ("name", "predicted"))))
    wrong = [crop.relative_to(theirs).as_posix() for crop in crops[2:4] + crops[-4:-2]]
    corrections = [(name, 1 - int(predicted[name])) for name in wrong]
    corrections[0] = (corrections[0][0], 0)
    corrections[-1] = (corrections[-1][0], 1)
    of_class = [sum(int(label) == one for _, label in corrections) for one in (0, 1)]
    said = sum(int(predicted[name]) != label for name, label in corrections)
    code, _, error = recalibrated(corrections)
    assert code == 1 and min(of_class) > 0
    if said > 2:
        assert "labels contradict the predictions" in error and "--sampling corrections" in error
    assert not Path("models-ours").exists()
    code, _, error = run_program("recalibrate", theirs, "--unlabeled", "--output", "models-ours")
    assert code == 1 and "--unlabeled: this model has no novelty" in error
    assert run_program("recalibrate", theirs, "--output", "models-ours")[0] == 2


def test_recalibrates_on_real_crops(repository, real_data):
    folder = real_data / "kpmp_sample"
    arguments = (
        "--labels",
        folder / "public.csv",
        "--slide",
        "(?P<slide>.+?)_PAS",
        "--output",
        "models-ours",
    )
    code, printed, error = run_program("recalibrate", folder, *arguments)
    if "does not tell these crops apart" in error:
        assert code == 1 and not Path("models-ours").exists()
    else:
        assert code == 0, error
        assert printed.startswith("12 labeled crops of 3 slides: 7 positive, 5 negative")


def recalibrated(odds, positive):
    """Return crops of three slides, recalibrated; at home the classes are about -4 and 3."""
    y_true = np.repeat([0, 1], [len(odds) - positive, positive])
    y_score = expit(np.array(odds, dtype=np.float64)).astype(np.float32)
    slides = ["a", "b", "c"] * (len(odds) // 3)
    return Recalibrated(a_decision(), y_true, y_score, slides, None, "proposed")


def test_refuses_what_would_not_work():
    good = recalibrated([-5, -4.5, -4, -3.5, -3, -5, 2, 2.5, 3, 3.5, 4, 5], 6)
    good.refuse_useless(Path("few.csv"))
    chance = recalibrated([*[-50] * 5, -20, -40, -41, -42, -39, -38, 10], 6)
    with pytest.raises(UserError, match="few.csv: .*hardly better than chance"):
        chance.refuse_useless(Path("few.csv"))
    # Moved by more than 40, the two highest are 1.0 to 32 bits.
    equal = recalibrated([-40, -39, -38, -37, -36, 14, -22, -21, -20, -19, -18, 15], 6)
    with pytest.raises(UserError, match="different probabilities would become equal"):
        equal.refuse_useless(Path("few.csv"))
    of_class = good.rates["sensitivity"]
    of_class["after"] = of_class["after"]._replace(value=0.9)
    with pytest.raises(UserError, match="would predict these crops worse .sensitivity 1.000"):
        good.refuse_useless(Path("few.csv"))
