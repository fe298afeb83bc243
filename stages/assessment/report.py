"""The report of an assessment: one HTML file with all results, which needs no network."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markdown_it import MarkdownIt
from markupsafe import Markup
from PIL import Image

from stages.assessment.charts import draw_charts
from stages.assessment.model import CARD, MODELS
from stages.assessment.results import Assessment
from stages.base.files import replacing
from stages.comparison.page import (
    ABOUT_WITHIN_FOLDS,
    about_crops,
    about_size,
    values_of_runs,
    with_deviation,
    with_interval,
)
from stages.dataset.card import Dataset
from stages.evaluation.classifier import DRAWN
from stages.evaluation.pictures import CLASSES, KINDS
from stages.evaluation.results import OF_SIZE
from stages.evaluation.templates import page_templates
from stages.evaluation.thumbnails import embedded
from stages.experiments.markdown import BY_SITE, markdown_table, site_table, three_digits
from stages.experiments.reading import Experiment
from stages.images.archives import File, locate
from stages.images.opening import load_image
from stages.measures.percentages import LIMITS
from stages.measures.scores import WITHIN_FOLDS, confusion, title

# Pixels per side and WebP quality of a crop.
SIDE, QUALITY = 224, 80
SHOWN_ISSUES = 24
OF_FOLDS = ("images", "positives", "roc_auc", "sensitivity", "specificity", "coverage")
# A picture of another file would need the network.
MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
TEMPLATES = page_templates(Path(__file__).with_name("page"))


class Made(NamedTuple):
    """How an assessment was made.

    Attributes:
        commit: that the experiments start from.
        final: the experiment of the model to use, which is in the folder `model`.
        against: Markdown, what differs from another revision; empty if none was asked for.
    """

    command: str
    commit: str
    folds: list[Experiment]
    final: Experiment
    model: Path
    against: list[str]


def write_report(path: Path, found: Assessment, dataset: Dataset, made: Made) -> None:
    """Write the report of an assessment."""
    sample, setting = found.tested.sample, found.setting
    measured = {name: found.estimates[name] for name in OF_SIZE}
    warnings = [*[DRAWN] * dataset.card.drawn, *found.cautions, about_size([setting], [measured])]
    sites = [[_text(getattr(row, name)) for name in BY_SITE] for row in found.sites]
    card = (made.model / CARD).read_text(encoding="utf-8")
    page = TEMPLATES.get_template("report.html").render(
        title=dataset.card.title,
        step=made.final.params["model.step"],
        crops=len(sample.y_true),
        slides=len({*sample.slides.tolist()}),
        folds=len(made.folds),
        warnings=[*filter(None, warnings)],
        tiles=_tiles(found),
        against=_html(made.against),
        about=_html([about_crops([setting])]),
        measures=_html(_measures(found)),
        within_folds=ABOUT_WITHIN_FOLDS,
        charts=draw_charts(found),
        decided=_decided(found),
        sites=_html(site_table(sites)) if sites else "",
        agreement=_agreement(found),
        rows=found.slides,
        mistakes=_mistakes(found, dataset.folder),
        issues=_issues(found, dataset.folder),
        more_issues=max(0, len(found.issues) - SHOWN_ISSUES),
        of_folds=_html(_folds(made)),
        card=_html([card], deeper=2),
        made=made,
        data=sorted(made.final.data().items()),
        environment=sorted(made.final.made_with().items()),
        experiments=[*made.folds, made.final],
        models=MODELS,
    )
    with replacing(path) as file:
        file.write(page)


def _html(lines: Iterable[str], deeper: int = 0) -> Markup:
    """Return Markdown as HTML; HTML in it is shown as text.

    Args:
        deeper: by how many levels its headings are below those of the page.
    """
    tokens = MARKDOWN.parse("\n".join(lines))
    for token in tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{int(token.tag[1:]) + deeper}"
    html = MARKDOWN.renderer.render(tokens, MARKDOWN.options, {})
    # A wide table scrolls by itself, also by the keyboard.
    for tag, wrapped in (
        ("<table>", '<div class="scroll" tabindex="0"><table>'),
        ("</table>", "</table></div>"),
    ):
        html = html.replace(tag, wrapped)
    return Markup(html)


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _tiles(found: Assessment) -> list[dict[str, str]]:
    """Return the headline measures, and what they count."""
    tn, fp, fn, tp = confusion(found.tested.sample.y_true, found.tested.sample.y_pred)
    said = {
        WITHIN_FOLDS: "of two crops of one fold, the chance that the sclerotic one ranks higher",
        "sensitivity": f"{tp:,} of {tp + fn:,} globally sclerotic glomeruli found",
        "specificity": f"{tn:,} of {tn + fp:,} others recognized as such",
        "precision": f"{tp:,} of {tp + fp:,} predicted globally sclerotic are",
    }
    tiles = []
    for name, about in said.items():
        one = found.estimates[name]
        span = "no interval" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
        value = three_digits(one.value)
        tiles.append({"name": title(name), "value": value, "interval": span, "about": about})
    return tiles


def _measures(found: Assessment) -> list[str]:
    rows = [
        [
            title(name),
            with_interval(one),
            "" if name == WITHIN_FOLDS else with_deviation(values_of_runs(found.setting, name)),
        ]
        for name, one in found.estimates.items()
    ]
    unit = "site" if found.setting.by_site else "slide"
    pooled = f"all folds (95 % interval over {unit}s)"
    return markdown_table(["measure", pooled, "mean ± SD of the folds"], rows)


def _decided(found: Assessment) -> str:
    sample, decided = found.tested.sample, found.decided
    wrong = int((decided & (sample.y_pred != sample.y_true)).sum())
    return (
        f"{decided.sum():,} of the {len(decided):,} glomeruli ({100 * decided.mean():.1f} %) are "
        f"decided, {wrong:,} of them wrongly. The others are uncertain: a pathologist decides them."
    )


def _agreement(found: Assessment) -> str:
    one = found.agreement
    limits = "" if one.low is None else f" (limits of agreement {one.low:+.1f} to {one.high:+.1f})"
    return (
        f"Over {one.slides:,} slides, the predicted percentage minus the counted one is "
        f"{one.bias:+.1f} percentage points on average{limits}; {100 * one.same_category:.0f} % of "
        f"the slides stay on the same side of {', '.join(f'{limit:g}' for limit in LIMITS)} %."
    )


def _mistakes(found: Assessment, folder: Path) -> list[dict[str, Any]]:
    """Return both kinds of mistakes: how many there are, and the most confident ones."""
    sample, kinds = found.tested.sample, []
    for label, ((kind, truth), rows) in zip((1, 0), zip(KINDS, found.mistakes)):
        figures = [
            _figure(
                locate(folder, found.crops[row]),
                [f"p = {sample.y_score[row]:.3f}", f"slide {sample.slides[row]}"],
            )
            for row in rows
        ]
        wrong = (sample.y_true == label) & (sample.y_pred != label)
        kinds.append({"kind": kind, "truth": truth, "all": int(wrong.sum()), "figures": figures})
    return kinds


def _issues(found: Assessment, folder: Path) -> list[dict[str, Any]]:
    return [
        _figure(
            locate(folder, one.path),
            [f"labeled {CLASSES[one.label]}, p = {one.probability:.3f}", f"slide {one.slide}"],
        )
        for one in found.issues[:SHOWN_ISSUES]
    ]


def _figure(file: File, caption: Sequence[str]) -> dict[str, Any]:
    picture = load_image(file).convert("RGB")
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    source = embedded(picture, "webp", quality=QUALITY)
    return {"source": source, "caption": [*caption, file.name], "size": picture.size}


def _folds(made: Made) -> list[str]:
    """Return a table of the experiments of the folds."""
    rows = []
    for number, fold in enumerate(made.folds):
        of_fold = fold.measures()
        counts = [f"{of_fold[name]:.0f}" for name in OF_FOLDS[:2]]
        rates = [three_digits(of_fold.get(name)) for name in OF_FOLDS[2:]]
        rows.append([str(number), fold.name, *counts, *rates])
    titles = ("glomeruli", "globally sclerotic", *map(title, OF_FOLDS[2:-1]), "coverage")
    return markdown_table(["fold", "experiment", *titles], rows)
