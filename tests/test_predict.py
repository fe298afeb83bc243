"""Judging crops with a trained model: tables, slides, labels, the page, and what a laboratory's folder has wrong with it."""

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import stages.predict
from stages.base.errors import UserError
from tests.repositories import ENVIRONMENT, dvc


def predict(*arguments):
    command = [sys.executable, "-m", "stages.predict", *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def rows(path):
    return list(csv.DictReader(Path(path).read_text(encoding="utf-8").splitlines()))


def test_a_folder_is_judged_as_evaluate_judged_it(repository):
    code, printed, error = predict("data/demo", "--per-slide", "slides.csv")
    assert code == 0, error
    judged = {row["name"]: row for row in rows("evaluation.csv")}
    files = sorted(path.relative_to("data/demo").as_posix() for path in Path("data/demo").rglob("*.png"))
    assert list(judged) == files
    decision = json.loads(Path("models/threshold.json").read_text())
    for row in rows("metrics/predictions.csv"):
        ours = judged[row["path"]]
        assert float(ours["probability"]) == pytest.approx(float(row["probability"]), abs=1e-6)
        assert ours["predicted"] == row["predicted"] and ours["slide"] == row["slide"]
        between = decision["uncertain"]["low"] <= float(ours["probability"]) <= decision["uncertain"]["high"]
        assert ours["uncertain"] == str(int(between and decision["uncertain"]["low"] < decision["uncertain"]["high"]))
    assert f"{len(files)} crops: {sum(row['predicted'] == '1' for row in judged.values())} globally sclerotic" in printed
    for row in rows("slides.csv"):
        ours = [one for one in judged.values() if one["slide"] == row["slide"]]
        sclerotic = sum(one["predicted"] == "1" for one in ours)
        assert (int(row["glomeruli"]), int(row["predicted_sclerotic"])) == (len(ours), sclerotic)
        assert float(row["low"]) <= float(row["percent"]) == pytest.approx(100 * sclerotic / len(ours), abs=0.05)


def test_a_table_of_names_labels_and_a_fetched_model(repository, tmp_path):
    crops = sorted(Path("data/demo").rglob("*.png"))[:3] + sorted(Path("data/demo").rglob("*.png"))[-3:]
    (tmp_path / "crops").mkdir()
    for crop in crops:
        shutil.copy(crop, tmp_path / "crops")
    names = [crop.name for crop in crops]
    table = tmp_path / "crops/list.csv"
    table.write_text(
        "name;truth\n" + "".join(f"{name};{int(number < 3)}\n" for number, name in enumerate(names)), encoding="utf-8-sig"
    )
    dvc("get", ".", "models", "--out", str(tmp_path / "fetched"))
    output = tmp_path / "out/judged.csv"
    code, printed, error = predict(
        table, "--model", tmp_path / "fetched", "--output", output, "--labels", table, "--label-column", "truth"
    )
    assert code == 0, error
    judged = rows(output)
    assert [row["name"] for row in judged] == sorted(names)
    assert {row["name"]: row["label"] for row in judged} == {name: str(int(n < 3)) for n, name in enumerate(names)}
    measures = json.loads(output.with_suffix(".metrics.json").read_text())
    assert measures["accuracy"] == pytest.approx(sum(row["label"] == row["predicted"] for row in judged) / 6)
    assert f"accuracy: {measures['accuracy']:.3f}" in printed


def test_what_does_not_open_is_refused_or_skipped_but_never_judged(repository):
    folder = Path("mixed")
    shutil.copytree("data/demo/globally_sclerotic", folder)
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("not an image")
    code, _, error = predict(folder)
    assert code == 1 and not Path("evaluation.csv").exists()
    assert "mixed/empty.png does not open as an image" in error and "mixed/text.jpg does not open" in error
    assert error.count("error: ") == 1
    code, printed, error = predict(folder, "--unreadable", "skip")
    assert code == 0 and "2 skipped" in printed and "warning: skipped: mixed/empty.png" in error
    names = [row["name"] for row in rows("evaluation.csv")]
    assert "empty.png" not in names and len(names) == len(list(folder.iterdir())) - 2
    assert [row["name"] for row in rows("evaluation.unreadable.csv")] == ["empty.png", "text.jpg"]


def test_mistakes_are_a_line(repository, tmp_path, monkeypatch):
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
    refused("has no column name", "data/split.csv")
    refused("the folder of a model holds model.keras", "data/demo", "--model", tmp_path)
    refused("has no label of", "data/demo", "--labels", tmp_path / "few.csv")
    refused("is not a regular expression", "data/demo", "--slide", "(")
    shutil.copytree("models", tmp_path / "broken")
    (tmp_path / "broken/threshold.json").write_text("{}")
    refused("threshold.json is not as its stage wrote it", "data/demo", "--model", tmp_path / "broken")
    shutil.copy("models/threshold.json", tmp_path / "broken")
    (tmp_path / "broken/model.keras").write_bytes(b"PK")
    refused("does not load as a Keras model", "data/demo", "--model", tmp_path / "broken")


def test_the_page_holds_all_and_asks_no_network(repository, tmp_path):
    folder = tmp_path / "crops"
    shutil.copytree("data/demo/globally_sclerotic", folder)
    evil = '<img src=x onerror=alert(1)>&".png'
    first = sorted(folder.iterdir())[0]
    first.rename(folder / evil)
    code, _, error = predict(folder, "--html", "page.html", "--slide", r"(?P<slide>synthetic-\w\d+)")
    assert code == 0, error
    page = Path("page.html").read_text(encoding="utf-8")
    judged = rows("evaluation.csv")
    assert 2 * page.count("<figure ") == page.count("data:image/jpeg;base64,") == 2 * len(judged)
    assert evil not in page and html.escape(evil) in page
    assert not re.findall(r"https?:|//[a-z]", re.sub(r"base64,[^\"]+", "", page))
    shown = [float(value) for value in re.findall(r"<b>([\d.]+)</b>", page)]
    assert shown == sorted(shown, reverse=True)

    if not (chromium := shutil.which("chromium") or shutil.which("google-chrome")):
        pytest.skip("no Chromium to open the page in")
    chosen = next(row["slide"] for row in judged if row["slide"])
    script = f'<script>slide.value = "={chosen}"; filter()</script></html>'
    Path("filtered.html").write_text(page.replace("</html>", script), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'chromium'}"]
    picture = ["--window-size=900,600", f"--screenshot={tmp_path / 'page.png'}", Path("page.html").resolve().as_uri()]
    subprocess.run([chromium, *options, *picture], check=True, capture_output=True, timeout=120)
    assert len(Image.open(tmp_path / "page.png").getcolors(1_000_000)) > 1000
    command = [chromium, *options, "--dump-dom", f"file://{Path('filtered.html').resolve()}"]
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    wanted = sum(row["slide"] == chosen for row in judged)
    assert f"{wanted} of {len(judged)} crops" in dom
    assert dom.count("<figure ") - len(re.findall(r"<figure [^>]*hidden", dom)) == wanted


def test_real_crops_of_another_laboratory(repository, real_data, tmp_path):
    folder = real_data / "kpmp_sample"
    output = tmp_path / "kpmp.csv"
    code, _, error = predict(folder, "--labels", folder / "public.csv", "--output", output, "--slide", "(?P<slide>.+?)_PAS")
    assert code == 0, error
    judged = rows(output)
    assert len(judged) == 12 and {row["slide"] for row in judged} == {"18-162", "32-2", "S-1905-017550"}
    assert sum(row["label"] == "1" for row in judged) == 7
