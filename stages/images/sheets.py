"""Contact sheets: many crops on one picture, each with a caption."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from stages.base.files import replacing

TILE, GAP, LINE, HEADING = 176, 8, 15, 26
# Both white and black padding are visible on gray.
PAPER, INK = (214, 214, 214), (20, 20, 20)


def contact_sheet(
    images: Sequence[Image.Image],
    captions: Sequence[str],
    columns: int,
    heading: str = "",
    key: Image.Image | None = None,
) -> Image.Image:
    """Return a sheet of `images`, left to right and top to bottom, each with its caption below.

    A line that is too long for its tile is cut in the middle, where file names differ least.

    Args:
        heading: above the images; the sheet is at least as wide.
        key: a small picture that explains the colors, before the heading.
    """
    columns = max(1, columns)
    rows = max(1, -(-len(images) // columns))
    font, above = ImageFont.load_default(size=12), ImageFont.load_default(size=14)
    caption = LINE * max((text.count("\n") + 1 for text in captions), default=1) + 4
    top_of_all = HEADING * bool(heading)
    beside = key.width + GAP if key else 0
    width = max(GAP + columns * (TILE + GAP), 2 * GAP + beside + round(above.getlength(heading)))
    sheet = Image.new("RGB", (width, top_of_all + GAP + rows * (TILE + caption + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP + beside, GAP), heading, fill=INK, font=above)
    if key:
        sheet.paste(key, (GAP, GAP))
    for index, (image, text) in enumerate(zip(images, captions, strict=True)):
        left = GAP + index % columns * (TILE + GAP)
        top = top_of_all + GAP + index // columns * (TILE + caption + GAP)
        scale = TILE / max(image.size)
        size = [max(1, round(side * scale)) for side in image.size]
        tile = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        sheet.paste(tile, (left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
        for number, line in enumerate(text.split("\n")):
            place = (left, top + TILE + 2 + LINE * number)
            draw.text(place, _fitted(line, font), fill=INK, font=font)
    return sheet


def save_png(path: str | Path, picture: Image.Image) -> None:
    """Write `picture` as PNG."""
    with replacing(path, binary=True) as file:
        # The smallest file takes ten times as long, and is 6 % smaller.
        picture.save(file, format="PNG", compress_level=4)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    kept, fitted = len(text), text
    while font.getlength(fitted) > TILE:
        kept -= 1
        fitted = text[: kept // 2] + "..." + text[len(text) - (kept - kept // 2) :]
    return fitted
