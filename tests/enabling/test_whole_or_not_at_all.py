"""Enabling succeeds whole, or leaves everything as it was: an earlier policy, cache-dit's cache."""

from __future__ import annotations

from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig
from diffusers import DDIMScheduler
from otcache_policies import OTCacheError, Schedule
from own_calls import BUDGET, EXECUTORS, TOTAL, make_pipe, run
from plugin_fakes import FakeEntryPoint, plugin

import otcache_plugin
from otcache_plugin.enabling import enable as enabling
from otcache_plugin.errors import PipelineError
from otcache_plugin.plugins import ExecutorRegistry
from otcache_plugin.plugins.host import load_plugins

WRONG: dict[str, tuple[type[Exception], dict[str, Any]]] = {
    "policy": (OTCacheError, {"policy": "otcahe"}),
    "executor": (OTCacheError, {"policy": "uniform", "executor": "bloks"}),
    "budget": (OTCacheError, {"policy": "uniform", "budget": 1}),
    "speedup": (OTCacheError, {"policy": "uniform", "speedup": 0.5}),
    "keyword": (OTCacheError, {"policy": "uniform", "bugdet": 4}),
    "cache_config": (OTCacheError, {"policy": "uniform", "cache_config": DBCacheConfig()}),
    "mask": (
        OTCacheError,
        {
            "policy": "uniform",
            "executor": "blocks",
            "cache_config": DBCacheConfig(steps_computation_mask=[1, 0]),
        },
    ),
    "attention": (
        RuntimeError,
        {"policy": "uniform", "attention_backend": "none such"},
    ),
    "attention of blocks": (
        RuntimeError,
        {"policy": "uniform", "executor": "blocks", "attention_backend": "none such"},
    ),
    "plugin": (PipelineError, {"policy": "uniform", "executor": "refusing"}),
}
each_wrong = pytest.mark.parametrize(("error", "arguments"), WRONG.values(), ids=WRONG)


class RefusingExecutor:
    """Serves no pipeline."""

    def prepare(self, pipe: Any, plan: Any, cache_dit_arguments: Any) -> Any:
        raise PipelineError("pipe", type(pipe).__name__, "not this one", "Take another")


@pytest.fixture(autouse=True)
def refusing(monkeypatch: pytest.MonkeyPatch) -> None:
    """An executor of a plugin that serves no pipeline is registered."""

    def otcache_register_executors(registry: ExecutorRegistry) -> None:
        registry.register("refusing", RefusingExecutor, "serves no pipeline")

    module = plugin(otcache_register_executors=otcache_register_executors)
    host = load_plugins([FakeEntryPoint("theirs", lambda: module, "otcache-theirs")], None)
    monkeypatch.setattr(enabling, "plugin_host", lambda: host)


def everything(pipe: Any) -> Any:
    """What a pipeline and its parts are, by identity."""
    parts = {"pipe": pipe, "scheduler": pipe.scheduler, **dict(pipe.transformer.named_modules())}
    return {
        name: (type(part), {key: id(value) for key, value in vars(part).items()})
        for name, part in parts.items()
    }


@each_wrong
def test_a_pipeline_without_anything(error: type[Exception], arguments: dict[str, Any]) -> None:
    pipe = make_pipe()
    before = everything(pipe)
    with pytest.raises(error):
        cache_dit.enable_cache(pipe, **arguments)
    assert everything(pipe) == before


@each_wrong
@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_earlier_policy_stays(
    error: type[Exception], arguments: dict[str, Any], executor: str
) -> None:
    pipe = make_pipe()
    cache_dit.enable_cache(pipe, policy=Schedule([0, 4, 11], TOTAL), executor=executor)
    before = everything(pipe)
    with pytest.raises(error):
        cache_dit.enable_cache(pipe, **arguments)
    assert everything(pipe) == before
    assert otcache_plugin.summary(pipe).policy == "schedule"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_earlier_policy_still_accelerates(executor: str) -> None:
    pipe = make_pipe()
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    cached, scheduler = run(pipe), pipe.scheduler
    pipe.scheduler = DDIMScheduler()
    for other in EXECUTORS:
        with pytest.raises(PipelineError, match="DDIMScheduler"):
            cache_dit.enable_cache(pipe, policy="uniform", budget=7, executor=other)
    pipe.scheduler = scheduler
    assert torch.equal(run(pipe), cached)
    assert len(otcache_plugin.summary(pipe).computed_steps) == BUDGET


@pytest.mark.parametrize("name", ["budget", "mask", "attention of blocks", "plugin"])
def test_a_cache_of_cache_dits_own_stays(name: str) -> None:
    error, arguments = WRONG[name]
    pipe = cache_dit.enable_cache(make_pipe(), DBCacheConfig(Fn_compute_blocks=1))
    try:
        expected = run(pipe)
        with pytest.raises(error):
            cache_dit.enable_cache(pipe, **arguments)
        assert torch.equal(run(pipe), expected)
        assert any(each.cache_options for each in cache_dit.summary(pipe, logging=False))
    finally:
        cache_dit.disable_cache(pipe)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        # Refused before anything is done, and when cache-dit's cache is on already.
        (AssertionError, {"cache_config": DBCacheConfig(), "quantize_config": 1}),
        (RuntimeError, {"cache_config": DBCacheConfig(), "attention_backend": "none such"}),
    ],
)
def test_a_cache_of_cache_dits_own_that_fails_leaves_the_policy(
    error: type[Exception], arguments: dict[str, Any], executor: str
) -> None:
    pipe = make_pipe()
    cache_dit.enable_cache(pipe, policy="uniform", budget=BUDGET, executor=executor)
    cached = run(pipe)
    with pytest.raises(error):
        cache_dit.enable_cache(pipe, **arguments)
    assert "_context_manager" not in vars(pipe)
    assert torch.equal(run(pipe), cached)
    assert len(otcache_plugin.summary(pipe).computed_steps) == BUDGET


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_document_that_does_not_fit(executor: str) -> None:
    pipe = make_pipe()
    before = everything(pipe)
    with pytest.raises(OTCacheError):
        cache_dit.enable_cache(pipe, policy="bundled:none-such", executor=executor)
    assert everything(pipe) == before
