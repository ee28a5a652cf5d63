"""Procedural captioned scenes: one described object, one to three smaller ones left to chance.

The data set that the embedded model was trained on and that the exact flow consists of. A scene is
a 32 × 32 RGB picture; its caption names the colour, shape and position of the main object and the
background. What the caption leaves open (the smaller objects, jitter in place and size) is what
a sampler has to decide, and what makes errors in its early steps matter.
"""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SIZE = 32

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.90, 0.12, 0.14),
    "green": (0.13, 0.72, 0.22),
    "blue": (0.14, 0.32, 0.95),
    "yellow": (0.98, 0.88, 0.12),
    "purple": (0.62, 0.16, 0.80),
    "orange": (0.98, 0.55, 0.08),
    "cyan": (0.12, 0.85, 0.90),
    "white": (0.97, 0.97, 0.97),
}
SHAPES = ("circle", "square", "triangle", "cross")
POSITIONS: dict[str, tuple[float, float]] = {
    "left": (8.5, 16.0),
    "right": (23.5, 16.0),
    "top": (16.0, 8.5),
    "bottom": (16.0, 23.5),
    "center": (16.0, 16.0),
}
BACKGROUNDS: dict[str, tuple[float, float, float]] = {
    "black": (0.05, 0.05, 0.06),
    "gray": (0.48, 0.48, 0.50),
    "navy": (0.06, 0.10, 0.32),
    "brown": (0.40, 0.25, 0.13),
    "pink": (0.98, 0.70, 0.78),
    "olive": (0.40, 0.43, 0.16),
}

_PALETTE = np.array(list(COLOURS.values()), dtype=np.float32)
_HELD_OUT_SHARE = 0.15


@dataclass(frozen=True, order=True)
class Caption:
    """What a caption fixes of a scene; `str` gives the prompt."""

    colour: str
    shape: str
    position: str
    background: str

    def __str__(self) -> str:
        return f"{self.colour} {self.shape} {self.position} on {self.background}"


@dataclass(frozen=True)
class Scenes:
    """Rendered scenes.

    Attributes:
        pictures: `(N, 32, 32, 3)` float32 in [0, 1].
        captions: the N captions.
    """

    pictures: NDArray[np.float32]
    captions: tuple[Caption, ...]


def all_captions() -> tuple[Caption, ...]:
    """Return every caption, in a fixed order."""
    fields = itertools.product(COLOURS, SHAPES, POSITIONS, BACKGROUNDS)
    return tuple(Caption(*values) for values in fields)


def _is_held_out(caption: Caption) -> bool:
    digest = hashlib.sha256(str(caption).encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < _HELD_OUT_SHARE


def training_captions() -> tuple[Caption, ...]:
    """Return the captions that the embedded model was trained and its policy calibrated on."""
    return tuple(caption for caption in all_captions() if not _is_held_out(caption))


def held_out_captions() -> tuple[Caption, ...]:
    """Return the captions, about 15 %, that neither training nor calibration has seen."""
    return tuple(caption for caption in all_captions() if _is_held_out(caption))


def sample_captions(
    captions: Sequence[Caption], count: int, rng: np.random.Generator
) -> list[Caption]:
    """Draw `count` captions, without repeats as long as there are enough."""
    order: list[int] = []
    while len(order) < count:
        order.extend(rng.permutation(len(captions)).tolist())
    return [captions[index] for index in order[:count]]


def render(captions: Sequence[Caption], rng: np.random.Generator) -> Scenes:
    """Render one scene per caption, everything the caption leaves open drawn from `rng`."""
    count = len(captions)
    pictures = np.empty((count, SIZE, SIZE, 3), dtype=np.float32)
    for index, caption in enumerate(captions):
        background = np.array(BACKGROUNDS[caption.background], dtype=np.float32)
        picture = np.broadcast_to(background * rng.uniform(0.9, 1.1), (SIZE, SIZE, 3)).copy()
        centre = np.array(POSITIONS[caption.position]) + rng.uniform(-1.0, 1.0, 2)
        radius = rng.uniform(6.0, 7.5)
        placed = [(centre, radius)]
        colour = np.array(COLOURS[caption.colour], dtype=np.float32)
        _draw(picture, caption.shape, centre, radius, colour)
        for _ in range(rng.integers(1, 4)):
            small_radius = rng.uniform(2.6, 4.0)
            small_centre = _free_place(placed, small_radius, rng)
            if small_centre is None:
                continue
            placed.append((small_centre, small_radius))
            colour = _PALETTE[rng.integers(len(_PALETTE))]
            shape = SHAPES[rng.integers(len(SHAPES))]
            _draw(picture, shape, small_centre, small_radius, colour)
        pictures[index] = np.clip(picture, 0.0, 1.0)
    return Scenes(pictures, tuple(captions))


def _free_place(
    placed: Sequence[tuple[NDArray[np.float64], float]], radius: float, rng: np.random.Generator
) -> NDArray[np.float64] | None:
    for _ in range(20):
        centre = rng.uniform(radius, SIZE - radius, 2)
        if all(np.hypot(*(centre - other)) > radius + size + 0.5 for other, size in placed):
            return centre
    return None


def _draw(
    picture: NDArray[np.float32],
    shape: str,
    centre: NDArray[np.float64],
    radius: float,
    colour: NDArray[np.float32],
) -> None:
    """Paint one object with a one-pixel soft edge (coverage from its signed distance)."""
    axis = np.arange(SIZE) + 0.5
    x = axis[None, :] - centre[0]
    y = axis[:, None] - centre[1]
    coverage = np.clip(0.5 - _signed_distance(shape, x, y, radius), 0.0, 1.0)[..., None]
    picture += (coverage * (colour - picture)).astype(np.float32)


def _signed_distance(
    shape: str, x: NDArray[np.float64], y: NDArray[np.float64], radius: float
) -> NDArray[np.float64]:
    distance: NDArray[np.float64]
    if shape == "circle":
        distance = np.hypot(x, y) - radius
    elif shape == "square":
        distance = np.maximum(np.abs(x), np.abs(y)) - 0.85 * radius
    elif shape == "triangle":
        slanted = (2.0 * np.abs(x) - y) / np.sqrt(5.0) - 0.40 * radius
        distance = np.maximum(slanted, y - 0.8 * radius)
    else:
        bar = 0.34 * radius
        horizontal = np.maximum(np.abs(x) - radius, np.abs(y) - bar)
        vertical = np.maximum(np.abs(x) - bar, np.abs(y) - radius)
        distance = np.minimum(horizontal, vertical)
    return distance
