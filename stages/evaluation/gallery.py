"""A page to look through judged crops: one HTML file that holds everything and asks no network."""

import base64
import html
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from stages.base.files import replacing
from stages.evaluation.attention import attention, overlay
from stages.evaluation.classifier import BATCH, Classifier
from stages.evaluation.judged import Judged
from stages.images.opening import load_image
from stages.workers.progress import progress

THUMBNAIL = 160  # pixels a side

TEMPLATE = Path(__file__).with_name("gallery.html")


def write_gallery(path: Path, folder: Path, judged: Sequence[Judged], classifier: Classifier) -> None:
    """Write the page: each crop as the model sees it, where the model looks under the mouse, and the probability.

    The highest comes first.

    Args:
        folder: of the crops.
        judged: crops whose names are paths in `folder`.
    """
    order = sorted(judged, key=lambda one: (-one.probability, one.name))
    before, after = TEMPLATE.read_text(encoding="utf-8").split("{{figures}}\n")
    with replacing(path) as page:
        page.write(before.replace("{{threshold}}", f"{classifier.decision.threshold:.3f}"))
        for one, (picture, heat) in zip(order, _thumbnails([folder / one.name for one in order], classifier)):
            wrong = one.label is not None and one.label != one.predicted
            kinds = ["sclerotic"] * one.predicted + ["uncertain"] * one.uncertain + ["wrong"] * wrong
            label = "" if one.label is None else f"<br>label {one.label}"
            page.write(
                f'<figure class="{" ".join(kinds)}" data-slide="{html.escape(one.slide)}">'
                f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{picture}">'
                f'<img loading="lazy" alt="" class="heat" src="data:image/jpeg;base64,{heat}">'
                f"<figcaption><b>{one.probability:.3f}</b>{' uncertain' * one.uncertain}<br>"
                f"<bdi>{html.escape(one.name)}</bdi>{label}</figcaption></figure>\n"
            )
        page.write(after)


def _thumbnails(files: Sequence[Path], classifier: Classifier) -> Iterator[tuple[str, str]]:
    with progress(total=len(files), desc="drawing thumbnails", unit="crop") as bar:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            squares = np.stack([classifier.square(load_image(file)) for file in batch])
            for square, heat in zip(squares, attention(classifier.model, squares)):
                yield _jpeg(Image.fromarray(square)), _jpeg(overlay(square, heat))
                bar.update()


def _jpeg(picture: Image.Image) -> str:
    file_like = io.BytesIO()
    picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS).save(file_like, format="JPEG", quality=85)
    return base64.b64encode(file_like.getvalue()).decode("ascii")
