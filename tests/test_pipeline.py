"""The pipeline with the real dvc in a temporary repository: what runs, what does not run again,
what DVC then shows.
"""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import feature_settings
from stages.base.files import read_table, sha256
from stages.dataset.cohort import CLASS_NAMES
from stages.experiments.clone import compare_hashes
from stages.experiments.settings import flatten
from tests.conftest import PROJECT, save_crop, set_params
from tests.fork_server import python
from tests.imports import code_of, expanded, without_docstrings
from tests.repositories import (
    ENVIRONMENT,
    STAGES,
    dvc,
    git,
    make_another_laboratory,
    read_stages,
    stages_run,
)

# An edit of the code of these costs more than seconds.
SLOW = ("features", "train")
DVC_FILES = ("data/dvc.yaml", "dvc.yaml")


@pytest.fixture(scope="module")
def shared(reproduced, tmp_path_factory):
    """A repository with committed results for all tests here."""
    return shutil.copytree(reproduced, tmp_path_factory.mktemp("shared") / "mine", symlinks=True)


@pytest.fixture
def workspace(shared):
    """The repository as committed; what a test changes is undone."""
    before = Path.cwd()
    os.chdir(shared)
    yield shared
    # Of this repository, wherever the test has gone.
    os.chdir(shared)
    git("reset", "-q", "--hard")
    dvc("checkout", "-q")
    os.chdir(before)


def test_a_second_repro_has_nothing_to_do_and_git_is_clean(workspace):
    assert stages_run(dvc("repro")) == []
    assert git("status", "--porcelain") == ""
    for file in (
        "metrics/test.json",
        "metrics/split.json",
        "metrics/predictions.csv",
        "models/model.keras",
        "metrics/plots/mistakes.png",
    ):
        assert Path(file).is_file()


def test_the_model_card_says_how_good_the_model_is(workspace):
    card = Path("models/README.md").read_text()
    measures = json.loads(Path("metrics/measures.json").read_text())
    for name, title in (("roc_auc", "ROC AUC"), ("sensitivity", "sensitivity")):
        value, span = measures[name], measures["interval_95"][name]
        limits = f"{span['low']:.3f} to {span['high']:.3f}" if span else "none"
        assert f"| {title} | {value:.3f} | {limits} |" in card
    crops = json.loads(Path("metrics/split.json").read_text())["images"]["test"]
    positive = crops["globally_sclerotic"]
    assert f"\n| test | {sum(crops.values())} | {positive} (" in card


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("evaluate.prevalence", 0.1, ["evaluate", "model_card"]),
        ("calibrate.threshold_rule", "youden", ["calibrate", "evaluate", "model_card"]),
        ("split.fold", 1, ["split", "train", "calibrate", "evaluate", "model_card"]),
    ],
)
def test_a_parameter_reruns_only_what_depends_on_it(workspace, name, value, expected):
    set_params({name: value})
    assert stages_run(dvc("repro")) == expected


def test_a_new_version_of_a_package_reruns_what_computes_with_it_alone(workspace):
    for package, stages in (
        ("tensorflow", ["features", "train", "evaluate"]),
        ("scikit-learn", STAGES),
    ):
        (file,) = [file for file in Path("pins").iterdir() if f"{package}==" in file.read_text()]
        pinned = file.read_text()
        file.write_text(pinned.replace(f"{package}==", f"{package}==99."))
        changed = re.findall(
            r"^(?:data/dvc\.yaml:)?(\w+):\n(?:\t.*\n)*?\t\tmodified: +(?:\.\./)?pins/",
            dvc("status"),
            flags=re.MULTILINE,
        )
        assert sorted(changed) == sorted(stages)
        file.write_text(pinned)


def from_cache(output):
    """The stages whose results were there, or came from DVC's run cache; and none has run."""
    assert stages_run(output) == [], output
    found = re.findall(
        r"^Stage '([\w@]+)' (?:is cached - skipping run|didn't change)", output, flags=re.MULTILINE
    )
    assert len(found) == len(set(found))
    return found


def test_nothing_is_computed_twice(repository):
    """On two branches that differ in every stage, and in a colleague's clone of them."""
    changes = {
        "manifest.unreadable": "skip",
        "split.fold": 1,
        "pad.mode": "edge",
        "train.seed": 5,
        "evaluate.prevalence": 0.1,
    }
    main = git("branch", "--show-current").strip()
    dvc("remote", "add", "-d", "store", str(repository.parent / "store"))
    make_another_laboratory()
    dvc("add", "data/theirs")
    git("add", "-A")
    git("commit", "-q", "-a", "-m", "A remote")
    git("checkout", "-q", "-b", "other")
    set_params(changes | {"calibrate.threshold_rule": "youden", "external": ["theirs"]})
    output = dvc("repro")
    # No parameter changes the crops, and without a backbone there are no features.
    ran = {*stages_run(output), "crops", "features", "feature_settings", "demo"}
    assert ran == {*STAGES, "external@theirs"}, output
    sent = Path("metrics/external/theirs.measures.json").read_text()
    assert json.loads(sent)["calibration_sha256"] == sha256("models/calibration.json")
    for names in read_table("metrics/external/theirs.csv", ("path", "slide")):
        assert not [name for name in names if name in sent]
    own = [stage for stage in STAGES if stage != "demo"]  # `demo` is in another dvc.yaml.
    git("add", "-A")
    git("commit", "-q", "-m", "Other results")
    results = {main: own, "other": [*own, "external@theirs"]}
    for branch in (main, "other"):
        for folder in ("models", "metrics", "data/padded"):
            shutil.rmtree(folder)
        git("checkout", "-q", ".")
        git("checkout", "-q", branch)
        assert sorted(from_cache(dvc("repro"))) == sorted(results[branch])
        assert git("status", "--porcelain") == ""
        assert Path("metrics/train/metrics.json").is_file() and Path("metrics/slides.csv").is_file()

    dvc("push", "--run-cache", "--all-branches")
    os.chdir(repository.parent)
    git("clone", "-q", "mine", "theirs")
    os.chdir("theirs")
    for branch in ("other", main):
        git("checkout", "-q", branch)
        dvc("pull", "--run-cache")
        if branch == "other":
            for folder in ("models", "metrics", "data/padded"):
                shutil.rmtree(folder, ignore_errors=True)
            git("checkout", "-q", ".")
            # What git keeps is in no clone's cache, so that DVC's checkout comes before.
            dvc("checkout")
        assert sorted(from_cache(dvc("repro"))) == sorted(results[branch])
        assert git("status", "--porcelain") == ""
        same = (
            Path("models/model.keras").read_bytes()
            == (repository / "models/model.keras").read_bytes()
        )
        assert same == (branch == "other")


@pytest.mark.parametrize("file", DVC_FILES)
def test_a_lock_file_lists_the_stages_of_its_dvc_yaml(file):
    """A leftover entry lends its parameters to the pipeline that `compare` reads."""
    external = YAML(typ="safe").load(PROJECT / "params.yaml")["external"]
    stages = set()
    for name, stage in YAML(typ="safe").load(PROJECT / file)["stages"].items():
        stages |= {f"{name}@{item}" for item in external} if "foreach" in stage else {name}
    locked = YAML(typ="safe").load((PROJECT / file).with_suffix(".lock"))["stages"]
    assert set(locked) == stages


def test_no_output_keeps_its_stage_out_of_the_run_cache():
    """DVC takes an output that git keeps for a result of the stage only if it is a metric or a
    plot.
    """
    for name, stage in read_stages().items():
        outputs = [output for output in stage["outs"] if isinstance(output, dict)]
        kept = [about.get("cache", True) for output in outputs for about in output.values()]
        assert all(kept), name


def test_an_experiment_shows_and_compares(workspace):
    output = dvc("exp", "run", "-n", "another-step", "-S", "model.step=conv0-dense1")
    expected = ["feature_settings", "train", "calibrate", "evaluate", "model_card"]
    assert stages_run(output) == expected
    shown = json.loads(dvc("exp", "show", "--json"))
    experiments = [experiment for row in shown for experiment in row.get("experiments") or []]
    assert [experiment["name"] for experiment in experiments] == ["another-step"]
    data = experiments[0]["revs"][0]["data"]
    assert data["params"]["params.yaml"]["data"]["model"]["step"] == "conv0-dense1"
    assert "roc_auc" in data["metrics"]["metrics/test.json"]["data"]
    params = json.loads(dvc("params", "diff", "--json"))["params.yaml"]
    assert params["model.step"] == {"old": "logistic", "new": "conv0-dense1"}
    changed = json.loads(dvc("metrics", "diff", "--json"))["metrics/test.json"]
    assert changed["accuracy"]["diff"] == pytest.approx(
        changed["accuracy"]["new"] - changed["accuracy"]["old"]
    )
    report = dvc("plots", "diff", "--out", "report")
    html = Path("report/index.html").read_text()
    assert "index.html" in report
    for title in (
        "ROC curve, test slides",
        "Confusion matrix, test slides",
        "Loss",
        "Calibration, test slides",
        "padding.png",
    ):
        assert title in html, title


def test_what_a_terminal_shows_is_read_without_wrapping(workspace):
    """And nothing in it is called `error`, which DVC takes for a failure to read."""
    make_another_laboratory()
    dvc(
        "exp",
        "run",
        "-n",
        "shown",
        "-S",
        "calibrate.threshold_rule=youden",
        "-S",
        "external=[theirs]",
    )
    shown = dvc("metrics", "show")
    assert "failed to load" not in shown and "metrics/external/theirs.json" in shown
    differences = dvc("metrics", "diff", "--all")
    assert max(map(len, [*shown.splitlines(), *differences.splitlines()])) <= 120
    assert {"roc_auc", "sensitivity", "specificity", "precision", "accuracy"} <= set(shown.split())
    assert {"crops", "pos", "slides"} <= set(shown.split()) and "leakage" not in shown
    few = json.loads(Path("metrics/test.json").read_text())
    assert all(round(value, 4) == value for value in few.values()) and 5 <= len(few) <= 12
    all_of_them = json.loads(Path("metrics/measures.json").read_text())
    for name in ("roc_auc", "accuracy"):
        assert few[name] == round(all_of_them[name], 4)
    assert few["pos"] == all_of_them["positives"]
    for file in {*Path("metrics").rglob("*.json")} - {Path("metrics/plots/made_with.json")}:
        assert "error" not in {
            key.split(".")[-1] for key in flatten(json.loads(file.read_text()))
        }, file
    shutil.rmtree("data/theirs")
    Path("data/theirs.yaml").unlink()


def test_own_data_in_five_lines(workspace):
    """As the README says; also in a temporary folder, which has only what git and DVC know."""
    for slide in range(9):
        for number, kind in enumerate(("sclerotic", "healthy", "healthy")):
            save_crop(Path(f"data/mine/{kind}/case-{slide}_{number}.png"), seed=10 * slide + number)
    Path("data/mine.yaml").write_text(
        "title: Our own\nclasses: [healthy, sclerotic]\ngroup: '(?P<slide>.+)_\\d+\\.png$'\n"
        "source: x\nlicense: x\n"
    )
    dvc("add", "data/mine")
    git("add", "data/mine.dvc", "data/mine.yaml", "data/.gitignore")
    assert "data/mine/" not in git("status", "--porcelain")
    output = dvc("exp", "run", "--temp", "-n", "own", "-S", "data=mine")
    assert stages_run(output)[0] == "crops" and "drawing synthetic glomeruli" not in output
    assert "Our own: 27 glomeruli, 9 of them globally sclerotic, 9 slides" in output
    assert "Ran experiment(s): own" in output


def test_one_of_three_shards_is_changed(repository):
    """Git has the cards and the notes of DVC, which sees the change in the folder of the whole."""
    for number, name in enumerate(("a", "b", "c")):
        for slide in range(3):
            for crop, kind in enumerate(("sclerotic", "healthy", "healthy")):
                path = Path(f"data/network/{name}/{kind}/s{slide}_{crop}.png")
                save_crop(path, seed=1000 * number + 10 * slide + crop)
        Path(f"data/network/{name}.yaml").write_text(
            "title: t\nclasses: [healthy, sclerotic]\ngroup: '{slide}_{number}'\n"
        )
    Path("data/network.yaml").write_text("title: Ours\nshards: [a, b, c]\n")
    dvc("add", "-q", "data/network/a", "data/network/b", "data/network/c")
    git("add", "-A")
    assert sorted(git("diff", "--name-only", "--cached", "--", "data").split()) == [
        "data/network.yaml",
        *(f"data/network/{name}.{kind}" for name in "abc" for kind in ("dvc", "yaml")),
    ]
    set_params({"data": "network"})
    git("commit", "-q", "-a", "-m", "A network")
    assert stages_run(dvc("repro", "split")) == ["crops", "manifest", "split"]
    Path("data/network/b/sclerotic/s0_0.png").unlink()
    again = dvc("repro", "split")
    assert "`dvc add data/network/b`" in again and "dvc add data/network`" not in again
    assert "Ours: 26 glomeruli, 8 of them globally sclerotic, 9 slides" in again
    assert git("diff", "--name-only", "--", "data").split() == ["data/network/b.dvc"]
    # In the folder of an experiment, too.
    Path("data/network/c/sclerotic/s0_0.png").unlink()
    dvc("add", "-q", "data/network/c")
    git("commit", "-q", "-a", "-m", "Two shards are changed")
    shutil.rmtree("data/network/a")
    dvc("checkout", "-q", "data/network/a.dvc")
    temporary = dvc("exp", "run", "--temp", "-n", "changed", "split")
    assert "Ours: 25 glomeruli, 7 of them globally sclerotic, 9 slides" in temporary


def test_three_readers(workspace):
    """Two err on every fifth crop, and the third has not read every seventh."""
    crops = sorted(path.relative_to("data/demo") for path in Path("data/demo").rglob("*.png"))
    shutil.copytree("data/demo", "data/read")
    lines = ["name,a,b,c"]
    for number, crop in enumerate(crops):
        true = int(crop.parts[0] == CLASS_NAMES[1])
        labels = (
            true,
            true ^ (number % 5 == 0),
            "" if number % 7 == 0 else true ^ (number % 5 == 1),
        )
        lines.append(",".join(map(str, (crop, *labels))))
    Path("data/read/labels.csv").write_text("\n".join(lines) + "\n")
    card = Path("data/demo.yaml").read_text()
    card = re.sub(
        "^classes.*$",
        "labels: labels.csv\ncolumns: {name: name, readers: [a, b, c]}",
        card,
        flags=re.M,
    )
    Path("data/read.yaml").write_text(card)
    set_params({"data": "read"})
    dvc("repro")
    Path("data/read/notes.txt").write_text("Scanned twice.")
    assert stages_run(dvc("repro")) == ["crops", "manifest", "model_card"]
    with open("metrics/no_consensus.csv", newline="") as file:
        ties = [row["path"] for row in csv.DictReader(file)]
    assert ties == [str(crop) for number, crop in enumerate(crops) if number % 35 == 0]
    found = json.loads(Path("metrics/measures.json").read_text())["readers"]
    assert found["of_all"]["crops"] == len(crops) and found["of_all"]["no_consensus"] == len(ties)
    assert [one["reader"] for one in found["model"]] == ["a", "b", "c"]
    pair = found["of_all"]["pairs"][0]
    assert pair["readers"] == ["a", "b"] and pair["agreement"]["value"] == pytest.approx(
        1 - len(crops[::5]) / len(crops)
    )
    model = Path("models/README.md").read_text()
    assert f"`majority` of 3 readers; {len(ties)} files without a consensus" in model
    assert "| a and b |" in model and "| the model and c |" in model


def test_experiments_side_by_side_do_not_disturb_each_other(workspace):
    """Two workers of the queue, each in a temporary folder, and the workspace: the same gives the
    same bytes.
    """
    dvc("exp", "run", "--queue", "-n", "queued-a", "-S", "train.seed=1")
    dvc("exp", "run", "--queue", "-n", "queued-b", "-S", "train.seed=2")
    dvc("queue", "start", "-j", "2")
    set_params({"train.seed": 2})
    dvc("repro", "--no-run-cache")
    while len(re.findall("Success|Failed", status := dvc("queue", "status"))) < 2:
        time.sleep(0.5)
    assert "Failed" not in status, dvc("queue", "logs", "queued-a", check=False) + dvc(
        "queue", "logs", "queued-b", check=False
    )
    dvc("queue", "stop", check=False)

    locks = {name: git("show", f"{found(name)}:dvc.lock") for name in ("queued-a", "queued-b")}
    assert Path("dvc.lock").read_text() == locks["queued-b"] != locks["queued-a"]


def found(experiment):
    """The commit of an experiment."""
    return next(
        line.split()[0] for line in git("show-ref").splitlines() if line.endswith(f"/{experiment}")
    )


def test_verify_finds_the_same_bytes_under_other_circumstances(workspace):
    """Another folder, umask and number of workers, and an empty cache."""
    elsewhere = {"LOKY_MAX_CPU_COUNT": "1", "PYTHONPATH": str(workspace)}
    done = subprocess.run(
        [python(), "-m", "stages.verify"],
        env=os.environ | elsewhere,
        preexec_fn=lambda: os.umask(0o077),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(
        r"^all \d+ outputs are the same, byte by byte$", done.stdout, flags=re.MULTILINE
    )
    assert "     same  train: models/model.keras" in done.stdout
    assert "DIFFERENT" not in done.stdout


def test_locale_time_zone_and_hash_seed_change_no_bytes(workspace):
    elsewhere = {"LC_ALL": "C", "TZ": "Asia/Tokyo", "PYTHONHASHSEED": "77"}
    elsewhere["GLOMERULI_COMPUTE_ALL"] = "1"
    for stage in STAGES[1:]:  # `demo` was drawn.
        command = [sys.executable, "-m", f"stages.{stage}"]
        done = subprocess.run(command, env=ENVIRONMENT | elsewhere, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert "modified:" not in (status := dvc("status")), status


def test_verify_says_which_output_differs():
    committed = {
        ("train", "models/model.keras"): "aa",
        ("pad", "data/padded"): "bb",
        ("demo", "data/demo"): "cc",
    }
    found = {("train", "models/model.keras"): "ab", ("pad", "data/padded"): "bb"}
    assert compare_hashes(committed, found) == [
        ("DIFFERENT", "train: models/model.keras"),
        ("same", "pad: data/padded"),
        ("DIFFERENT", "demo: data/demo"),
    ]


def test_verify_without_results_or_revision_is_one_line(workspace):
    command = [python(), "-m", "stages.verify"]
    done = subprocess.run([*command, "HEAD~1"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert (
        "error: dvc.lock: it is not in this revision, so there are no results to verify"
        in done.stderr
    )
    done = subprocess.run([*command, "no-such-branch"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no-such-branch" in done.stderr


def test_a_mistake_of_the_user_is_one_line_and_no_traceback(workspace):
    set_params({"pad.mode": "blue"})
    output = dvc("repro", check=False)
    assert "params.yaml: pad.mode is 'blue'" in output
    assert "Traceback" not in output
    assert "failed to reproduce 'pad'" in output


def test_features_depend_on_what_changes_them(workplace):
    set_params({"model.step": "efficientnet_lite0"})

    def settings(**changes):
        set_params(changes)
        feature_settings.main()
        return feature_settings.SETTINGS.read_text()

    first = settings()
    of_the_head = {"model.dense_units": 7, "model.conv_filters": 7, "model.head": "knn"}
    assert settings(**of_the_head, **{"train.augment.rotation": 7}) == first
    assert settings(**{"model.views": 2}) != first
    jittered = settings(**{"model.views": 8, "model.jittered_views": 1})
    assert jittered != first
    assert settings(**{"train.augment.rotation": 8}) != jittered
    assert settings(**{"model.step": "logistic", "model.head": "logistic"}) == "{}\n"


def append(file, line):
    with open(file, "a", encoding="utf-8") as lines:
        lines.write(f"{line}\n")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["data/demo.yaml"], ["manifest", "model_card"]),
        (["data/labels/README.md"], ["manifest"]),
        (["stages/predict.py", "stages/evaluation/page/page.js"], []),
        (
            ["stages/images/squares.py"],
            ["manifest", "pad", "near_duplicates", "feature_settings", "evaluate"],
        ),
    ],
)
def test_an_edit_reruns_what_it_can_change(workspace, files, expected):
    for file in files:
        append(file, "// Another." if file.endswith("js") else "# Another.")
    assert stages_run(dvc("repro")) == expected


def test_a_corrected_label_reruns_neither_crops_nor_pad_nor_features(workspace):
    crop = next(Path("data/demo", CLASS_NAMES[1]).iterdir())
    Path("data/labels/demo").mkdir()
    Path("data/labels/demo/ours.csv").write_text(f"path,label\n{CLASS_NAMES[1]}/{crop.name},0\n")
    append("data/demo.yaml", "corrections: ours.csv")
    assert stages_run(dvc("repro", "manifest")) == ["manifest"]
    assert git("status", "--porcelain", "data/labels") == "?? data/labels/demo/\n"
    changed = re.findall(r"^(\w+):$", dvc("status"), flags=re.MULTILINE)
    assert {"split", "train", "evaluate"} <= set(changed)
    assert not {"crops", "manifest", "pad", "features"} & set(changed)
    shutil.rmtree("data/labels/demo")


def test_a_new_stage_with_a_block_of_parameters_reruns_no_other(workspace):
    Path("stages/other").mkdir()
    for file, text in {
        "stages/other/__init__.py": '"""Another subject."""\n',
        "stages/other/parameters.py": "from stages.base.parameters import Parameters\n\n\n"
        "class OtherParameters(Parameters):\n    value: int\n",
        "stages/other_stage.py": "from stages.base.parameters import read_params\n"
        "from stages.other.parameters import OtherParameters\n\n"
        'print(read_params("other", OtherParameters).value)\n',
    }.items():
        Path(file).write_text(text)
    whole = Path("stages/parameters/whole.py")
    text = whole.read_text().replace(
        "    climb: Climb", "    other: OtherParameters\n    climb: Climb"
    )
    added = "\nfrom stages.other.parameters import OtherParameters\n"
    whole.write_text(text.replace("\nfrom stages.synthetic", f"{added}from stages.synthetic"))
    append("params.yaml", "other:\n  value: 7")
    stage = "  other:\n    cmd: python -m stages.other_stage\n    params: [other]\n    deps:"
    deps = "[stages/base, stages/other, stages/other_stage.py]"
    text = Path("dvc.yaml").read_text()
    Path("dvc.yaml").write_text(text.replace("stages:\n", f"stages:\n{stage} {deps}\n", 1))
    assert re.findall(r"^([\w/.:]+):$", dvc("status"), flags=re.MULTILINE) == ["other"]
    command = [sys.executable, "-m", "stages.other_stage"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == "7\n", done.stderr
    shutil.rmtree("stages/other")
    Path("stages/other_stage.py").unlink()


def test_each_stage_depends_on_the_code_it_runs(monkeypatch):
    """The slow ones on nothing else but `base`: no other edit starts a training."""
    monkeypatch.chdir(PROJECT)
    for name, stage in read_stages().items():
        assert stage["cmd"] == f"python -m stages.{name}" + " ${item}" * (name == "external")
        listed = expanded(stage["deps"])
        runs = without_docstrings(code_of(Path(f"stages/{name}.py")))
        assert listed >= runs, (name, runs - listed)
        more = {file for file in listed - runs if not file.startswith("stages/base/")}
        assert name not in SLOW or not more, (name, more)


def test_each_stage_depends_on_the_parameters_it_reads(monkeypatch):
    monkeypatch.chdir(PROJECT)
    params = flatten(YAML(typ="safe", pure=True).load(Path("params.yaml")))
    for name, stage in read_stages().items():
        code = Path(f"stages/{name}.py").read_text()
        read_blocks = set(re.findall(r"read_params\(\"([\w.]+)\"", code))
        if "read_dataset_name()" in code:
            read_blocks.add("data")
        if name == "features":
            # By data/feature_settings.json. The size of a batch changes no feature.
            read_blocks -= {"model", "train.augment", "features"}
        listed = stage.get("params", [])
        covered = {
            parameter
            for parameter in listed
            if any(parameter.startswith(block) for block in read_blocks)
        }
        assert covered == set(listed), name
        assert all(
            any(parameter.startswith(block) for parameter in listed) for block in read_blocks
        ), name
        for block in read_blocks - {"evaluate"}:
            # Every parameter of the block, be it by the name of the block or by its own.
            read_there = {key for key in params if f"{key}.".startswith(f"{block}.")}
            assert all(key.startswith(tuple(listed)) for key in read_there), (name, block)
        # DVC's run cache leaves out what is called size or nfiles inside a block, and would take up
        # the results of another size.
        blind = [
            key for key in params if key.split(".")[-1] in ("size", "nfiles") and key not in listed
        ]
        assert not [
            key for key in blind if key.startswith(tuple(f"{block}." for block in listed))
        ], name
