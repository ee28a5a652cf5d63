"""Good schedules from the front: the best few ways to each computed step, by a beam search.

It goes like the shortest path through an edge table, with the state of the run in the place of a
number: from the best few ways to reach a step with b computed steps follow, by every segment, the
ways to reach later steps with b + 1. A way is as good as the form's value if the run ended there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from otcache_policies.displacement import Candidates
from otcache_policies.schedule import Schedule
from otcache_policies.segments import DISPLACEMENT
from otcache_policies.state_form import StateForm

__all__ = ["beam_search"]

WIDTH = 8
"""Ways to a step that are kept, each with a last segment of its own: ways that differ only in an
earlier one hardly differ."""

LONGEST = 3
"""Longest gap, in mean gaps."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int_]


@dataclass(frozen=True, eq=False)
class Layer:
    """The ways to reach each step with the same number of computed steps, the best first.

    Attributes:
        states: States of the runs at that step, of shape (T, ways, K+1, r).
        so_far: Damped squares of their segments, of shape (T, ways); infinite where no way is.
        begins: Step at which each way's last segment begins, likewise.
        look_backs: Look-back of that segment, counted from 0, likewise.
        before: Which of the ways to that step it goes on from, likewise.
    """

    states: Floats
    so_far: Floats
    begins: Integers
    look_backs: Integers
    before: Integers


def beam_search(form: StateForm, budget: int) -> list[Schedule]:
    """Return the best few schedules of a budget that are found, the best first."""
    total = form.num_inference_steps
    longest = math.ceil(LONGEST * (total - 1) / (budget - 1))
    layers = [_first(form)]
    for used in range(2, budget + 1):
        # Steps are left for all that is still to be computed, and the last one ends the run.
        latest = total - 1 - (budget - used)
        earliest = latest if used == budget else 1
        layers.append(_following(form, layers[-1], range(earliest, latest + 1), longest))
    return _traced(layers)


def _first(form: StateForm) -> Layer:
    """Return the only way to compute one step."""
    start, total = form.start(), form.num_inference_steps
    width = min(WIDTH, total)
    states = np.zeros((total, width, *start.shape))
    so_far = np.full((total, width), np.inf)
    states[0, 0], so_far[0, 0] = start, 0.0
    nothing = np.zeros(so_far.shape, dtype=int)
    return Layer(states, so_far, nothing, nothing, nothing)


def _following(form: StateForm, layer: Layer, ends: range, longest: int) -> Layer:
    """Return the ways with one computed step more, at one of `ends`."""
    total, width = layer.so_far.shape
    scores = np.full((total, total, len(form.look_backs) * width), np.inf)
    for begin in np.flatnonzero(np.isfinite(layer.so_far[:, 0])).tolist():
        reached = slice(max(begin + 1, ends.start), min(begin + longest + 1, ends.stop))
        if reached.start < reached.stop:
            scores[reached, begin] = _scores(form, layer, begin, reached)
    # For each step before, the best look-back and way; of these, the best few. Of equals the first:
    # where no step is cached every look-back is the same, and 1 is taken.
    choices = scores.argmin(axis=2)
    lowest = scores.min(axis=2)
    begins = np.argsort(lowest, axis=1, kind="stable")[:, :width]
    found = np.isfinite(np.take_along_axis(lowest, begins, axis=1))
    look_backs, before = np.divmod(np.take_along_axis(choices, begins, axis=1), width)
    begins = np.where(found, begins, 0)
    states = layer.states[begins, before]
    reached_states = form.after(states, begins, look_backs, np.arange(total)[:, None])
    so_far = layer.so_far[begins, before] + form.own(states, reached_states)
    return Layer(reached_states, np.where(found, so_far, np.inf), begins, look_backs, before)


def _scores(form: StateForm, layer: Layer, begin: int, ends: slice) -> Floats:
    """Return the values of runs that end after one more segment, of shape (ends, K · ways)."""
    states, so_far = layer.states[begin], layer.so_far[begin]
    rows, rank = states.shape[1] - 1, states.shape[2]
    matrices = form.maps[begin, :, ends.start - begin : ends.stop - begin, DISPLACEMENT, 1:]
    velocities = states[:, 1:].swapaxes(0, 1).reshape(rows, -1)
    added = (matrices.reshape(-1, rows) @ velocities).reshape(*matrices.shape[:2], -1, rank)
    added += form.fixed[begin, ends, 0][:, None]
    scores = so_far + form.damping * np.einsum("kewr,kewr->kew", added, added)
    added += states[:, DISPLACEMENT]
    scores += (1 - form.damping) * np.einsum("kewr,kewr->kew", added, added)
    found: Floats = scores.swapaxes(0, 1).reshape(ends.stop - ends.start, -1)
    return found


def _traced(layers: list[Layer]) -> list[Schedule]:
    """Return the schedules that the ways to the last step are."""
    total = len(layers[-1].so_far)
    ways = np.flatnonzero(np.isfinite(layers[-1].so_far[-1]))
    steps, look_backs = [np.full(len(ways), total - 1)], []
    for layer in reversed(layers[1:]):
        at = steps[-1], ways
        steps.append(layer.begins[at])
        look_backs.append(layer.look_backs[at] + 1)
        ways = layer.before[at]
    found = Candidates(np.stack(steps[::-1], axis=1), np.stack(look_backs[::-1], axis=1), total)
    return [found.schedule(index) for index in range(len(found))]
