"""The scenes show what their captions say, and leave the rest to chance."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray

from otcache_plugin.models import scenes
from otcache_plugin.models.scenes import (
    BACKGROUNDS,
    COLOURS,
    POSITIONS,
    SHAPES,
    Caption,
    all_captions,
    held_out_captions,
    render,
    sample_captions,
    training_captions,
)


@pytest.fixture(scope="module")
def of_every_caption() -> scenes.Scenes:
    """One scene of each caption, in their order."""
    return render(all_captions(), np.random.default_rng(0))


def test_captions_cover_everything_once() -> None:
    captions = all_captions()
    assert len(set(captions)) == len(captions) == 8 * 4 * 5 * 6
    assert len({str(caption) for caption in captions}) == len(captions)
    assert str(Caption("red", "circle", "left", "navy")) == "red circle left on navy"


def test_held_out_captions_are_apart_and_everything_else_is_trained_on() -> None:
    training, held_out = set(training_captions()), set(held_out_captions())
    assert training.isdisjoint(held_out)
    assert training | held_out == set(all_captions())
    assert 0.1 < len(held_out) / len(all_captions()) < 0.2
    # Nothing that a caption names is met for the first time in a held-out one.
    for field in ("colour", "shape", "position", "background"):
        assert {getattr(caption, field) for caption in training} >= {
            getattr(caption, field) for caption in held_out
        }


def test_the_split_is_fixed() -> None:
    """The embedded model was trained on one side of it: it must never move."""
    text = "\n".join(str(caption) for caption in held_out_captions())
    assert hashlib.sha256(text.encode()).hexdigest().startswith("264b4c9521d4037c")


def test_sampling_repeats_only_when_it_must() -> None:
    captions = all_captions()[:10]
    rng = np.random.default_rng(0)
    assert set(Counter(sample_captions(captions, 7, rng)).values()) == {1}
    assert set(Counter(sample_captions(captions, 30, rng)).values()) == {3}
    assert sample_captions(captions, 10, np.random.default_rng(1)) == sample_captions(
        captions, 10, np.random.default_rng(1)
    )


def test_rendering_is_deterministic() -> None:
    captions = all_captions()[::100]
    first, again, other = (render(captions, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.pictures, again.pictures)
    assert not np.array_equal(first.pictures, other.pictures)
    assert first.captions == tuple(captions)


def test_pictures_are_pictures(of_every_caption: scenes.Scenes) -> None:
    pictures = of_every_caption.pictures
    assert pictures.shape == (960, 32, 32, 3)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert (pictures.std(axis=(1, 2)).max(axis=1) > 0.05).all()


def around(picture: NDArray[np.float32], position: str) -> NDArray[np.float32]:
    """The pixels that the middle of a position can fall on, `(N, 3)`."""
    (left, right), (top, bottom) = (
        (int(np.floor(each - 0.5)), int(np.ceil(each - 0.5))) for each in POSITIONS[position]
    )
    return picture[top : bottom + 1, left : right + 1].reshape(-1, 3)


def test_the_described_object_is_where_and_as_it_is_described(
    of_every_caption: scenes.Scenes,
) -> None:
    for caption, picture in zip(of_every_caption.captions, of_every_caption.pictures, strict=True):
        pixels = around(picture, caption.position)
        assert np.abs(pixels - COLOURS[caption.colour]).max(axis=1).min() < 1e-6, str(caption)


def test_the_background_is_the_captions(of_every_caption: scenes.Scenes) -> None:
    names = list(BACKGROUNDS)
    palette = np.array(list(BACKGROUNDS.values()))
    for caption, picture in zip(of_every_caption.captions, of_every_caption.pictures, strict=True):
        # It may be a tenth darker or brighter, and fills most of the picture's border.
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        colour = np.median(border, axis=0)
        assert names[np.abs(palette - colour).sum(axis=1).argmin()] == caption.background


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_differ(shape: str) -> None:
    """Shapes are as wide as high, and fill pi/4, 1, a half, and 1 - 0.66² of that."""
    filled = {"circle": np.pi / 4, "square": 1.0, "triangle": 0.5, "cross": 1 - 0.66**2}
    captions = [Caption("white", shape, "center", "black")] * 20
    shares, aspects = [], []
    for picture in render(captions, np.random.default_rng(0)).pictures:
        white = picture.min(axis=2) > 0.9
        # The described object alone: the others have other colours, or are too far off to touch it.
        middle = white[7:25, 7:25]
        rows, columns = np.flatnonzero(middle.any(axis=1)), np.flatnonzero(middle.any(axis=0))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        shares.append(middle.sum() / (height * width))
        aspects.append(width / height)
    assert np.median(shares) == pytest.approx(filled[shape], abs=0.08)
    assert np.median(aspects) == pytest.approx(1, abs=0.15)


def test_what_a_caption_leaves_open_differs() -> None:
    captions = [Caption("red", "square", "left", "gray")] * 30
    pictures = render(captions, np.random.default_rng(0)).pictures
    assert len({picture.tobytes() for picture in pictures}) == 30
    # Smaller objects lie to the right in some scenes and not in others.
    right = np.ptp(pictures[:, 4:28, 20:30], axis=(1, 2, 3))
    assert right.max() > 0.3
