"""Predicting crops: tables, slides, labels, the page, and faulty folders and tables."""

import csv
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

import stages.predict
from stages.base.errors import UserError
from stages.base.files import sha256
from stages.evaluation.classifier import BATCH
from tests.fork_server import python
from tests.repositories import ENVIRONMENT, dvc, make_another_laboratory, run_program, set_params


def predict(*arguments):
    return run_program("predict", *arguments)


def rows(path):
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


def test_predicts_like_evaluate(repository):
    code, printed, error = predict("data/demo", "--per-slide", "slides.csv")
    assert code == 0, error
    predictions = {row["name"]: row for row in rows("evaluation.csv")}
    files = sorted(
        path.relative_to("data/demo").as_posix() for path in Path("data/demo").rglob("*.png")
    )
    assert list(predictions) == files
    decision = json.loads(Path("models/calibration.json").read_text())
    low, high = (2 if bound is None else bound for bound in decision["uncertain"].values())
    for row in rows("metrics/predictions.csv"):
        ours = predictions[row["path"]]
        assert float(ours["probability"]) == pytest.approx(float(row["probability"]), abs=1e-6)
        assert ours["predicted"] == row["predicted"] and ours["slide"] == row["slide"]
        between = low <= float(ours["probability"]) <= high
        assert ours["uncertain"] == str(int(between))
    sclerotic = sum(row["predicted"] == "1" for row in predictions.values())
    assert f"{len(files)} crops: {sclerotic} globally sclerotic" in printed
    for row in rows("slides.csv"):
        ours = [one for one in predictions.values() if one["slide"] == row["slide"]]
        sclerotic = sum(one["predicted"] == "1" for one in ours)
        assert (int(row["glomeruli"]), int(row["predicted_sclerotic"])) == (len(ours), sclerotic)
        assert float(row["low"]) <= float(row["percent"]) <= float(row["high"])
        assert row["adequate"] == str(int(len(ours) >= 25))


def test_predicts_a_labeled_table_with_a_fetched_model(repository, tmp_path):
    crops = sorted(make_another_laboratory().rglob("*.png"))
    crops = crops[:3] + crops[-3:]
    (tmp_path / "crops").mkdir()
    for crop in crops:
        shutil.copy(crop, tmp_path / "crops")
    names = [crop.name for crop in crops]
    table = tmp_path / "crops/list.csv"
    table.write_text(
        "name;truth\n"
        + "".join(f"{name};{int(number < 3)}\n" for number, name in enumerate(names)),
        encoding="utf-8-sig",
    )
    dvc("get", ".", "models", "--out", str(tmp_path / "fetched"))
    output = tmp_path / "out/predictions.csv"
    code, printed, error = predict(
        table,
        "--model",
        tmp_path / "fetched",
        "--output",
        output,
        "--labels",
        table,
        "--label-column",
        "truth",
    )
    assert code == 0, error
    predictions = rows(output)
    assert [row["name"] for row in predictions] == sorted(names)
    assert {row["name"]: row["label"] for row in predictions} == {
        name: str(int(n < 3)) for n, name in enumerate(names)
    }
    measures = json.loads(output.with_suffix(".metrics.json").read_text())
    assert measures["accuracy"] == pytest.approx(
        sum(row["label"] == row["predicted"] for row in predictions) / 6
    )
    assert f"sensitivity: {measures['sensitivity']:.3f}" in printed
    assert measures["trained_on"] == 0 and "left out" not in printed


def test_crops_that_were_trained_on_are_predicted_but_not_measured(repository, tmp_path):
    """Under any name; the crops of its test set were not trained on."""
    (tmp_path / "crops").mkdir()
    lines, parts = (
        ["name,ground truth"],
        {row["path"]: row["split"] for row in rows("data/split.csv")},
    )
    for number, path in enumerate(parts):
        shutil.copy(Path("data/demo") / path, tmp_path / f"crops/{number}.png")
        lines.append(f"{number}.png,{int(path.startswith('globally'))}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    code, printed, error = predict(
        tmp_path / "crops", "--labels", tmp_path / "labels.csv", "--slide", r"(?P<slide>\d+)\.png"
    )
    tests = sum(part == "test" for part in parts.values())
    assert (
        code == 0
        and f"left out: {len(parts) - tests} crops that the model was trained on" in printed
    ), error
    assert (
        f"warning: the model was trained on {len(parts) - tests} of these {len(parts)} crops"
        in error
    )
    assert len(rows("evaluation.csv")) == len(parts)
    measures, tested = (
        json.loads(Path(name).read_text())
        for name in ("evaluation.metrics.json", "metrics/measures.json")
    )
    assert measures["trained_on"] == len(parts) - tests and measures["roc_auc"] == pytest.approx(
        tested["roc_auc"]
    )


def test_external_refuses_the_training_dataset(repository):
    set_params({"external": []})
    code, _, error = run_program("external", "demo")
    assert code == 1 and "data/demo: it is the dataset that the model was trained on" in error
    shutil.copytree("data/demo", "data/renamed")
    shutil.copy("data/demo.yaml", "data/renamed.yaml")
    code, _, error = run_program("external", "renamed")
    assert code == 1 and "crops are of the dataset that the model was trained on" in error
    for crop in make_another_laboratory("theirs").rglob("*.png"):
        shutil.copy(crop, Path("data/renamed") / crop.parent.name / f"x-{crop.name}")
    Path("data/renamed.yaml").write_text(
        Path("data/renamed.yaml").read_text().replace("<slide>synthetic", "<slide>.*synthetic")
    )
    code, _, error = run_program("external", "renamed")
    assert code == 0, error
    trained = sum(row["split"] != "test" for row in rows("data/split.csv"))
    measures = json.loads(Path("metrics/external/renamed.measures.json").read_text())
    assert measures["trained_on"] == trained and measures["images"] == len(
        rows("metrics/external/renamed.csv")
    )
    assert f"the model was trained on {trained} of these" in error and "they are left out" in error
    set_params({"evaluate.trained_on": "refuse"})
    code, _, error = run_program("external", "renamed")
    assert code == 1 and "remove them, or set evaluate.trained_on to leave_out" in error


def test_refuses_a_threshold_of_another_training(repository):
    """As after `dvc repro train`, or a run that stopped there."""
    set_params({"train.seed": 5, "train.learning_rate": 0.01})
    dvc("repro", "train")
    said = "models/calibration.json: it was made for another model than models/model.json; run dvc"
    for program in (["predict", "data/demo"], ["evaluate"]):
        code, _, error = run_program(*program)
        assert code == 1 and said in error and error.count("\n") == 1, error
    assert not Path("evaluation.csv").exists()
    dvc("repro", "calibrate")
    code, _, error = predict("data/demo")
    assert code == 0, error


def test_unreadable_images_are_refused_or_skipped(repository):
    folder = Path("mixed")
    shutil.copytree("data/demo/globally_sclerotic", folder)
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not an image")
    code, _, error = predict(folder)
    assert code == 1 and not Path("evaluation.csv").exists()
    assert (
        "mixed/empty.png does not open as an image" in error
        and "mixed/text.jpg does not open" in error
    )
    assert error.count("error: ") == 1
    # The others are not predicted again.
    sclerotic = len(list(folder.iterdir())) - 2
    assert f"note: the other {sclerotic} predictions are kept" in error
    kept = Path("evaluation.csv.scores.part").read_text().splitlines()
    assert len(kept) == 1 + sclerotic
    code, printed, error = predict(folder, "--unreadable", "skip")
    assert not Path("evaluation.csv.scores.part").exists()
    assert code == 0 and "2 skipped" in printed and "warning: skipped: mixed/empty.png" in error
    names = [row["name"] for row in rows("evaluation.csv")]
    assert "empty.png" not in names and len(names) == len(list(folder.iterdir())) - 2
    assert [row["name"] for row in rows("evaluation.unreadable.csv")] == ["empty.png", "text.jpg"]


@pytest.mark.slow
def test_goes_on_after_a_kill_to_the_same_table(repository):
    """SIGKILL leaves no time to clean up, and may leave half a line."""
    script = (
        "import os, signal, sys\n"
        "from stages import predict; from stages.evaluation import finished\n"
        "killed = int(sys.argv.pop(1)); plain = finished.Finished.add; count = rows = 0\n"
        "def add(self, crops):\n"
        "    global count, rows\n"
        "    crops = list(crops); plain(self, crops); count += 1; rows += len(crops)\n"
        "    if count == killed:\n"
        "        self._stream.write(b'[\"torn'); self._stream.flush()\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "finished.Finished.add = add; predict.main(); print('predicted', rows)\n"
    )

    def run(killed: int) -> subprocess.CompletedProcess:
        command = [python(), "-c", script, str(killed), "data/demo"]
        return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)

    crops = len(list(Path("data/demo").rglob("*.png")))
    whole = run(0)
    assert f"predicted {crops}\n" in whole.stdout, whole.stderr
    expected = Path("evaluation.csv").read_bytes()
    Path("evaluation.csv").unlink()
    assert run(1).returncode == -signal.SIGKILL
    assert not Path("evaluation.csv").exists()
    # A crop that has changed since is predicted again.
    first = min(Path("data/demo").rglob("*.png"))
    os.utime(first, ns=(0, 0))
    rest = run(0)
    assert f"predicted {crops - BATCH + 1}\n" in rest.stdout, rest.stderr
    assert Path("evaluation.csv").read_bytes() == expected
    assert not Path("evaluation.csv.scores.part").exists()
    Path("evaluation.csv.scores.part").write_text("mine")
    assert (
        "evaluation.csv.scores.part: it is not of this program; move it elsewhere" in run(0).stderr
    )


def test_errors_have_one_line(repository, tmp_path, monkeypatch):
    def refused(said, *arguments):
        monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
        with pytest.raises(UserError) as error:
            stages.predict.main()
        assert said in str(error.value)

    (tmp_path / "list.csv").write_text("name\n../mine/data/demo.yaml\n")
    (tmp_path / "few.csv").write_text("name,ground truth\na.png,1\n")
    (tmp_path / "empty").mkdir()
    refused("is neither a folder nor a file", "nowhere")
    refused("holds no image", tmp_path / "empty")
    refused("'../mine/data/demo.yaml' is not in", tmp_path / "list.csv")
    refused("no column 'name'", "data/split.csv")
    refused("the folder of a model holds model.keras", "data/demo", "--model", tmp_path)
    refused("no label of", "data/demo", "--labels", tmp_path / "few.csv")
    refused("--slide (: not a regular expression", "data/demo", "--slide", "(")
    refused(
        "--slide (.*): it must have the named group (?P<slide>...)", "data/demo", "--slide", "(.*)"
    )
    refused(
        "--slide (?P<slide>x\\d) does not match globally_",
        "data/demo",
        "--slide",
        r"(?P<slide>x\d)",
    )
    refused(
        " (1 of ",
        "data/demo",
        "--slide",
        r"(?P<slide>synthetic-(?!A1_001).)",
        "--per-slide",
        "slides.csv",
    )
    refused("does not match", crops_of_no_slide(tmp_path), "--per-slide", "slides.csv")
    refused(
        "the model knows no pattern of slides",
        "data/demo",
        "--model",
        without_pattern(tmp_path),
        "--per-slide",
        "s.csv",
    )
    shutil.copytree("models", tmp_path / "broken")
    (tmp_path / "broken/calibration.json").write_text("{}")
    refused(
        "calibration.json is not as its stage wrote it", "data/demo", "--model", tmp_path / "broken"
    )
    shutil.copy("models/calibration.json", tmp_path / "broken")
    (tmp_path / "broken/model.keras").write_bytes(b"PK")
    refused("model.keras: it is not the file that", "data/demo", "--model", tmp_path / "broken")


def crops_of_no_slide(folder):
    shutil.copytree("data/demo/globally_sclerotic", folder / "unnamed")
    for number, file in enumerate(sorted((folder / "unnamed").iterdir())):
        file.rename(file.with_name(f"crop {number}.png"))
    return folder / "unnamed"


def without_pattern(folder):
    shutil.copytree("models", folder / "unpatterned")
    card = json.loads((folder / "unpatterned/model.json").read_text())
    del card["dataset"]["card"]["group"]
    (folder / "unpatterned/model.json").write_text(json.dumps(card))
    decision = json.loads((folder / "unpatterned/calibration.json").read_text())
    decision["model_sha256"] = sha256(folder / "unpatterned/model.json")
    (folder / "unpatterned/calibration.json").write_text(json.dumps(decision))
    return folder / "unpatterned"


def test_warns_of_unknown_slides(repository, tmp_path):
    code, _, error = predict(crops_of_no_slide(tmp_path))
    assert code == 0 and {row["slide"] for row in rows("evaluation.csv")} == {""}
    assert error.count("does not match crop 0.png") == 1 and "their slide is not known" in error


def test_outputs_overwrite_no_input(repository, tmp_path, monkeypatch):
    crops = tmp_path / "crops"
    shutil.copytree("data/demo/globally_sclerotic", crops)
    names = sorted(file.name for file in crops.iterdir())
    (crops / "list.csv").write_text(
        "name,ground truth\n" + "".join(f"{name},1\n" for name in names)
    )
    os.mkfifo(tmp_path / "pipe")
    shutil.copy(crops / "list.csv", tmp_path / "labels.csv")
    shutil.copy(crops / "list.csv", tmp_path / "evaluation.metrics.json")
    before = {
        file: file.read_bytes()
        for file in [*crops.iterdir(), *Path("models").iterdir(), tmp_path / "labels.csv"]
    }
    for said, arguments in {
        "--output would write over": ["--output", crops / "list.csv"],
        f"--output would write over {crops / names[0]}": ["--output", crops / names[0]],
        "--html would write over": ["--html", "models/model.json"],
        "--per-slide would write over": [
            "--labels",
            tmp_path / "labels.csv",
            "--per-slide",
            tmp_path / "labels.csv",
        ],
        "the file of measures would write over": [
            *("--labels", tmp_path / "evaluation.metrics.json"),
            *("--output", tmp_path / "evaluation.csv"),
        ],
        "--per-slide and --output are the same file": [
            "--output",
            "a.csv",
            "--per-slide",
            "./a.csv",
        ],
        "--html and --output are the same file": ["--html", "evaluation.csv"],
        "the list of what does not open": ["--html", "evaluation.unreadable.csv"],
        "--output: '.' is not the name of a file": ["--output", "."],
        "--html: '.' is not the name of a file": ["--html", ""],
        "neither a file nor a device": ["--output", tmp_path / "pipe"],
        "is a folder": ["--per-slide", tmp_path],
        "is not a folder": ["--output", crops / "list.csv" / "below.csv"],
    }.items():
        monkeypatch.setattr(sys, "argv", ["predict", str(crops / "list.csv"), *map(str, arguments)])
        with pytest.raises(UserError) as error:
            stages.predict.main()
        assert said in str(error.value), (said, error.value)
    assert before == {file: file.read_bytes() for file in before}
    assert not Path("evaluation.csv").exists()

    (tmp_path / "real.csv").touch()
    Path("link.csv").symlink_to(tmp_path / "real.csv")
    code, printed, error = predict(
        crops, "--output", "link.csv", "--slide", r"(?P<slide>synthetic-\w\d+)"
    )
    assert code == 0 and Path("link.csv").is_symlink() and len(rows("link.csv")) == len(names), (
        error
    )
    code, printed, error = predict(
        crops, "--output", "/dev/stdout", "--slide", r"(?P<slide>synthetic-\w\d+)"
    )
    assert code == 0 and printed.startswith("name,predicted,probability,uncertain,slide\n"), error


def test_lists_what_is_left_out_and_removes_stale_outputs(repository, tmp_path):
    folder = tmp_path / "crops"
    shutil.copytree("data/demo/globally_sclerotic", folder)
    (folder / "empty.png").touch()
    for name in ("a.heic", "b.svs", "c.avif", "without", ".DS_Store"):
        (folder / name).touch()
    (folder / "@eaDir").mkdir()
    shutil.copy(next(folder.glob("*.png")), folder / "@eaDir/thumb.png")
    labels = tmp_path / "labels.csv"
    labels.write_text(
        "name,ground truth\nempty.png,1\n" + "".join(f"{f.name},1\n" for f in folder.glob("synth*"))
    )
    code, _, error = predict(folder, "--unreadable", "skip", "--labels", labels)
    assert code == 0, error
    assert Path("evaluation.unreadable.csv").is_file() and Path("evaluation.metrics.json").is_file()
    for name in ("a.heic", "b.svs", "c.avif", "without"):
        assert f"warning: left out, not images by their name: {name}\n" in error
    assert "ignored 2 hidden files or folders, or leftovers" in error
    assert "('.DS_Store', '@eaDir/')" in error
    assert not [row for row in rows("evaluation.csv") if "eaDir" in row["name"]]
    (folder / "empty.png").unlink()
    assert predict(folder)[0] == 0
    assert (
        not Path("evaluation.unreadable.csv").exists()
        and not Path("evaluation.metrics.json").exists()
    )


def test_slide_names_are_compared_in_unicode_normal_form(repository, tmp_path):
    crops = sorted(Path("data/demo/globally_sclerotic").iterdir())[:4]
    (tmp_path / "crops").mkdir()
    for number, crop in enumerate(crops):
        name = unicodedata.normalize("NFD" if number % 2 else "NFC", f"Müller_{number}.png")
        shutil.copy(crop, tmp_path / "crops" / name)
    code, _, error = predict(
        tmp_path / "crops", "--slide", "(?P<slide>.+)_", "--per-slide", "slides.csv"
    )
    assert code == 0, error
    assert [(row["slide"], row["glomeruli"]) for row in rows("slides.csv")] == [("Müller", "4")]


def test_escapes_names_that_a_spreadsheet_would_run(repository, tmp_path):
    crop = next(Path("data/demo/globally_sclerotic").iterdir())
    (tmp_path / "crops").mkdir()
    names = ["=HYPERLINK(1)_1.png", "+a_2.png", "-a_3.png", "@SUM(A1)_4.png", "<b>_5.png"]
    for name in names:
        shutil.copy(crop, tmp_path / "crops" / name)
    code, _, error = predict(
        tmp_path / "crops", "--slide", "(?P<slide>.+)_", "--per-slide", "slides.csv"
    )
    assert code == 0, error
    for table in ("evaluation.csv", "slides.csv"):
        for row in rows(table):
            assert not row["slide"].startswith(("=", "+", "-", "@"))
    assert {row["name"].lstrip("'") for row in rows("evaluation.csv")} == set(names)
    # What it wrote it reads.
    shutil.copy("evaluation.csv", tmp_path / "crops/list.csv")
    code, printed, error = predict(
        tmp_path / "crops/list.csv", "--slide", "(?P<slide>.+)_", "--output", "again.csv"
    )
    assert code == 0 and "5 crops" in printed, error


def test_predicts_a_single_crop(repository):
    crop = next(Path("data/demo/globally_sclerotic").iterdir())
    code, printed, error = predict(crop)
    assert (
        code == 0
        and printed.startswith("1 crops")
        and rows("evaluation.csv")[0]["name"] == crop.name
    ), error


def test_a_page_replaces_neither_crops_nor_tables(repository, tmp_path):
    crops = tmp_path / "S1-crops"
    shutil.copytree("data/demo/globally_sclerotic", crops)
    before = {file: file.read_bytes() for file in crops.iterdir()}
    table = tmp_path / "page-crops/evaluation.csv"
    first = min(before)
    for page, there, more in (("S1", first, ()), ("page", table, ("--output", table))):
        code, _, error = predict(crops, "--html", tmp_path / f"{page}.html", *more)
        said = f"--html: the page would replace the files in {tmp_path / page}-crops, and {there}"
        assert code == 1 and said in error and error.count("\n") == 1, error
    assert before == {file: file.read_bytes() for file in crops.iterdir()}
    assert not Path("evaluation.csv").exists() and not table.parent.exists()


def test_the_page_needs_no_network(repository, tmp_path):
    folder = tmp_path / "crops"
    shutil.copytree("data/demo/globally_sclerotic", folder)
    evil = '<img src=x onerror=alert(1)>&".png'
    others = [
        "'><svg onload=alert(1)>.png",
        '=HYPERLINK("x","y").png',
        "{{figures}}.png",
        "\u202egnp.exe.png",
    ]
    for file, name in zip(sorted(folder.iterdir()), [evil, *others]):
        file.rename(folder / name)
    code, _, error = predict(
        folder, "--html", "page.html", "--slide", r"(?P<slide>synthetic-\w\d+)"
    )
    assert code == 0, error
    page = Path("page.html").read_text(encoding="utf-8")
    predictions = rows("evaluation.csv")
    assert (
        page.count('<li class="crop')
        == page.count("data:image/webp;base64,")
        == page.count("data:image/png;base64,")
        == len(predictions)
    )
    assert evil not in page and html.escape(evil).replace("&quot;", "&#34;") in page
    assert not re.findall(r"https?:|//[a-z]", re.sub(r"base64,[^\"]+", "", page))
    shown = [float(value) for value in re.findall(r"<b>([\d.]+)</b></p>", page)]
    assert len(shown) == len(predictions) and shown == sorted(shown, reverse=True)
    assert "globally sclerotic <b>" in page and "Synthetic PAS-like glomeruli" in page


def test_predicts_real_crops(repository, real_data, tmp_path):
    folder = real_data / "kpmp_sample"
    output = tmp_path / "kpmp.csv"
    code, _, error = predict(
        folder,
        "--labels",
        folder / "public.csv",
        "--output",
        output,
        "--slide",
        "(?P<slide>.+?)_PAS",
    )
    assert code == 0, error
    predictions = rows(output)
    assert len(predictions) == 12 and {row["slide"] for row in predictions} == {
        "18-162",
        "32-2",
        "S-1905-017550",
    }
    assert sum(row["label"] == "1" for row in predictions) == 7
