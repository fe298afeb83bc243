"""A page to review and correct predictions: HTML that contains everything and needs no network."""

import hashlib
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np

from stages.base.errors import UserError
from stages.base.files import identity, replacing, writable
from stages.evaluation.about_model import about_model
from stages.evaluation.classifier import DRAWN, Classifier
from stages.evaluation.predictions import Prediction, SlideCount, count_slides
from stages.evaluation.templates import page_templates
from stages.evaluation.thumbnails import thumbnails
from stages.images.archives import locate
from stages.measures.decision import Decision, confidence
from stages.measures.novelty import OUT_OF_DISTRIBUTION
from stages.measures.percentages import POINTS, WEIGHTS
from stages.model.file import MODEL

# With more crops there is one page per slide.
CROPS_PER_PAGE = 2000
# How the names of folders end that hold crops with all of their pixels.
NATIVES = "-crops"
# How the files in them are named, also those that a stopped run left.
NATIVE = r"[0-9]{6}-[0-9a-f]{16}\.webp(\.part)?"
RULES = {
    "fixed": "fixed at 0.5",
    "youden": "highest Youden index on the validation slides",
    "balanced": "sensitivity and specificity as equal as they get on the validation slides",
    "sensitivity": "sensitivity of {target} on the validation slides",
}
TEMPLATES = page_templates(Path(__file__).with_name("page"))


class Part(NamedTuple):
    """The crops on one page: those of a slide, or a part of them if there are too many."""

    slide: SlideCount
    part: str
    crops: list[Prediction]


def write_gallery(
    path: Path, folder: Path, predictions: Sequence[Prediction], classifier: Classifier, model: Path
) -> None:
    """Write the page: each crop, where the model looks, its prediction and buttons to correct it.

    With more crops than a browser handles, `path` is an index of one page per slide, in
    `pages_folder(path)`. What an earlier page wrote is removed first.

    Args:
        folder: the folder that the names of `predictions` are relative to.
        model: the folder of the model.

    Raises:
        UserError: a folder that belongs to the page has other files in it.
    """
    _remove_earlier(path)
    about = _about(classifier, model)
    slides = count_slides(predictions, classifier.decision)
    if len(predictions) <= CROPS_PER_PAGE:
        _write_page(path, folder, predictions, slides, about, classifier)
        return
    rows: list[dict[str, Any]] = []
    pages, up = pages_folder(path), about | {"up": quote(f"../{path.name}")}
    for number, part in enumerate(_parts(predictions, slides), start=1):
        page = pages / f"{number:04}.html"
        _write_page(page, folder, part.crops, [part.slide], up, classifier, part.part)
        # The counts of a slide are shown once, not on each of its pages.
        again = bool(rows) and rows[-1]["slide"] == part.slide.slide
        uncounted = (
            dict.fromkeys(("glomeruli", "sclerotic", "share", "uncertain"), "") if again else {}
        )
        rows.append(
            _slide(part.slide)
            | uncounted
            | {"part": part.part, "link": quote(f"{pages.name}/{page.name}")}
        )
    with replacing(path) as file:
        file.write(
            TEMPLATES.get_template("index.html").render(
                **about, **_head(predictions, about), slides=rows
            )
        )


def pages_folder(path: Path) -> Path:
    """Return the folder of the pages of the slides, next to the index."""
    return path.with_name(f"{_name(path)}-slides")


def natives_folder(path: Path) -> Path:
    """Return the folder of the crops with all of their pixels, next to the page."""
    return path.with_name(f"{_name(path)}{NATIVES}")


def _name(path: Path) -> str:
    return path.stem if path.suffix.lower() in (".html", ".htm") else path.name


def refuse_pages(path: Path, used: Iterable[Path] = ()) -> None:
    """Check that the folders that belong to a page hold nothing but an earlier page's files.

    Args:
        used: files that the program reads, or writes beside the page.

    Raises:
        UserError: one of the folders holds something else, or a file that is used.
    """
    folders = {identity(folder): folder for folder in (natives_folder(path), pages_folder(path))}
    # A file is used in the folder of its name, and in that of its content if its name is a link.
    places: dict[Path, Path] = {}
    for file in used:
        for whole in (os.path.abspath(file), os.path.realpath(file)):
            places.setdefault(Path(whole).parent, file)
    for place, file in places.items():
        for parent in (place, *place.parents):
            if folder := folders.get(identity(parent)):
                raise UserError(
                    f"--html: the page would replace the files in {folder}, and {file} is there; "
                    "choose another name"
                )
    for folder in folders.values():
        if os.path.lexists(folder) and not folder.is_dir():
            raise UserError(f"--html: {folder} is not a folder; the page needs one of this name")
    if others := _earlier(path)[1]:
        raise UserError(
            f"--html: {others[0].parent} holds {others[0].name!r}, which is not of an earlier run; "
            "choose another name"
        )


def _earlier(path: Path) -> tuple[list[Path], list[Path]]:
    """Return what an earlier run wrote into the folders of a page, and what else is in them."""
    patterns = {
        natives_folder(path): NATIVE,
        pages_folder(path): rf"[0-9]{{4,}}(\.html(\.part)?|{NATIVES}(/{NATIVE})?)",
    }
    ours: list[Path] = []
    others: list[Path] = []
    for folder, pattern in patterns.items():
        for one in sorted(folder.rglob("*")):
            is_named = re.fullmatch(pattern, one.relative_to(folder).as_posix())
            is_kind = one.is_dir() if one.name.endswith(NATIVES) else one.is_file()
            is_ours = is_named and is_kind and not one.is_symlink()
            (ours if is_ours else others).append(one)
    return ours, others


def _remove_earlier(path: Path) -> None:
    """Remove an earlier page before its files: no page is left that lacks some of them."""
    refuse_pages(path)
    page = writable(path)
    if page.is_file():
        page.unlink()
    # A folder comes after what it holds.
    for old in reversed(_earlier(path)[0]):
        old.rmdir() if old.is_dir() else old.unlink()
    for folder in (natives_folder(path), pages_folder(path)):
        if folder.is_dir() and not folder.is_symlink():
            folder.rmdir()


def _parts(predictions: Sequence[Prediction], slides: Sequence[SlideCount]) -> Iterator[Part]:
    of_slide = defaultdict(list)
    for one in predictions:
        of_slide[one.slide].append(one)
    for slide in slides:
        crops = of_slide[slide.slide]
        for start in range(0, len(crops), CROPS_PER_PAGE):
            some = crops[start : start + CROPS_PER_PAGE]
            yield Part(
                slide,
                f", {start + 1} to {start + len(some)}" if len(crops) > CROPS_PER_PAGE else "",
                some,
            )


def _about(classifier: Classifier, model: Path) -> dict[str, Any]:
    """Return what all pages say about the model."""
    made, decision = classifier.made, classifier.decision
    return {
        "classes": made.class_names,
        "model": {
            "line": about_model(model, classifier),
            "title": made.dataset.card.title,
            "drawn": made.dataset.card.drawn,
            "threshold": f"{decision.threshold:.3f}",
            "rule": RULES[decision.threshold_rule].format(target=decision.target_sensitivity),
            "uncertain": _band(decision),
            "file": MODEL.name,
            "sha256": made.files_sha256[MODEL.name],
            "short": decision.model_sha256[:8],
            "recalibrated": made.recalibrated is not None,
        },
        "up": None,
    }


def _band(decision: Decision) -> str:
    low, high = decision.uncertain.low, decision.uncertain.high
    return "never" if low is None or high is None else f"probability of {low:.3f} to {high:.3f}"


def _head(predictions: Sequence[Prediction], about: dict[str, Any], of: str = "") -> dict[str, Any]:
    """Return the title of a page and the lines below it."""
    positive, unsure = (
        sum(one.predicted for one in predictions),
        sum(one.uncertain for one in predictions),
    )
    slides = len({one.slide for one in predictions} - {""})
    of_slides = f" of {slides:,} slide{'s' * (slides != 1)}" if slides else ""
    abstains = (
        f"{unsure:,} of these {len(predictions):,} crops are uncertain: the threshold may not hold "
        "here. Label a dozen of them, and see python -m stages.recalibrate --help."
    )
    learned = sum(one.trained_on for one in predictions)
    trained_on = (
        f"The model was trained on {learned:,} of these {len(predictions):,} crops: their "
        "predictions do not show how good it is."
    )
    return {
        "title": f"Glomeruli{of}",
        "counts": f"{len(predictions):,} crops{of_slides}: "
        f"{positive:,} {about['classes'][1]}, {unsure:,} uncertain.",
        "warnings": [
            *[DRAWN] * about["model"]["drawn"],
            *[trained_on] * (learned > 0),
            *[abstains] * (2 * unsure > len(predictions)),
        ],
    }


def _slide(one: SlideCount) -> dict[str, Any]:
    return one._asdict() | {
        "share": f"{one.percent:.1f} % ({one.low:.1f} to {one.high:.1f})",
        "link": None,
        "part": "",
    }


def _write_page(
    path: Path,
    folder: Path,
    predictions: Sequence[Prediction],
    slides: Sequence[SlideCount],
    about: dict[str, Any],
    classifier: Classifier,
    part: str = "",
) -> None:
    rows = [_slide(one) | {"part": part} for one in slides]
    named = f" of slide {slides[0].slide or '(not known)'}{part}" if about["up"] else ""
    names = "\n".join(one.name for one in predictions)
    key = hashlib.sha256(
        f"{about['model']['sha256']}\n{names}".encode("utf-8", "surrogateescape")
    ).hexdigest()
    shift = classifier.decision.slide_shift
    pieces = TEMPLATES.get_template("crops.html").generate(
        **about,
        **_head(predictions, about, named),
        slides=rows,
        has_labels=any(one.label is not None for one in predictions),
        has_novelty=any(one.novelty is not None for one in predictions),
        about={
            "key": f"glomeruli-{key}",
            "natives": natives_folder(path).name,
            "classes": about["classes"],
            "model": about["model"]["short"],
            # What may be added to the log-odds of a slide, and how probable each of it is.
            "shifts": [*zip((shift.mean + shift.deviation * POINTS).tolist(), WEIGHTS.tolist())],
            "whole": not part,
        },
        crops=_crops(folder, predictions, classifier, about["classes"], path),
    )
    with replacing(path) as file:
        file.writelines(pieces)


def _crops(
    folder: Path,
    predictions: Sequence[Prediction],
    classifier: Classifier,
    classes: Sequence[str],
    path: Path,
) -> Iterator[dict[str, Any]]:
    """Yield what the page `path` says about each crop, the most probably positive first."""
    order = sorted(predictions, key=lambda one: (-one.probability, one.name))
    probability = np.array([one.probability for one in order], dtype=np.float64)
    distances = confidence(probability, classifier.decision.threshold)
    natives = natives_folder(path)
    pictures = thumbnails([locate(folder, one.name) for one in order], natives, classifier)
    for drawn, one, distance in zip(pictures, order, distances):
        wrong = one.label not in (None, one.predicted)
        is_novel = one.novelty is not None and one.novelty > OUT_OF_DISTRIBUTION
        predicted, label = classes[one.predicted], None if one.label is None else classes[one.label]
        alt = [f"{predicted}, probability {one.probability:.3f}", *["uncertain"] * one.uncertain]
        alt += [f"against its label, {label}"] * wrong + [f"slide {one.slide}"] * bool(one.slide)
        kinds = {
            "positive": one.predicted,
            "negative": not one.predicted,
            "uncertain": one.uncertain,
            "wrong": wrong,
            "novel": is_novel,
        }
        yield {
            **one._asdict(),
            **drawn._asdict(),
            "kinds": " ".join(name for name, applies in kinds.items() if applies),
            "predicted": predicted,
            "label": label,
            "wrong": wrong,
            "is_novel": is_novel,
            "confidence": f"{distance:.6f}",
            "alt": f"{', '.join(alt)}: {one.name}",
            "native": quote(f"{natives.name}/{drawn.native}"),
        }
