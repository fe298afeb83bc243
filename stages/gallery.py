"""A page to look through judged crops: one HTML file that holds everything and asks no network."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from stages.files import replacing
from stages.images import load_image
from stages.parallel import on_all_cores
from stages.squares import make_square

THUMBNAIL = 160  # pixels a side

TEMPLATE = Path(__file__).with_name("gallery.html")


def write_gallery(path: Path, folder: Path, judged: Sequence[Any], threshold: float) -> None:
    """Write the page: of each crop a thumbnail, padded white and the probability, the highest first.

    Args:
        folder: of the crops.
        judged: `stages.predict.Judged`, whose names are paths in `folder`.
        threshold: shown on the page.
    """
    order = sorted(judged, key=lambda one: (-one.probability, one.name))
    thumbnails = on_all_cores(_thumbnail, [(folder / one.name,) for one in order], "drawing thumbnails")
    before, after = TEMPLATE.read_text(encoding="utf-8").split("{{figures}}\n")
    with replacing(path) as page:
        page.write(before.replace("{{threshold}}", f"{threshold:.3f}"))
        for one, picture in zip(order, thumbnails):
            wrong = one.label is not None and one.label != one.predicted
            kinds = ["sclerotic"] * one.predicted + ["uncertain"] * one.uncertain + ["wrong"] * wrong
            label = "" if one.label is None else f"<br>label {one.label}"
            page.write(
                f'<figure class="{" ".join(kinds)}" data-slide="{html.escape(one.slide)}">'
                f'<img loading="lazy" alt="" src="data:image/jpeg;base64,{picture}">'
                f"<figcaption><b>{one.probability:.3f}</b>{' uncertain' * one.uncertain}<br>{html.escape(one.name)}{label}"
                "</figcaption></figure>\n"
            )
        page.write(after)


def _thumbnail(file: Path) -> str:
    file_like = io.BytesIO()
    Image.fromarray(make_square(load_image(file), "white", THUMBNAIL)).save(file_like, format="JPEG", quality=85)
    return base64.b64encode(file_like.getvalue()).decode("ascii")
