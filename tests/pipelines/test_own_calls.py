"""A policy belongs to one pipeline and its own calls: siblings, copies, threads, direct calls.

Whatever shares parts with an accelerated pipeline has to give, bit by bit, what it gives where
nothing was ever enabled.
"""

from __future__ import annotations

import copy
import gc
import pickle
import threading
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from diffusers import FluxImg2ImgPipeline, FluxPipeline
from diffusers.callbacks import PipelineCallback
from own_calls import (
    BUDGET,
    EXECUTORS,
    TOTAL,
    at_step,
    call_transformer,
    computed,
    in_thread,
    make_pipe,
    run,
    sibling_of,
)
from tiny_pipelines import euler_scheduler, quiet

import otcache_plugin
from otcache_plugin.errors import PipelineError
from otcache_plugin.pipelines.calls import ACTIVATION

both_executors = pytest.mark.parametrize("executor", EXECUTORS)


def enabled(executor: str, budget: int = BUDGET) -> Any:
    return cache_dit.enable_cache(make_pipe(), policy="uniform", budget=budget, executor=executor)


def is_enabled(pipe: Any) -> bool:
    try:
        otcache_plugin.summary(pipe)
    except PipelineError as error:
        return "no policy is enabled" not in str(error)
    return True


def shared_state(pipe: Any) -> dict[str, set[str]]:
    parts = {"scheduler": pipe.scheduler, **dict(pipe.transformer.named_modules())}
    return {name: set(vars(part)) for name, part in parts.items()}


@both_executors
@pytest.mark.parametrize("make_sibling", [FluxPipeline.from_pipe, sibling_of])
def test_a_sibling_is_not_enabled(executor: str, make_sibling: Any) -> None:
    plain = run(make_pipe())
    pipe = make_pipe()
    before = quiet(make_sibling(pipe))
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    after = quiet(make_sibling(pipe))
    cached = run(pipe)
    assert not torch.equal(cached, plain)
    for sibling in (before, after):
        assert type(sibling) is FluxPipeline
        assert not is_enabled(sibling)
        assert torch.equal(run(sibling), plain)
        assert computed(sibling, executor) == TOTAL
        cache_dit.disable_cache(sibling)  # does nothing to the first
        assert torch.equal(run(pipe), cached)


@both_executors
@pytest.mark.parametrize("other", EXECUTORS)
@pytest.mark.parametrize("first_off", [0, 1])
def test_siblings_that_are_both_enabled(executor: str, other: str, first_off: int) -> None:
    plain = run(make_pipe())
    one = enabled(executor)
    expected = [run(one), run(enabled(other, budget=7))]
    two = quiet(FluxPipeline.from_pipe(one))
    cache_dit.enable_cache(two, policy="uniform", budget=7, executor=other)
    pipes = [one, two]
    for _ in range(2):
        for pipe, output, budget in zip(pipes, expected, (BUDGET, 7), strict=True):
            assert torch.equal(run(pipe), output)
            report = otcache_plugin.summary(pipe)
            assert (len(report.computed_steps), report.as_planned) == (budget, True)
    last = 1 - first_off
    cache_dit.disable_cache(pipes[first_off])
    assert torch.equal(run(pipes[first_off]), plain)
    assert torch.equal(run(pipes[last]), expected[last])
    cache_dit.disable_cache(pipes[last])
    assert torch.equal(run(pipes[last]), plain)


@both_executors
def test_a_sibling_outlives_the_enabled_pipeline(executor: str) -> None:
    plain = run(make_pipe())
    pipe = enabled(executor)
    run(pipe)
    sibling = quiet(FluxPipeline.from_pipe(pipe))
    del pipe
    gc.collect()
    assert torch.equal(run(sibling), plain)
    cache_dit.enable_cache(sibling, policy="uniform", budget=BUDGET, executor=executor)
    assert computed(sibling, executor) == BUDGET
    cache_dit.disable_cache(sibling)
    assert torch.equal(run(sibling), plain)


@both_executors
def test_a_pipeline_is_made_by_the_class_of_an_enabled_one(executor: str) -> None:
    plain = run(make_pipe())
    pipe = enabled(executor)
    for made in (type(pipe)(**pipe.components), pipe.from_pipe(pipe)):
        assert type(made) is FluxPipeline
        assert torch.equal(run(quiet(made)), plain)
    other = FluxImg2ImgPipeline.from_pipe(pipe, vae=None)
    assert other.transformer is pipe.transformer


@both_executors
def test_the_enabled_pipeline_is_what_it_was_to_everybody(executor: str) -> None:
    import inspect

    pipe, plain = enabled(executor), make_pipe()
    assert isinstance(pipe, FluxPipeline)
    own = type(pipe)
    assert (own.__name__, own.__qualname__) == ("FluxPipeline", "FluxPipeline")
    assert (own.__module__, own.__doc__) == (FluxPipeline.__module__, FluxPipeline.__doc__)
    assert inspect.signature(pipe.__call__) == inspect.signature(plain.__call__)
    assert repr(pipe) == repr(plain)
    assert pipe.transformer is vars(pipe)["transformer"]
    assert list(pipe.components) == list(plain.components)
    with pytest.raises(AttributeError, match="transformer_2"):
        pipe.transformer_2  # noqa: B018
    assert getattr(pipe, "controlnet", None) is None


@both_executors
def test_an_enabled_pipeline_is_saved_as_it_was(executor: str, tmp_path: Path) -> None:
    make_pipe().save_pretrained(tmp_path / "plain")
    enabled(executor).save_pretrained(tmp_path / "enabled")
    plain, saved = (
        {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("plain", "enabled")
    )
    assert saved == plain
    assert "transformer/diffusion_pytorch_model.safetensors" in saved


def pickled(pipe: Any) -> Any:
    return pickle.loads(pickle.dumps(pipe))


@both_executors
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
def test_a_copy_is_not_enabled(executor: str, copied: Any) -> None:
    plain = run(make_pipe())
    pipe = enabled(executor)
    cached = run(pipe)
    twin = copied(pipe)
    twin.scheduler = euler_scheduler()
    assert type(twin) is FluxPipeline
    assert not is_enabled(twin)
    assert vars(twin).keys() == vars(pipe).keys() - {ACTIVATION}
    assert torch.equal(run(twin), plain)
    assert torch.equal(run(pipe), cached)
    with pytest.raises(PipelineError, match="no policy is enabled"):
        otcache_plugin.disable_cache(twin)
    cache_dit.enable_cache(twin, policy="uniform", budget=7, executor=executor)
    assert (computed(twin, executor), computed(pipe, executor)) == (7, BUDGET)
    assert otcache_plugin.summary(pipe).policy == "uniform"
    cache_dit.disable_cache(pipe)
    assert (computed(twin, executor), computed(pipe, executor)) == (7, TOTAL)
    cache_dit.disable_cache(twin)
    assert torch.equal(run(twin), plain)


@both_executors
def test_a_deep_copy_has_its_own_weights(executor: str) -> None:
    pipe = enabled(executor)
    twin = copy.deepcopy(pipe)
    expected = run(pipe)
    with torch.no_grad():
        twin.transformer.proj_out.weight.mul_(2)
    cache_dit.enable_cache(twin, policy="uniform", budget=BUDGET, executor=executor)
    assert not torch.equal(run(twin), expected)
    assert torch.equal(run(pipe), expected)


@both_executors
def test_a_copy_is_made_in_the_middle_of_a_call(executor: str) -> None:
    plain = run(make_pipe())
    copies: list[Any] = []
    pipe = enabled(executor)
    run(pipe, callback_on_step_end=at_step(5, lambda pipe: copies.append(copy.deepcopy(pipe))))
    (twin,) = copies
    assert type(twin) is FluxPipeline
    assert torch.equal(run(twin), plain)
    assert twin.scheduler.step.__self__ is twin.scheduler
    assert twin.scheduler.step.__func__ is type(twin.scheduler).step


# Steps 0, 4, 7 and 11 are computed: 5 comes before a cached one and 6 before a computed one.
@both_executors
@pytest.mark.parametrize("step", [5, 6])
def test_others_use_the_transformer_in_the_middle_of_a_call(executor: str, step: int) -> None:
    plain, direct = run(make_pipe(), seed=3), call_transformer(make_pipe(), seed=9)
    pipe = enabled(executor)
    cached = run(pipe)
    report = otcache_plugin.summary(pipe)
    sibling = sibling_of(pipe)
    second = sibling_of(pipe)
    cache_dit.enable_cache(second, policy="uniform", budget=7, executor=executor)
    expected = run(second, seed=4)
    seen: list[Any] = []

    def use(pipe: Any) -> None:
        seen.append(torch.equal(call_transformer(pipe, seed=9), direct))
        seen.append(torch.equal(in_thread(lambda: call_transformer(pipe, seed=9)), direct))
        seen.append(torch.equal(run(sibling, seed=3), plain))
        seen.append(torch.equal(in_thread(lambda: run(sibling, seed=3)), plain))
        seen.append(torch.equal(run(second, seed=4), expected))
        seen.append(torch.equal(in_thread(lambda: run(second, seed=4)), expected))
        seen.append(pipe.transformer is vars(pipe)["transformer"])

    assert torch.equal(run(pipe, callback_on_step_end=at_step(step, use)), cached)
    assert seen == [True] * 7
    assert otcache_plugin.summary(pipe) == report


@both_executors
def test_others_use_the_transformer_in_the_middle_of_its_own_forward(executor: str) -> None:
    direct = call_transformer(make_pipe(), seed=9)
    pipe = enabled(executor)
    cached = run(pipe)
    seen: list[bool] = []

    def once(*_: Any) -> None:
        handle.remove()
        seen.append(torch.equal(in_thread(lambda: call_transformer(pipe, seed=9)), direct))

    for block in (pipe.transformer.transformer_blocks[1], pipe.transformer.norm_out):
        handle = block.register_forward_hook(once)
        assert torch.equal(run(pipe), cached)
    assert seen == [True, True]


@both_executors
def test_a_call_in_the_middle_of_the_forward_of_others(executor: str) -> None:
    direct = call_transformer(make_pipe(), seed=9)
    pipe = enabled(executor)
    cached = run(pipe)
    seen: list[bool] = []

    def once(*_: Any) -> None:
        handle.remove()
        seen.append(torch.equal(in_thread(lambda: run(pipe)), cached))

    handle = pipe.transformer.transformer_blocks[0].register_forward_hook(once)
    assert torch.equal(call_transformer(pipe, seed=9), direct)
    assert seen == [True]


@both_executors
def test_two_threads_on_one_transformer(executor: str) -> None:
    plain = [run(make_pipe(), seed=seed) for seed in range(3)]
    pipe = enabled(executor)
    cached = [run(pipe, seed=seed) for seed in range(3)]
    sibling, second = sibling_of(pipe), sibling_of(pipe)
    cache_dit.enable_cache(second, policy="uniform", budget=BUDGET, executor=executor)
    wrong: list[str] = []

    def repeat(name: str, pipe: Any, expected: list[torch.Tensor]) -> None:
        for seed in (0, 1, 2) * 2:
            if not torch.equal(run(pipe, seed=seed), expected[seed]):
                wrong.append(name)

    threads = [
        threading.Thread(target=repeat, args=arguments)
        for arguments in (("own", pipe, cached), ("sibling", sibling, plain), ("2", second, cached))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@both_executors
def test_calls_within_calls(executor: str) -> None:
    # The inner call leaves another state of the scheduler, so it has one of its own.
    pipe = enabled(executor)
    cached, inner_cached = run(pipe), run(pipe, seed=5)
    outer_scheduler = pipe.scheduler
    seen: list[bool] = []

    def call_again(pipe: Any) -> None:
        pipe.scheduler = euler_scheduler()
        seen.append(torch.equal(run(pipe, seed=5), inner_cached))
        seen.append(otcache_plugin.summary(pipe).as_planned)
        pipe.scheduler = outer_scheduler

    assert torch.equal(run(pipe, callback_on_step_end=at_step(5, call_again)), cached)
    assert seen == [True, True]


@both_executors
def test_disabled_in_the_middle_of_a_call(executor: str) -> None:
    plain, pipe = run(make_pipe()), enabled(executor)
    run(pipe)
    before = shared_state(pipe)
    count = computed(pipe, executor, callback_on_step_end=at_step(5, cache_dit.disable_cache))
    assert count == 2 + 6  # steps 0 and 4, and all from 6 on
    assert torch.equal(run(pipe), plain)
    assert shared_state(pipe) == before


class NotedCallback(PipelineCallback):
    """One of diffusers' own kind."""

    tensor_inputs = ("latents",)

    def __init__(self) -> None:
        super().__init__(cutoff_step_ratio=None, cutoff_step_index=3)
        self.seen: list[Any] = []

    def callback_fn(self, pipeline: Any, step_index: int, timestep: Any, tensors: Any) -> Any:
        self.seen.append((step_index, list(tensors), pipeline.transformer))
        return tensors


@both_executors
def test_callbacks_of_diffusers_stay_such(executor: str) -> None:
    callback, pipe = NotedCallback(), enabled(executor)
    run(pipe, callback_on_step_end=callback)
    assert callback.seen == [
        (step, ["latents"], vars(pipe)["transformer"]) for step in range(TOTAL)
    ]


@both_executors
def test_nothing_is_left_where_it_is_shared(executor: str) -> None:
    pipe = make_pipe()
    run(pipe)
    names, before = set(vars(pipe)), shared_state(pipe)
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    assert shared_state(pipe) == before
    run(pipe)
    assert shared_state(pipe) == before
    cache_dit.disable_cache(pipe)
    assert shared_state(pipe) == before
    assert type(pipe) is FluxPipeline
    assert vars(pipe).keys() == names


@both_executors
def test_a_cache_of_cache_dits_own_on_a_sibling_is_refused(executor: str) -> None:
    pipe = enabled(executor)
    sibling = sibling_of(pipe)
    cache_dit.enable_cache(sibling)
    try:
        with pytest.raises(PipelineError, match=r"cache-dit's own cache is on it.*disable_cache"):
            run(pipe)
        cache_dit.disable_cache(pipe)
        with pytest.raises(PipelineError, match=r"cache-dit's own cache is on it.*disable_cache"):
            cache_dit.enable_cache(pipe, policy="uniform", executor=executor)
        assert not is_enabled(pipe)
    finally:
        cache_dit.disable_cache(sibling)
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    assert computed(pipe, executor) == BUDGET
