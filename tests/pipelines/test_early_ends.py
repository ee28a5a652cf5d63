"""A call that ends early ends the run: nothing stays armed, and no tensor stays alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cache_dit
import pytest
import torch
from own_calls import (
    BUDGET,
    EXECUTORS,
    TOTAL,
    at_step,
    call_transformer,
    computed,
    make_pipe,
    run,
    sibling_of,
)

import otcache_plugin

both_executors = pytest.mark.parametrize("executor", EXECUTORS)


class BrokenOffError(Exception):
    """Raised in the middle of a call."""


def fail(pipe: Any) -> None:
    raise BrokenOffError


def interrupt(pipe: Any) -> None:
    raise KeyboardInterrupt


def stop(pipe: Any) -> None:
    pipe._interrupt = True


def leave(pipe: Any) -> None:
    raise SystemExit


ENDS = [fail, interrupt, leave, stop]
RAISED = (BrokenOffError, KeyboardInterrupt, SystemExit)


def break_off(pipe: Any, how: Any, step: int) -> None:
    """A call that ends at a step, its exception dropped."""
    try:
        run(pipe, seed=1, callback_on_step_end=at_step(step, how))
    except RAISED:
        assert how is not stop


@contextmanager
def watched_tensors(pipe: Any) -> Iterator[list[weakref.ref[torch.Tensor]]]:
    """All that the transformer and its blocks give, and the latents of every step."""
    seen: list[weakref.ref[torch.Tensor]] = []

    def note(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            seen.append(weakref.ref(value))
        elif isinstance(value, (tuple, list)):
            for each in value:
                note(each)

    def hook(_: Any, inputs: Any, output: Any) -> None:
        note(inputs)
        note(output)

    handles = [module.register_forward_hook(hook) for module in pipe.transformer.modules()]
    original = pipe.scheduler.step

    def step(velocity: Any, timestep: Any, sample: Any, **kwargs: Any) -> Any:
        # The pipeline keeps the current timestep itself, as an attribute.
        result = original(velocity, timestep, sample, **kwargs)
        note([velocity, sample, *result])
        return result

    pipe.scheduler.step = step
    try:
        yield seen
    finally:
        del pipe.scheduler.step
        for handle in handles:
            handle.remove()


# Steps 0, 4, 7 and 11 are computed: 6 comes before a computed one, 8 before a cached one.
@both_executors
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("step", [0, 6, 8])
def test_nothing_stays_armed(executor: str, how: Any, step: int) -> None:
    plain = run(make_pipe())
    inputs = [call_transformer(make_pipe(), seed=seed) for seed in (8, 9)]
    pipe = cache_dit.enable_cache(make_pipe(), policy="uniform", budget=BUDGET, executor=executor)
    cached = run(pipe)
    keys = {name: set(vars(part)) for name, part in pipe.transformer.named_modules()}
    break_off(pipe, how, step)
    report = otcache_plugin.summary(pipe)
    assert (report.finished_steps, report.as_planned) == (step + 1, False)

    assert not {"step", "set_timesteps"} & vars(pipe.scheduler).keys()
    assert {name: set(vars(part)) for name, part in pipe.transformer.named_modules()} == keys
    for seed, expected in zip((8, 9), inputs, strict=True):
        assert torch.equal(call_transformer(pipe, seed=seed), expected)
    sibling = sibling_of(pipe)
    assert torch.equal(run(sibling), plain)
    assert computed(sibling, executor) == TOTAL
    # The next call is like the first.
    assert torch.equal(run(pipe), cached)
    assert otcache_plugin.summary(pipe).as_planned
    cache_dit.disable_cache(pipe)
    assert torch.equal(run(pipe), plain)


@both_executors
@pytest.mark.parametrize("how", [*ENDS, None])
def test_no_tensor_stays_alive(executor: str, how: Any) -> None:
    pipe = cache_dit.enable_cache(make_pipe(), policy="uniform", budget=BUDGET, executor=executor)
    with watched_tensors(pipe) as seen:
        if how is None:
            run(pipe)
        else:
            break_off(pipe, how, 6)
    gc.collect()
    assert len(seen) > 50
    weights = {id(each) for each in (*pipe.transformer.parameters(), *pipe.transformer.buffers())}
    alive = [each() for each in seen]
    assert [each.shape for each in alive if each is not None and id(each) not in weights] == []


@both_executors
@pytest.mark.parametrize("how", [fail, interrupt])
def test_the_exception_alone_keeps_nothing_of_ours(executor: str, how: Any) -> None:
    # A traceback keeps the frames, and with them what the pipeline itself has in its variables.
    def kept(pipe: Any) -> int:
        with watched_tensors(pipe) as seen:
            try:
                run(pipe, callback_on_step_end=at_step(8, how))
            except RAISED as error:
                held = error
            gc.collect()
            assert held.__traceback__ is not None
            return len({id(each()) for each in seen if each() is not None})

    pipe = make_pipe()
    expected = kept(pipe)
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    assert kept(pipe) <= expected


@both_executors
def test_a_transformer_that_fails(executor: str) -> None:
    pipe = make_pipe()
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    cached = run(pipe)
    calls: list[int] = []

    def break_down(*_: Any) -> None:
        calls.append(len(calls))
        if len(calls) == 3:
            raise BrokenOffError

    handle = pipe.transformer.norm_out.register_forward_pre_hook(break_down)
    with pytest.raises(BrokenOffError):
        run(pipe)
    handle.remove()
    assert not {"step", "set_timesteps"} & vars(pipe.scheduler).keys()
    assert "forward" not in vars(pipe.transformer)
    assert torch.equal(run(pipe), cached)


@both_executors
def test_arguments_that_the_pipeline_refuses(executor: str) -> None:
    pipe = make_pipe()
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    cached = run(pipe)
    report = otcache_plugin.summary(pipe)
    with pytest.raises(ValueError, match="prompt_embeds"):
        run(pipe, prompt="a word")
    with pytest.raises(TypeError, match="no_such_argument"):
        run(pipe, no_such_argument=1)
    assert otcache_plugin.summary(pipe) == report  # of the last run
    assert not {"step", "set_timesteps"} & vars(pipe.scheduler).keys()
    assert torch.equal(run(pipe), cached)


@both_executors
def test_a_pipeline_is_freed_with_the_last_that_uses_it(executor: str) -> None:
    pipe = make_pipe()
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    run(pipe)
    gone = [weakref.ref(pipe), weakref.ref(pipe.transformer.proj_out.weight)]
    pipe.transformer = None
    gc.collect()
    assert gone[1]() is None
    del pipe
    gc.collect()
    assert gone[0]() is None
