"""The page of predictions in a real browser: its text, its keyboard control, what it saves."""

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import stages.evaluation.gallery as gallery
from stages.base.errors import UserError
from stages.base.files import from_cell
from stages.dataset.card import CardFields, Dataset
from stages.dataset.seen import Seen
from stages.evaluation.classifier import Classifier
from stages.evaluation.gallery import pages_folder, refuse_pages, write_gallery
from stages.evaluation.predictions import Prediction
from stages.images.opening import load_image, pixel_digest
from stages.intake.labels import read_corrections, read_labels
from stages.intake.names import Names
from stages.intake.saved_labels import read_saved_labels
from stages.measures.calibration import log_odds
from stages.measures.novelty import empty_reference
from stages.measures.percentages import percentage
from stages.model.backend import keras
from tests.evaluation.classifiers import DIGEST, a_card, a_decision

EVIL = [
    "<script>document.title='evil'</script>.png",
    '"><svg onload=x>.png',
    "{{ 7 * 7 }}.png",
    "=HYPERLINK(1),a.png",
    "'+x.png",
]
CROPS = 30


@pytest.fixture(scope="module")
def crops(tmp_path_factory):
    """A folder of crops, their predictions, and a classifier with one neuron."""
    folder = tmp_path_factory.mktemp("crops")
    random = np.random.default_rng(0)
    names = [*EVIL, *(f"crop {number:02}.png" for number in range(CROPS - len(EVIL)))]
    predictions = []
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(
            folder / name, format="png"
        )
        probability = np.float32(number / CROPS)
        label = None if number % 5 else int(number > 10)
        predictions.append(
            Prediction(
                name,
                int(probability >= 0.5),
                probability,
                int(12 <= number < 17),
                f"s{number % 3}",
                number / 29,
                label,
            )
        )
    inputs = keras.Input((16, 16, 3), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, "sigmoid")(x))
    card = {"title": "Crops of <nobody>", "classes": ["*/not sclerotic", "*/globally_sclerotic"]}
    made = a_card(card, files_sha256={"model.keras": DIGEST})
    decision = a_decision(
        uncertain={"low": 0.4, "high": 0.55}, threshold_rule="sensitivity", target_sensitivity=0.95
    )
    seen = Seen({"a": "train", "b": "val", "c": "test"})
    classifier = Classifier(made, model, decision, empty_reference(), seen)
    return folder, predictions, classifier


@pytest.fixture(scope="module")
def written(crops, tmp_path_factory):
    folder, predictions, classifier = crops
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_gallery(path, folder, predictions, classifier, folder / "model")
    return path


@pytest.fixture(scope="module")
def browser():
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium to open the page in")
    from playwright.sync_api import sync_playwright

    quiet = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    with sync_playwright() as playwright:
        chrome = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield chrome
        chrome.close()


def new_context(browser, **options):
    """A browser context that tolerates a busy machine."""
    context = browser.new_context(**options)
    context.set_default_timeout(600_000)
    return context


@pytest.fixture
def page(browser, written):
    context = new_context(browser, viewport={"width": 1200, "height": 800})
    opened = context.new_page()
    opened.on("pageerror", lambda error: pytest.fail(str(error)))
    opened.goto(written.as_uri())
    yield opened
    context.close()


def shown(page):
    return page.eval_on_selector_all(
        ".crop", "all => all.filter(one => !one.hidden).map(one => one.dataset.name)"
    )


def violations(page):
    """The accessibility violations that axe finds."""
    import axe_playwright_python

    page.evaluate(
        Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    )
    return [
        (one["id"], one["nodes"][0]["html"]) for one in page.evaluate("axe.run()")["violations"]
    ]


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 390)])
def test_axe_finds_no_violation(browser, written, scheme, width):
    context = new_context(browser, viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(written.as_uri())
    for state in ("", "document.querySelector('.crop .picture').click()"):
        page.evaluate(state or "0")
        assert not violations(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.keyboard.press("Escape")
    page.evaluate("scrollTo(0, 500)")
    # What stays on the screen leaves most of it to the crops.
    assert page.locator(".toolbar").bounding_box()["height"] < 110
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (np.mean([int(value) for value in re.findall(r"\d+", ground)]) < 100) == (
        scheme == "dark"
    )
    context.close()


def test_describes_the_model_and_each_crop(page, crops):
    _, predictions, _ = crops
    text = page.inner_text("header")
    for said in (
        "30 crops of 3 slides: 15 globally sclerotic, 5 uncertain",
        "model (00000000): logistic, trained on 2 crops of t; threshold 0.500, with sensitivity "
        "1.000 and specificity 1.000 on its validation slides",
        "Crops of <nobody>",
    ):
        assert said in text
    assert "probability of 0.500 or more: sensitivity of 0.95 on the validation slides" in text
    assert "probability of 0.400 to 0.550" in text and "may not hold" not in text
    for place, one in enumerate(reversed(predictions)):
        crop = page.locator(".crop").nth(place)
        says = crop.locator("img.square").get_attribute("alt")
        predicted = ("not sclerotic", "globally sclerotic")[one.predicted]
        assert says.startswith(f"{predicted}, probability {one.probability:.3f}") and says.endswith(
            f"slide {one.slide}: {one.name}"
        )
        words = crop.inner_text()
        assert (
            f"{predicted} {one.probability:.3f}" in words
            and one.name in words
            and f"slide {one.slide}" in words
        )
        assert ("uncertain" in words) == bool(one.uncertain) == ("uncertain" in says)
        wrong = one.label is not None and one.label != one.predicted
        assert ("against its label" in words) == wrong == ("against its label" in says)
    # Names are only text: none ran or became an element.
    assert (
        page.title() == "Glomeruli"
        and page.locator("svg").count() == 0
        and "{{ 7 * 7 }}.png" in page.inner_text("main")
    )


def test_order_search_and_filters(page, crops):
    _, predictions, _ = crops
    by = {one.name: one for one in predictions}
    assert shown(page) == [one.name for one in reversed(predictions)]
    page.select_option("#order", "least-confident")
    odds = [
        abs(np.log(by[name].probability / (1 - by[name].probability)))
        for name in shown(page)
        if by[name].probability
    ]
    assert np.all(np.diff(odds) >= -1e-6)
    page.select_option("#order", "most-confident")
    assert shown(page)[0] == predictions[0].name
    page.select_option("#order", "slide")
    heads = page.locator(".slide-head").all_inner_texts()
    assert [head.split(":")[0] for head in heads] == ["s0", "s1", "s2"]
    # 15 of 30 are positive, and by turns of three slides: 5 of each 10.
    assert re.fullmatch(r"s0: 5 of 10 predicted globally sclerotic; about 50.0 % \(.+\)", heads[0])
    page.select_option("#order", "novelty")
    assert shown(page) == [one.name for one in reversed(predictions)]
    page.select_option("#order", "name")
    assert shown(page)[-1] == "crop 24.png"
    for kind, holds in {
        "positive": lambda one: one.predicted,
        "negative": lambda one: not one.predicted,
        "uncertain": lambda one: one.uncertain,
        "wrong": lambda one: one.label is not None and one.label != one.predicted,
        "novel": lambda one: one.novelty > 0.95,
        "marked": lambda one: False,
        "": lambda one: True,
    }.items():
        page.select_option("#show", kind)
        assert set(shown(page)) == {one.name for one in predictions if holds(one)}, kind
        assert page.inner_text("#count") == f"{len(shown(page))} of 30 crops"
    page.select_option("#slide", "=s1")
    assert set(shown(page)) == {one.name for one in predictions if one.slide == "s1"}
    page.fill("#search", "CROP 0")
    assert set(shown(page)) == {
        one.name for one in predictions if one.slide == "s1" and one.name.startswith("crop 0")
    }


def test_keyboard_control(page):
    def at():
        return page.evaluate("document.activeElement.closest('.crop')?.dataset.name")

    names = shown(page)
    page.locator("#save").focus()
    for _ in range(60):
        page.keyboard.press("Tab")
        if at():
            break
    assert at() == names[0]
    columns = page.evaluate("columns()")
    for key, to in {
        "ArrowRight": 1,
        "ArrowDown": 1 + columns,
        "ArrowUp": 1,
        "ArrowLeft": 0,
        "End": 29,
        "Home": 0,
    }.items():
        page.keyboard.press(key)
        assert at() == names[to], key
    heat = page.locator(".crop:not([hidden]) img.heat").first
    assert heat.evaluate("one => getComputedStyle(one).opacity") == "1"  # Under the focus.
    other = page.locator(".crop:not([hidden]) img.heat").nth(3)
    assert other.evaluate("one => getComputedStyle(one).opacity") == "0"
    page.keyboard.press("h")
    assert other.evaluate("one => getComputedStyle(one).opacity") == "1"
    page.keyboard.press("Enter")
    assert page.locator("dialog[open] figcaption").inner_text().endswith(names[0])
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.locator("dialog[open] figcaption").inner_text().endswith(names[2])
    page.keyboard.press("Escape")
    page.wait_for_function(
        "name => document.activeElement.closest('.crop')?.dataset.name === name", arg=names[2]
    )
    assert page.locator("dialog[open]").count() == 0


def test_keys_work_as_soon_as_the_page_opens(page):
    page.keyboard.press("ArrowRight")
    at = page.evaluate("document.activeElement.closest('.crop')?.dataset.name")
    assert at == shown(page)[0]


def test_enter_shows_all_pixels_and_zooms(page, browser, written, tmp_path):
    def pixels(there):
        there.wait_for_function("document.getElementById('pixels').textContent")
        return there.inner_text("#pixels")

    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    # The crops have 24 x 20 pixels, and margins of white.
    assert pixels(page).startswith("24 \N{MULTIPLICATION SIGN} 24 pixels, ")
    before = page.locator("dialog .picture").bounding_box()["width"]
    page.keyboard.press("-")
    assert page.locator("dialog .picture").bounding_box()["width"] == pytest.approx(before / 1.5)
    assert not violations(page)
    # A page without its folder says so.
    shutil.copy(written, tmp_path / "alone.html")
    context = new_context(browser)
    alone = context.new_page()
    alone.goto((tmp_path / "alone.html").as_uri())
    alone.locator(".crop .picture").first.click()
    alone.wait_for_function("document.getElementById('pixels').textContent.startsWith('reduced')")
    assert "the folder page-crops is not beside this page" in pixels(alone)
    context.close()


def test_nothing_is_cut_at_either_width(browser, written):
    for width in (1200, 390):
        context = new_context(browser, viewport={"width": width, "height": 800})
        page = context.new_page()
        page.goto(written.as_uri())
        is_open = page.evaluate("document.querySelector('.filters').open")
        assert is_open == (width == 1200)
        page.evaluate("document.querySelector('.filters').open = true")
        for one in page.locator(".toolbar select, .toolbar button, .toolbar input").all():
            box = one.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width
        context.close()


def test_labels_survive_a_reload_and_are_read_back(page, crops, tmp_path):
    folder, predictions, _ = crops
    assert page.locator("#save").is_disabled()
    wanted = {}
    for number, name in enumerate([*EVIL, "crop 07.png", "crop 08.png"]):
        page.select_option("#order", "name")
        crop = page.locator(".crop").filter(has=page.get_by_text(name, exact=True))
        wanted[name] = str(number % 2)
        if number % 3:
            crop.locator(f'.marks button[data-label="{wanted[name]}"]').click()
        else:
            crop.locator(".picture").focus()
            page.keyboard.press(wanted[name])
    # Taken back by the key, and by a second click.
    page.locator(".crop").nth(20).locator(".picture").focus()
    page.keyboard.press("1")
    page.keyboard.press("Delete")
    twice = page.locator(".crop").nth(21).locator('.marks button[data-label="1"]')
    twice.click()
    twice.click()
    page.reload()
    assert page.inner_text("#save") == "Save labels (7)"
    page.select_option("#show", "marked")
    assert set(shown(page)) == set(wanted)
    page.click("#save")
    # The browser asks for the initials first.
    assert page.evaluate("document.activeElement.id") == "reader"
    table, rows = saved(page, tmp_path, "AB")
    assert table.name == "page-labels-AB.csv" and len(rows) == 7
    # No spreadsheet takes a name for a formula, yet our reader returns the original names.
    assert not [row for row in rows if row["path"].startswith(("=", "+", "-", "@"))]
    words = {"0": "not sclerotic", "1": "globally sclerotic"}
    by = {one.name: one for one in predictions}
    for row in rows:
        assert row["class"] == words[row["label"]] and row["marked"] == "7 of 30"
        assert (row["reader"], row["blind"], row["model"]) == ("AB", "0", "00000000")
        assert row["date"] == page.evaluate("new Date().toLocaleDateString('sv')")
        one = by[from_cell(row["path"])]
        assert (row["predicted"], row["slide"]) == (str(one.predicted), one.slide)
        assert row["pixels_sha256"] == pixel_digest(load_image(folder / one.name))
    assert {one.path: str(one.label) for one in read_saved_labels(table)} == wanted
    names, marked = (
        [one.name for one in predictions],
        {name: int(label) for name, label in wanted.items()},
    )
    assert read_labels(table, Names(names, "the crops")) == marked
    card = CardFields(
        title="t",
        labels="l.csv",
        columns={"name": "n", "label": "l", "slide": "s"},
        corrections=table.name,
    )
    dataset = Dataset("mine", tmp_path, tmp_path / "mine.yaml", card, tmp_path / "labels")
    assert read_corrections(dataset, dict.fromkeys(names, 0)) == marked


def test_says_if_the_browser_cannot_store_labels(browser, written):
    context = new_context(browser)
    page = context.new_page()
    page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full') }")
    page.goto(written.as_uri())
    page.locator('.marks button[data-label="1"]').first.click()
    assert not violations(page)
    assert "This browser cannot store labels" in page.inner_text("#kept")
    context.close()


def test_labels_correct_the_percentage_of_their_slide(page, crops):
    _, predictions, classifier = crops
    shift = classifier.decision.slide_shift

    def corrected(slide):
        """The table's cells, and what `percentage` says with the labels that were given."""
        row = page.locator(f'tr[data-slide="{slide}"]')
        odds = log_odds(np.array([one.probability for one in predictions if one.slide == slide]))
        names = [one.name for one in predictions if one.slide == slide]
        for name, label in given.items():
            if name in names:
                odds[names.index(name)] = np.inf if label else -np.inf
        value, low, high, _ = percentage(odds, shift)
        text = f"{value:.1f} % ({low:.1f} to {high:.1f})"
        return row.locator(".reviewed").inner_text(), row.locator(".corrected").inner_text(), text

    given = {}
    assert corrected("s1")[:2] == ("", "")
    # A confirmation, a correction, and then all crops of the slide.
    of_slide = [one for one in predictions if one.slide == "s1"]
    for number, one in enumerate([of_slide[-1], *of_slide[:-1]]):
        given[one.name] = int(number in (0, 1, 5))
        crop = page.locator(".crop").filter(has=page.get_by_text(one.name, exact=True))
        crop.locator(f'.marks button[data-label="{given[one.name]}"]').click()
        reviewed, shown_, expected = corrected("s1")
        assert reviewed == f"{number + 1} of 10" and shown_ == expected
    # Then it is the interval of Clopper and Pearson for 3 of 10.
    assert shown_ == "30.0 % (6.7 to 65.2)"
    assert corrected("s0")[:2] == ("", "")
    page.select_option("#order", "slide")
    head = page.locator(".slide-head").nth(1).inner_text()
    assert head.endswith("; 10 reviewed, corrected: 30.0 % (6.7 to 65.2)")


def saved(page, folder, initials=None):
    """The file that the page saves and its rows, after the initials are entered."""
    if initials is not None:
        page.fill("#reader", initials)
        page.press("#reader", "Enter")
    with page.expect_download() as download:
        page.click("#save")
    table = folder / download.value.suggested_filename
    download.value.save_as(table)
    with open(table, encoding="utf-8", newline="") as file:
        return table, list(csv.DictReader(file))


TELLING = re.compile(r"sclerotic, prob|s[012]\b|\.png|0\.\d\d\d|uncertain|novel|against|predicted")


def test_blind_reading_hides_what_tells_a_prediction(browser, written, crops, tmp_path):
    _, predictions, _ = crops
    context = new_context(browser, viewport={"width": 1200, "height": 800})
    page = context.new_page()
    page.goto(f"{written.as_uri()}#blind")
    order = shown(page)
    assert sorted(order) == sorted(one.name for one in predictions)
    assert order not in ([one.name for one in predictions], [one.name for one in predictions][::-1])
    for selector in ("header > p", ".filters", "#heat", ".slide-head", "tr[data-slide]"):
        assert not [one for one in page.locator(selector).all() if one.is_visible()][1:], selector
    assert page.locator("header > p:visible").all_inner_texts() == [
        "For research, not for diagnosis."
    ]
    assert not TELLING.search(page.inner_text("main"))
    alts = page.locator("img.square").evaluate_all("all => all.map(one => one.alt)")
    assert (
        alts[:2] == ["crop 1", "crop 2"] and page.locator(".number").nth(4).inner_text() == "crop 5"
    )
    for style in ("border", "borderTop", "background"):
        found = f"all => all.map(one => getComputedStyle(one).{style})"
        assert len(set(page.locator(".crop").evaluate_all(found))) == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("h")
    page.keyboard.press("Enter")
    dialog = page.locator("dialog[open]")
    assert dialog.locator("figcaption").inner_text() == "crop 1"
    assert dialog.locator("img.heat:visible, #heat-here:visible").count() == 0
    assert not violations(page)
    # A label tells the prediction of its crop only.
    page.keyboard.press("1")
    assert dialog.locator("figcaption").inner_text().endswith(order[0])
    page.keyboard.press("ArrowRight")
    assert dialog.locator("figcaption").inner_text() == "crop 2"
    page.keyboard.press("0")
    page.keyboard.press("Escape")
    texts = page.locator(".crop").all_inner_texts()
    assert order[0] in texts[0] and order[1] in texts[1] and not TELLING.search("".join(texts[2:]))
    assert page.inner_text("#save") == "Save labels (2, 2 blind)"
    # A label that is changed after its prediction was shown is not blind, even after a reload.
    page.reload()
    assert shown(page) == order
    page.locator(".crop").nth(1).locator('.marks button[data-label="1"]').click()
    _, rows = saved(page, tmp_path, "AB")
    assert {row["path"]: (row["label"], row["blind"]) for row in rows} == {
        order[0]: ("1", "1"),
        order[1]: ("1", "0"),
    }
    context.close()


def test_a_crop_that_was_on_the_screen_is_not_read_blindly(page, tmp_path):
    last = shown(page)[-1]
    first = shown(page)[0]
    page.wait_for_function("displayed.size > 0")
    page.click("#hide")
    page.wait_for_function("document.documentElement.classList.contains('blind')")
    for name in (first, last):
        page.locator(f'.crop[data-name="{name}"] .marks button[data-label="1"]').click()
    _, rows = saved(page, tmp_path, "AB")
    assert {row["path"]: row["blind"] for row in rows} == {first: "0", last: "1"}
    # The next reader at this browser has other labels, and has seen what was shown.
    page.fill("#reader", "CD")
    page.press("#reader", "Enter")
    assert page.inner_text("#save") == "Save labels"
    for name in (first, last):
        page.locator(f'.crop[data-name="{name}"] .marks button[data-label="0"]').click()
    _, rows = saved(page, tmp_path)
    assert {(row["path"], row["reader"], row["blind"]) for row in rows} == {
        (first, "CD", "0"),
        (last, "CD", "0"),
    }
    page.fill("#reader", "AB")
    page.press("#reader", "Enter")
    assert page.inner_text("#save") == "Save labels (2, 1 blind)"
    page.click("#hide")
    assert page.locator(".predicted:visible").count() == 30


def test_what_a_reader_saw_another_day_is_not_read_blindly(page, tmp_path):
    last = shown(page)[-1]
    page.evaluate(
        "name => localStorage.setItem(`${about.key} AB`, JSON.stringify({seen: [name]}))", last
    )
    page.click("#hide")
    page.locator(f'.crop[data-name="{last}"] .marks button[data-label="1"]').click()
    assert page.inner_text("#save") == "Save labels (1, 1 blind)"
    _, rows = saved(page, tmp_path, "AB")
    assert [(row["path"], row["blind"]) for row in rows] == [(last, "0")]


def test_says_first_that_the_model_was_trained_on_drawn_crops(crops, tmp_path):
    folder, predictions, classifier = crops
    drawn = a_card({"title": "t", "drawn": True}, files_sha256=classifier.made.files_sha256)
    classifier = classifier._replace(made=drawn)
    write_gallery(tmp_path / "page.html", folder, predictions, classifier, folder / "model")
    header = (tmp_path / "page.html").read_text(encoding="utf-8").split("<header>")[1]
    assert header.split("<strong>")[1].startswith("The model was trained on drawn glomeruli, none")


def test_warns_if_most_crops_are_uncertain(crops, tmp_path):
    folder, predictions, classifier = crops
    unsure = [one._replace(uncertain=1) for one in predictions]
    write_gallery(tmp_path / "page.html", folder, unsure, classifier, folder / "model")
    assert "30 of these 30 crops are uncertain: the threshold may not hold here" in (
        tmp_path / "page.html"
    ).read_text(encoding="utf-8")


def test_many_crops_give_one_page_per_slide(crops, tmp_path, monkeypatch, browser):
    folder, predictions, classifier = crops
    monkeypatch.setattr(gallery, "CROPS_PER_PAGE", 8)
    path = tmp_path / "all #2, 50%25 ü.html"
    refuse_pages(path)
    pages_folder(path).mkdir()
    for name in ("0003.html", "0099.html", "0002.html.part"):
        (pages_folder(path) / name).write_text("of an earlier run")
    (pages_folder(path) / "0099-crops").mkdir()
    (pages_folder(path) / "0099-crops/000001-0123456789abcdef.webp.part").touch()
    refuse_pages(path)
    write_gallery(path, folder, predictions, classifier, folder / "model")
    # Three slides of ten crops: eight and two on each.
    assert sorted(one.name for one in pages_folder(path).iterdir()) == [
        f"{number:04}{kind}" for number in range(1, 7) for kind in ("-crops", ".html")
    ]
    context = new_context(browser)
    page = context.new_page()
    page.goto(path.as_uri())
    assert not violations(page)
    assert page.locator("table a").all_inner_texts()[:3] == [
        "s0, 1 to 8",
        "s0, 9 to 10",
        "s1, 1 to 8",
    ]
    # A slide's glomeruli are counted once, whatever the number of its pages.
    assert page.locator("tbody td:nth-of-type(1)").all_inner_texts() == [
        "10, too few",
        "",
        "10, too few",
        "",
        "10, too few",
        "",
    ]
    seen = []
    for link in page.locator("table a").all():
        page.goto(path.as_uri())
        link.click()
        seen += shown(page)
        assert "of slide s" in page.inner_text("h1")
    assert sorted(seen) == sorted(one.name for one in predictions)
    assert not violations(page)
    page.click("text=All slides")
    assert page.url == path.as_uri()
    context.close()
    (pages_folder(path) / "notes.txt").touch()
    with pytest.raises(UserError, match=re.escape("all #2, 50%25 ü-slides holds 'notes.txt'")):
        refuse_pages(path)


def test_a_page_replaces_only_what_an_earlier_page_wrote(crops, tmp_path, monkeypatch):
    folder, predictions, classifier = crops
    path, few = tmp_path / "page.html", predictions[:3]

    def written():
        write_gallery(path, folder, few, classifier, folder / "model")
        return sorted(one.relative_to(tmp_path).as_posix() for one in tmp_path.rglob("*"))

    first = written()
    assert first[0] == "page-crops" and first[-1] == "page.html" and len(first) == 5
    monkeypatch.setattr(gallery, "CROPS_PER_PAGE", 2)
    # Each crop is of another slide.
    assert [one for one in written() if "/" not in one or one.endswith(".html")] == [
        "page-slides",
        *(f"page-slides/000{number}.html" for number in (1, 2, 3)),
        "page.html",
    ]
    mine = tmp_path / "page-slides/0002-crops/000001.webp"
    mine.write_text("mine")
    before = {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}
    with pytest.raises(UserError, match="0002-crops holds '000001.webp', which is not of an earl"):
        written()
    assert before == {one: one.read_bytes() for one in tmp_path.rglob("*") if one.is_file()}
    mine.unlink()
    monkeypatch.setattr(gallery, "CROPS_PER_PAGE", 3)
    assert written() == first


@pytest.mark.parametrize("name", ["000001.webp", "0001.html", "000001-0123456789ABCDEF.webp"])
@pytest.mark.parametrize("folder", ["S1-crops", "S1-slides/0001-crops"])
def test_refuses_folders_with_files_of_the_user(tmp_path, folder, name):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "000001-0123456789abcdef.webp").touch()
    refuse_pages(tmp_path / "S1.html")
    (tmp_path / folder / name).touch()
    with pytest.raises(UserError, match=re.escape(f"{folder} holds {name!r}")):
        refuse_pages(tmp_path / "S1.html")


def test_refuses_links_in_the_folders_of_a_page(tmp_path):
    """A link would be followed, and what it leads to replaced."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "S1-slides").mkdir()
    (tmp_path / "S1-slides/0001-crops").symlink_to(tmp_path / "mine")
    with pytest.raises(UserError, match="S1-slides holds '0001-crops'"):
        refuse_pages(tmp_path / "S1.html")


@pytest.mark.parametrize("folder", ["S1-crops", "S1-slides/0001-crops"])
@pytest.mark.parametrize("link", ["", "to the file", "to the folder", "in the folder"])
def test_refuses_to_replace_crops_that_are_read(tmp_path, folder, link):
    (tmp_path / folder).mkdir(parents=True)
    crop = tmp_path / folder / "000001-0123456789abcdef.webp"
    crop.touch()
    refuse_pages(tmp_path / "S1.html", [tmp_path / "elsewhere/1.png", tmp_path / "S1-crops.csv"])
    read = crop
    if link == "to the file":
        read = tmp_path / "a.webp"
        read.symlink_to(crop)
    elif link == "to the folder":
        (tmp_path / "linked").symlink_to(crop.parent)
        read = tmp_path / "linked" / crop.name
    elif link == "in the folder":
        crop.rename(tmp_path / "a.webp")
        crop.symlink_to(tmp_path / "a.webp")
    with pytest.raises(UserError, match=f"{re.escape(str(read))} is there; choose another name"):
        refuse_pages(tmp_path / "S1.html", [read])


def test_an_older_page_never_shows_a_crop_as_another(crops, tmp_path):
    """A copy of a page names files that a page of other crops does not write."""
    folder, predictions, classifier = crops
    path = tmp_path / "page.html"

    def natives(some):
        write_gallery(path, folder, some, classifier, folder / "model")
        named = re.findall(r'data-native="([^"]+)"', path.read_text(encoding="utf-8"))
        assert {path.parent / name for name in named} == set((tmp_path / "page-crops").iterdir())
        return set(named)

    first = natives(predictions[:3])
    assert len(first) == 3 and first == natives(predictions[:3])
    assert not first & natives(predictions[3:6])


def test_a_stopped_run_leaves_no_page_without_its_files(crops, tmp_path):
    folder, predictions, classifier = crops
    page, link = tmp_path / "page.html", tmp_path / "link.html"
    link.symlink_to(page)
    write_gallery(link, folder, predictions[:2], classifier, folder / "model")
    assert page.is_file() and link.is_symlink()
    lost = predictions[2]._replace(name="lost.png")
    with pytest.raises(Exception, match="lost.png"):
        write_gallery(link, folder, [predictions[0], lost], classifier, folder / "model")
    assert not page.exists() and link.is_symlink()
    write_gallery(link, folder, predictions[:2], classifier, folder / "model")
    assert page.is_file() and link.is_symlink()


@pytest.mark.slow
def test_a_page_of_many_crops_has_12_kilobytes_per_crop(crops, tmp_path, real_data, monkeypatch):
    monkeypatch.setattr("stages.evaluation.thumbnails.FEW", 40)
    folder, predictions, classifier = crops
    files = sorted(Path(real_data / "aidpath").rglob("*.png"))
    names = [file.relative_to(real_data).as_posix() for file in files[:: len(files) // 60]]
    many = [predictions[number % CROPS]._replace(name=name) for number, name in enumerate(names)]
    model = keras.Sequential(
        [keras.Input((224, 224, 3), dtype="uint8"), keras.layers.Rescaling(1 / 255)]
    )
    model = keras.Model(
        model.inputs,
        keras.layers.Dense(1, "sigmoid")(keras.layers.GlobalAveragePooling2D()(model.outputs[0])),
    )
    made = classifier.made.model_copy(update={"size": 224})
    classifier = classifier._replace(model=model, made=made)
    write_gallery(tmp_path / "page.html", real_data, many, classifier, folder / "model")
    assert len(many) >= 60
    assert (tmp_path / "page.html").stat().st_size < 12_000 * len(many)
