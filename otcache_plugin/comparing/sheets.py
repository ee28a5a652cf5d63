"""Contact sheets: a prompt's picture by every variant on one sheet, with seconds and PSNR."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from otcache_plugin.comparing.wording import digits_of

if TYPE_CHECKING:
    from otcache_plugin.comparing.results import ComparisonResult, Row

    Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

COLUMNS = 6
TILE, LINE, GAP = 224, 17, 10
PAPER, INK, FAINT = "#ffffff", "#1c1f24", "#5d6673"


def contact_sheet(result: ComparisonResult, index: int) -> Image.Image:
    """Return the sheet of a pair, the full run's picture first."""
    rows = [result.full, *result.rows]
    width, height = _tile(rows[0], index).size
    lines = 3
    across, down = min(COLUMNS, len(rows)), ceil(len(rows) / COLUMNS)
    step = width + GAP, height + lines * LINE + GAP
    head = LINE + GAP
    sheet = Image.new("RGB", (across * step[0] + GAP, down * step[1] + GAP + head), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    pair = result.pairs[index]
    draw.text((GAP, GAP), f"{pair.prompt} (seed {pair.seed})", INK, font)
    for number, row in enumerate(rows):
        left = GAP + number % COLUMNS * step[0]
        top = GAP + head + number // COLUMNS * step[1]
        sheet.paste(_tile(row, index), (left, top))
        for line, (text, colour) in enumerate(_captions(result, row, index)):
            fitting = _fitting(text, font, width)
            draw.text((left, top + height + line * LINE), fitting, colour, font)
    return sheet


def _fitting(text: str, font: Font, width: int) -> str:
    """Return a text that is no wider than a tile, cut short where it would be."""
    if font.getlength(text) <= width:
        return text
    while font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


def _tile(row: Row, index: int) -> Image.Image:
    """Return a picture in the size of a tile, a small one with its pixels as squares."""
    with Image.open(row.pictures[index]) as picture:
        share = TILE / max(picture.size)
        size = round(picture.width * share), round(picture.height * share)
        how = Image.Resampling.NEAREST if share > 1 else Image.Resampling.LANCZOS
        return picture.convert("RGB").resize(size, how)


def _captions(result: ComparisonResult, row: Row, index: int) -> list[tuple[str, str]]:
    first = [(row.label, INK), (f"{row.variant.setting}, {row.seconds:.2f} s", FAINT)]
    if row is result.full:
        return first
    name, unit = result.quality.name, result.quality.unit
    value = f"{row.values[name][index]:.{digits_of(name)}f} {unit}".strip()
    return [*first, (f"{row.speedup:.2f} times as fast, {name.upper()} {value}", FAINT)]
