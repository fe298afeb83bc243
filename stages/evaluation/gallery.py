"""A page to look through judged crops and to correct them: HTML that holds everything and asks no
network.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.base.errors import UserError
from stages.base.files import replacing, sha256
from stages.evaluation.classifier import Classifier
from stages.evaluation.judged import Judged, SlideCount, count_slides
from stages.evaluation.thumbnails import thumbnails
from stages.measures.decision import Decision, confidence
from stages.measures.novelty import OUT_OF_DISTRIBUTION
from stages.model.file import MODEL

# More than so many are a page for each slide.
CROPS_A_PAGE = 2000
RULES = {
    "fixed": "fixed at even odds",
    "youden": "the highest Youden index on the validation slides",
    "balanced": "sensitivity and specificity as equal as they get on the validation slides",
    "sensitivity": "a sensitivity of {target} on the validation slides",
}
TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("page")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Part(NamedTuple):
    """Judged crops that stand on one page: of a slide, or a part of one that has too many."""

    slide: SlideCount
    part: str
    crops: list[Judged]


def write_gallery(
    path: Path, folder: Path, judged: Sequence[Judged], classifier: Classifier, model: Path
) -> None:
    """Write the page: each crop as the model sees it, where the model looks, its verdict in words,
    and buttons to correct it.

    Of more crops than a browser holds, `path` is an index with a page for each slide in the folder
    of `pages_folder`.

    Args:
        folder: of the crops.
        judged: crops whose names are paths in `folder`.
        model: the folder of the model.
    """
    about = _about(classifier, model)
    slides = count_slides(judged)
    if len(judged) <= CROPS_A_PAGE:
        _write_page(path, folder, judged, slides, about, classifier)
        return
    rows: list[dict[str, Any]] = []
    pages = pages_folder(path)
    for number, part in enumerate(_parts(judged, slides), start=1):
        page = pages / f"{number:04}.html"
        _write_page(
            page,
            folder,
            part.crops,
            [part.slide],
            about | {"up": quote(f"../{path.name}")},
            classifier,
            part.part,
        )
        # Counted once: a second page of a slide says nothing of them.
        again = bool(rows) and rows[-1]["slide"] == part.slide.slide
        uncounted = (
            dict.fromkeys(("glomeruli", "sclerotic", "share", "uncertain"), "") if again else {}
        )
        rows.append(
            _slide(part.slide)
            | uncounted
            | {"part": part.part, "link": quote(f"{pages.name}/{page.name}")}
        )
    # Those of an earlier run would be taken for this one's.
    written = {f"{number:04}.html" for number in range(1, len(rows) + 1)}
    for old in pages.iterdir():
        if old.name not in written:
            old.unlink()
    with replacing(path) as file:
        file.write(
            TEMPLATES.get_template("index.html").render(
                **about, **_head(judged, about), slides=rows
            )
        )


def pages_folder(path: Path) -> Path:
    """Return the folder of the pages of each slide, beside the index."""
    name = path.stem if path.suffix.lower() in (".html", ".htm") else path.name
    return path.with_name(f"{name}-slides")


def refuse_pages(path: Path, crops: int) -> None:
    """Raise `UserError` if there will be a page for each slide, and their folder has something else
    in it.
    """
    folder = pages_folder(path)
    if crops <= CROPS_A_PAGE or not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(
            f"--html: {folder} is not a folder; the pages of {crops:,} crops, one for each slide, go there"
        )
    if others := sorted(
        one.name for one in folder.iterdir() if not re.fullmatch(r"\d{4,}\.html(\.part)?", one.name)
    ):
        raise UserError(
            f"--html: {folder} holds {others[0]!r}, which is no page of an earlier run; choose another name"
        )


def _parts(judged: Sequence[Judged], slides: Sequence[SlideCount]) -> Iterator[Part]:
    of_slide = defaultdict(list)
    for one in judged:
        of_slide[one.slide].append(one)
    for slide in slides:
        crops = of_slide[slide.slide]
        for start in range(0, len(crops), CROPS_A_PAGE):
            some = crops[start : start + CROPS_A_PAGE]
            yield Part(
                slide,
                f", {start + 1} to {start + len(some)}" if len(crops) > CROPS_A_PAGE else "",
                some,
            )


def _about(classifier: Classifier, model: Path) -> dict[str, Any]:
    """Return what all pages say of the model."""
    made, decision, file = classifier.made, classifier.decision, model / MODEL.name
    return {
        "classes": made.class_names,
        "model": {
            "step": made.step,
            "title": made.dataset.card.title,
            "threshold": f"{decision.threshold:.3f}",
            "rule": RULES[decision.threshold_rule].format(target=decision.target_sensitivity),
            "uncertain": _band(decision),
            "file": MODEL.name,
            "date": f"{datetime.fromtimestamp(file.stat().st_mtime, UTC):%Y-%m-%d}",
            "sha256": sha256(file),
            "recalibrated": made.recalibrated is not None,
        },
        "up": None,
    }


def _band(decision: Decision) -> str:
    low, high = decision.uncertain.low, decision.uncertain.high
    return (
        "never" if low is None or high is None else f"from a probability of {low:.3f} to {high:.3f}"
    )


def _head(judged: Sequence[Judged], about: dict[str, Any], of: str = "") -> dict[str, Any]:
    """Return the title of a page and what stands below it."""
    positive, unsure = sum(one.predicted for one in judged), sum(one.uncertain for one in judged)
    slides = len({one.slide for one in judged} - {""})
    of_slides = f" of {slides:,} slide{'s' * (slides != 1)}" if slides else ""
    abstains = (
        f"The model is not sure of {unsure:,} of these {len(judged):,} crops: its line may not hold here. Label a dozen of them, "
        "and see python -m stages.recalibrate --help."
    )
    return {
        "title": f"Glomeruli{of}",
        "counts": f"{len(judged):,} crops{of_slides}: {positive:,} {about['classes'][1]}, {unsure:,} uncertain.",
        "abstains": abstains if 2 * unsure > len(judged) else "",
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
    judged: Sequence[Judged],
    slides: Sequence[SlideCount],
    about: dict[str, Any],
    classifier: Classifier,
    part: str = "",
) -> None:
    rows = [_slide(one) | {"part": part} for one in slides]
    named = f" of slide {slides[0].slide or '(not known)'}{part}" if about["up"] else ""
    names = "\n".join(one.name for one in judged)
    key = hashlib.sha256(
        f"{about['model']['sha256']}\n{names}".encode("utf-8", "surrogateescape")
    ).hexdigest()
    positive = about["classes"][1]
    says = [
        [
            one["slide"],
            f"{one['slide'] or '(not known)'}: {one['sclerotic']} of {one['glomeruli']} {positive}, {one['share']}",
        ]
        for one in rows
    ]
    pieces = TEMPLATES.get_template("crops.html").generate(
        **about,
        **_head(judged, about, named),
        slides=rows,
        has_labels=any(one.label is not None for one in judged),
        has_novelty=any(one.novelty is not None for one in judged),
        about={"key": f"glomeruli-{key}", "slides": says},
        crops=_crops(folder, judged, classifier, about["classes"]),
    )
    with replacing(path) as file:
        file.writelines(pieces)


def _crops(
    folder: Path, judged: Sequence[Judged], classifier: Classifier, classes: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield what the page says of each crop, the likeliest positive first, with its pictures."""
    order = sorted(judged, key=lambda one: (-one.probability, one.name))
    sure = confidence(
        np.array([one.probability for one in order], dtype=np.float64),
        classifier.decision.threshold,
    )
    for (picture, heat), one, distance in zip(
        thumbnails([folder / one.name for one in order], classifier), order, sure
    ):
        wrong, is_novel = (
            one.label not in (None, one.predicted),
            one.novelty is not None and one.novelty > OUT_OF_DISTRIBUTION,
        )
        verdict, label = classes[one.predicted], None if one.label is None else classes[one.label]
        says = [f"{verdict}, probability {one.probability:.3f}", *["uncertain"] * one.uncertain]
        says += [f"against its label, {label}"] * wrong + [f"slide {one.slide}"] * bool(one.slide)
        flags = {
            "positive": one.predicted,
            "negative": not one.predicted,
            "uncertain": one.uncertain,
            "wrong": wrong,
        }
        yield {
            **one._asdict(),
            "kinds": " ".join(
                name for name, holds in (flags | {"novel": is_novel}).items() if holds
            ),
            "verdict": verdict,
            "label": label,
            "wrong": wrong,
            "is_novel": is_novel,
            "sure": f"{distance:.6f}",
            "says": f"{', '.join(says)}: {one.name}",
            "picture": picture,
            "heat": heat,
        }
