"""Procedural captioned landscapes: the data set of the second test-bed.

A landscape is a 32 × 32 RGB picture. Its caption fixes a thing, its colour and place, the country
it stands in and the time of day; the horizon, the sun or moon, the clouds and the thing's size are
left to chance, and so to the sampler.
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


@dataclass(frozen=True)
class Light:
    """A time of day: the sky's colours from top to horizon, the sun's or moon's, the light's."""

    top: tuple[float, float, float]
    horizon: tuple[float, float, float]
    disc: tuple[float, float, float]
    tint: tuple[float, float, float]


COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.92, 0.15, 0.15),
    "white": (0.97, 0.97, 0.95),
    "yellow": (0.98, 0.85, 0.10),
    "blue": (0.15, 0.35, 0.95),
    "purple": (0.65, 0.20, 0.80),
}
THINGS = ("house", "tree", "tower", "balloon")
PLACES: dict[str, float] = {"left": 8.0, "middle": 16.0, "right": 24.0}
COUNTRIES: dict[str, tuple[float, float, float]] = {
    "hills": (0.25, 0.62, 0.22),
    "mountains": (0.45, 0.42, 0.45),
    "desert": (0.90, 0.74, 0.42),
    "sea": (0.10, 0.38, 0.58),
    "snow": (0.90, 0.94, 0.98),
}
TIMES: dict[str, Light] = {
    "dawn": Light((0.55, 0.62, 0.90), (1.0, 0.75, 0.72), (1.0, 0.93, 0.60), (0.95, 0.85, 0.85)),
    "noon": Light((0.25, 0.55, 0.95), (0.70, 0.88, 1.0), (1.0, 0.97, 0.45), (1.0, 1.0, 1.0)),
    "dusk": Light((0.32, 0.15, 0.42), (0.98, 0.50, 0.20), (1.0, 0.32, 0.12), (0.80, 0.62, 0.65)),
    "night": Light((0.02, 0.03, 0.10), (0.10, 0.12, 0.30), (0.93, 0.93, 0.85), (0.45, 0.47, 0.62)),
}
WORDS = (*COLOURS, *THINGS, *PLACES, *COUNTRIES, *TIMES, "in", "at")

_HELD_OUT_SHARE = 0.2
_DARK = np.array([0.25, 0.16, 0.12])
_X, _Y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)


@dataclass(frozen=True, order=True)
class Caption:
    """What a caption fixes of a landscape; `str` gives the prompt."""

    colour: str
    thing: str
    place: str
    country: str
    time: str

    def __str__(self) -> str:
        return f"{self.colour} {self.thing} {self.place} in {self.country} at {self.time}"

    @property
    def is_held_out(self) -> bool:
        """Whether neither training nor calibration may see it."""
        return _fraction(self) < _HELD_OUT_SHARE


def _fraction(caption: Caption) -> float:
    """Return a number in [0, 1) that is the caption's own, as if drawn at random."""
    return int.from_bytes(hashlib.sha256(str(caption).encode()).digest()[:4], "big") / 2**32


def captions(*, held_out: bool) -> tuple[Caption, ...]:
    """Return the held-out captions, or all others, so mixed that any first few are a sample."""
    fields = itertools.product(COLOURS, THINGS, PLACES, COUNTRIES, TIMES)
    every = (Caption(*values) for values in fields)
    return tuple(sorted((one for one in every if one.is_held_out == held_out), key=_fraction))


def render(described: Sequence[Caption], rng: np.random.Generator) -> NDArray[np.float32]:
    """Return `(N, 32, 32, 3)` pictures in [0, 1], whatever captions leave open drawn from `rng`."""
    pictures = np.empty((len(described), SIZE, SIZE, 3), dtype=np.float32)
    for index, caption in enumerate(described):
        pictures[index] = np.clip(_landscape(caption, rng), 0.0, 1.0)
    return pictures


def _landscape(caption: Caption, rng: np.random.Generator) -> NDArray[np.float64]:
    light = TIMES[caption.time]
    top, horizon = np.array(light.top), np.array(light.horizon)
    height = np.clip(_Y / 22.0, 0.0, 1.0)[..., None]
    picture: NDArray[np.float64] = top + height * (horizon - top)
    disc = np.hypot(_X - rng.uniform(3.0, 29.0), _Y - rng.uniform(3.5, 9.0)) - rng.uniform(1.9, 3.0)
    _paint(picture, disc, np.array(light.disc))
    for _ in range(rng.integers(0, 3)):
        width, thickness = rng.uniform(3.5, 6.0), rng.uniform(1.1, 1.8)
        x, y = rng.uniform(2.0, 30.0), rng.uniform(3.0, 12.0)
        cloud = (np.hypot((_X - x) / width, (_Y - y) / thickness) - 1.0) * thickness
        _paint(picture, cloud, 0.75 * np.array(light.tint) + 0.25 * horizon)
    tint = np.array(light.tint) * rng.uniform(0.93, 1.05)
    x = PLACES[caption.place] + rng.uniform(-1.5, 1.5)
    foot = _draw_country(picture, caption.country, x, tint, rng)
    colour = np.array(COLOURS[caption.colour]) * (0.4 + 0.6 * tint)
    _draw_thing(picture, caption.thing, x, foot, colour, tint, rng)
    return picture


def _draw_country(
    picture: NDArray[np.float64],
    country: str,
    x: float,
    tint: NDArray[np.float64],
    rng: np.random.Generator,
) -> float:
    """Paint the ground and return the height at which something at `x` stands on it."""
    colour = np.array(COUNTRIES[country]) * tint
    level, phase, period = rng.uniform(20.5, 23.0), rng.uniform(0, 2 * np.pi), rng.uniform(18, 34)

    def wave(at: NDArray[np.float64] | float, amplitude: float) -> NDArray[np.float64]:
        return level + amplitude * np.sin(2 * np.pi * np.asarray(at) / period + phase)

    if country == "mountains":
        for _ in range(3):
            peak, height = rng.uniform(1.0, 31.0), rng.uniform(8.5, 15.0)
            rock = (height + rng.uniform(0.9, 1.4) * np.abs(_X - peak) - _Y) / 1.5
            _paint(picture, rock, colour * rng.uniform(0.75, 1.15))
            _paint(picture, np.maximum(rock, _Y - height - 2.5), 0.95 * tint)
        _paint(picture, wave(_X, 0.4) - _Y, np.array([0.24, 0.36, 0.20]) * tint)
        return float(wave(x, 0.4)) + 2.0
    if country == "sea":
        _paint(picture, level - _Y, colour)
        for row in (level + 3.0, level + 7.0):
            ripple = np.abs(_Y - row - 0.7 * np.sin(2 * np.pi * _X / 11.0 + phase)) - 0.4
            _paint(picture, ripple, colour + 0.14)
        islet = (np.hypot((_X - x) / 7.0, (_Y - level - 3.5) / 2.2) - 1.0) * 2.2
        _paint(picture, islet, np.array([0.85, 0.72, 0.45]) * tint)
        return level + 3.0
    amplitude = {"hills": 2.6, "desert": 1.5, "snow": 1.8}[country]
    back = level - rng.uniform(1.0, 4.0) + amplitude * np.sin(_X / rng.uniform(4.0, 7.0) - phase)
    _paint(picture, back - _Y, 0.8 * colour)
    _paint(picture, wave(_X, amplitude) - _Y, colour)
    return float(wave(x, amplitude)) + 1.5


def _draw_thing(
    picture: NDArray[np.float64],
    thing: str,
    x: float,
    foot: float,
    colour: NDArray[np.float64],
    tint: NDArray[np.float64],
    rng: np.random.Generator,
) -> None:
    dark, size = _DARK * (0.4 + 0.6 * tint), rng.uniform(0.9, 1.15)
    if thing == "house":
        _paint(picture, _box(x, foot - 3.0 * size, 4.0 * size, 3.0 * size), colour)
        roof = (np.abs(_X - x) + foot - 10.5 * size - _Y) / np.sqrt(2.0)
        _paint(picture, np.maximum(roof, _Y - (foot - 5.5 * size)), dark)
        _paint(picture, _box(x, foot - 1.5 * size, 1.0 * size, 1.6 * size), dark)
    elif thing == "tree":
        _paint(picture, _box(x, foot - 3.0 * size, 0.9, 3.0 * size), dark)
        _paint(picture, np.hypot(_X - x, _Y - foot + 7.0 * size) - 4.2 * size, colour)
    elif thing == "tower":
        _paint(picture, _box(x, foot - 6.5 * size, 2.0 * size, 6.5 * size), colour)
        _paint(picture, _box(x, foot - 13.0 * size, 3.0 * size, 1.2), dark)
    else:
        y = rng.uniform(7.5, 12.0)
        _paint(picture, np.hypot(_X - x, _Y - y) - 4.4 * size, colour)
        _paint(picture, _box(x, y + 6.6 * size, 1.4, 1.2), dark)


def _box(x: float, y: float, half_width: float, half_height: float) -> NDArray[np.float64]:
    box: NDArray[np.float64] = np.maximum(np.abs(_X - x) - half_width, np.abs(_Y - y) - half_height)
    return box


def _paint(
    picture: NDArray[np.float64], distance: NDArray[np.float64], colour: NDArray[np.float64]
) -> None:
    """Paint where the signed distance is negative, with a one-pixel soft edge."""
    coverage = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
    picture += coverage * (colour - picture)
