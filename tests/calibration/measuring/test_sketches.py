"""Sketches keep inner products: exactly for small latents, on average for large ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from forking import FORKING
from waiting import CEILING

from otcache_plugin.calibration.measuring.sketches import SKETCHED, sketch

LARGE = (3, 4, 50, 50)
"""10,000 elements of each pair."""


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(2, 5), (3, 4, 8, 8), (2, 16, 16, 16)])
def test_small_latents_stay_as_they_are(shape: tuple[int, ...]) -> None:
    latents, others = drawn(0, *shape), drawn(1, *shape)
    short = sketch(latents)
    assert short.dtype == np.float32
    elements = latents[0].numel()
    assert elements <= SKETCHED
    flat = latents.flatten(1).double().numpy()
    np.testing.assert_array_equal(short, (flat / np.sqrt(elements)).astype(np.float32))
    products = np.einsum("nk,nk->n", short, sketch(others))
    means = (latents * others).flatten(1).mean(dim=1).numpy()
    np.testing.assert_allclose(products, means, atol=1e-6)


def test_large_latents_keep_their_inner_products_on_average() -> None:
    """The error's standard deviation is at most sqrt(2 / 4096) of the product of the lengths."""
    common = drawn(0, 200, 10_000)
    left, right = common + drawn(1, 200, 10_000), common + drawn(2, 200, 10_000)
    products = np.einsum("nk,nk->n", sketch(left), sketch(right), dtype=np.float64)
    exact = (left * right).mean(dim=1).numpy()
    lengths = (left.square().mean(dim=1) * right.square().mean(dim=1)).sqrt().numpy()
    errors = (products - exact) / lengths
    deviation = np.sqrt(2 / SKETCHED)
    assert 0 < errors.std() < 1.2 * deviation
    assert np.abs(errors).max() < 5 * deviation
    assert abs(errors.mean()) < 5 * deviation / np.sqrt(len(errors))


def test_it_is_linear() -> None:
    """What a run's end less the full run's is folded to is the difference of both, folded."""
    left, right = drawn(0, *LARGE), drawn(1, *LARGE)
    assert sketch(left).shape == (3, SKETCHED)
    np.testing.assert_allclose(sketch(left - right), sketch(left) - sketch(right), atol=1e-6)


def test_every_element_is_kept_once() -> None:
    """A vector of one element has one place, with a sign of its own, and its whole length."""
    units = torch.eye(6_000)[:: 6_000 // 50]
    short = sketch(units) * np.sqrt(6_000)
    assert (np.count_nonzero(short, axis=1) == 1).all()
    np.testing.assert_allclose(np.abs(short).sum(axis=1), 1.0, rtol=1e-6)
    assert {-1, 1} == set(np.sign(short.sum(axis=1)).astype(int))


def test_each_pair_is_folded_alone() -> None:
    latents = drawn(0, *LARGE)
    np.testing.assert_array_equal(sketch(latents[1:2]), sketch(latents)[1:2])


def keep_a_sketch(path: Path) -> None:
    """Sketch the same latents, in whatever process this is."""
    np.save(path, sketch(drawn(0, *LARGE)))


@pytest.mark.usefixtures("fork_server")
def test_it_is_the_same_in_another_process(tmp_path: Path) -> None:
    process = FORKING.Process(target=keep_a_sketch, args=(tmp_path / "sketch.npy",))
    process.start()
    process.join(CEILING)
    assert process.exitcode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "sketch.npy"), sketch(drawn(0, *LARGE)))
