"""Contact sheets: many crops on one picture, each with a caption."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from stages.base.files import replacing

TILE, GAP, CAPTION = 176, 8, 30
PAPER, INK = (214, 214, 214), (20, 20, 20)  # Grey paper, on which both white and black padding are seen.


def contact_sheet(images: Sequence[Image.Image], captions: Sequence[str], columns: int) -> Image.Image:
    """Return a sheet of `images`, left to right and top to bottom, each fitted to a tile with its caption below.

    A caption has room for two lines. One that is too long for its tile is cut in the middle, where file names differ least.
    """
    columns = max(1, columns)
    rows = max(1, -(-len(images) // columns))
    sheet = Image.new("RGB", (GAP + columns * (TILE + GAP), GAP + rows * (TILE + CAPTION + GAP)), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=11)
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left = GAP + place % columns * (TILE + GAP)
        top = GAP + place // columns * (TILE + CAPTION + GAP)
        scale = TILE / max(image.size)
        size = [max(1, round(side * scale)) for side in image.size]
        tile = image.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        sheet.paste(tile, (left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2))
        for number, line in enumerate(caption.split("\n")[:2]):
            draw.text((left, top + TILE + 2 + 13 * number), _fitted(line, font), fill=INK, font=font)
    return sheet


def save_png(path: str | Path, picture: Image.Image) -> None:
    """Write `picture` as PNG."""
    with replacing(path, binary=True) as file:
        picture.save(file, format="PNG", optimize=True)


def _fitted(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    kept = len(text)
    fitted = text
    while font.getlength(fitted) > TILE:
        kept -= 1
        fitted = text[: kept // 2] + "..." + text[len(text) - (kept - kept // 2) :]
    return fitted
