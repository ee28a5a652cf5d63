"""Others that work on the same modules, put on before and after a policy, taken off in any order.

An accelerated pipeline gives what its policy gives on the modules as the others have made them, and
the others go on as if there were no policy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import accelerate
import accelerate.hooks
import cache_dit
import pytest
import torch
from diffusers import FirstBlockCacheConfig
from otcache_policies import UniformPolicy
from own_calls import BUDGET, EXECUTORS, TOTAL, call_transformer, computed, make_pipe, run
from peft import LoraConfig
from reference_runs import reference_run
from tiny_pipelines import FLUX, count_forwards, make_flux

import otcache_plugin
from otcache_plugin.errors import PipelineError

SCHEDULE = UniformPolicy(TOTAL, look_back=2).schedule(BUDGET)
CPU = torch.device("cpu")

both_executors = pytest.mark.parametrize("executor", EXECUTORS)


@dataclass(frozen=True)
class Other:
    """Something that people put on a pipeline.

    Attributes:
        put: puts it on.
        take: takes it off again, None where there is no way.
    """

    put: Callable[[Any], Any]
    take: Callable[[Any], Any] | None = None


def offload_groups(kind: str) -> Callable[[Any], Any]:
    def put(pipe: Any) -> None:
        pipe.transformer.enable_group_offload(
            onload_device=CPU, offload_device=CPU, offload_type=kind, num_blocks_per_group=1
        )

    return put


def offload_sequentially(pipe: Any) -> None:
    """What `enable_sequential_cpu_offload` does, which itself cannot have the CPU as its device."""
    parameters = dict(pipe.transformer.named_parameters())
    accelerate.cpu_offload(pipe.transformer, CPU, state_dict=parameters)


def add_adapter(pipe: Any) -> None:
    torch.manual_seed(7)
    config = LoraConfig(r=2, target_modules=["to_q", "to_k"], init_lora_weights=False)
    pipe.transformer.add_adapter(config)
    pipe.transformer.eval()


OTHERS = {
    "model offload": Other(
        lambda pipe: pipe.enable_model_cpu_offload(device="cpu"),
        lambda pipe: pipe.remove_all_hooks(),
    ),
    "sequential offload": Other(offload_sequentially, lambda pipe: pipe.remove_all_hooks()),
    "group offload by blocks": Other(offload_groups("block_level")),
    "group offload by leaves": Other(offload_groups("leaf_level")),
    "layerwise casting": Other(
        lambda pipe: pipe.transformer.enable_layerwise_casting(torch.bfloat16, torch.float32)
    ),
    "an adapter": Other(add_adapter, lambda pipe: pipe.transformer.delete_adapters("default")),
    "first block cache": Other(
        lambda pipe: pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0)),
        lambda pipe: pipe.transformer.disable_cache(),
    ),
    "compiled": Other(lambda pipe: pipe.transformer.compile(backend="eager")),
    "compiled blocks": Other(
        lambda pipe: pipe.transformer.compile_repeated_blocks(backend="eager")
    ),
}

each_other = pytest.mark.parametrize(
    "other",
    [
        pytest.param(other, id=name, marks=[pytest.mark.slow] if "compiled" in name else [])
        for name, other in OTHERS.items()
    ],
)


@pytest.fixture(autouse=True)
def compiled_anew() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def enable(pipe: Any, executor: str) -> None:
    cache_dit.enable_cache(pipe, policy=SCHEDULE, executor=executor)


def made_with(other: Other) -> Any:
    pipe = make_pipe()
    other.put(pipe)
    return pipe


def accelerated(other: Other, executor: str) -> torch.Tensor:
    """What the policy gives, without the plugin: worked out, or by cache-dit's own mask."""
    pipe = made_with(other)
    if executor == "velocity":
        steps, look_backs = SCHEDULE.computed_steps, SCHEDULE.look_backs
        return reference_run(FLUX, pipe, steps, look_backs, num_inference_steps=TOTAL)
    config = cache_dit.DBCacheConfig(
        Fn_compute_blocks=1,
        num_inference_steps=TOTAL,
        steps_computation_mask=[int(each) for each in SCHEDULE.mask],
        steps_computation_policy="static",
    )
    # cache-dit's own way cannot do with all the others, so it comes first.
    pipe = make_pipe()
    cache_dit.enable_cache(pipe, config)
    try:
        other.put(pipe)
        return run(pipe)
    finally:
        cache_dit.disable_cache(pipe)


@both_executors
@each_other
@pytest.mark.parametrize("other_first", [True, False])
def test_enabled_before_and_after(other: Other, executor: str, other_first: bool) -> None:
    plain = run(made_with(other))
    expected = accelerated(other, executor)
    pipe = make_pipe()
    if other_first:
        other.put(pipe)
    enable(pipe, executor)
    if not other_first:
        run(pipe)
        other.put(pipe)
    for _ in range(3):
        assert torch.equal(run(pipe), expected)
        assert otcache_plugin.summary(pipe).as_planned
    if pipe.transformer._compiled_call_impl is None:  # what is compiled calls no hooks
        assert computed(pipe, executor) == BUDGET
    assert torch.equal(call_transformer(pipe), call_transformer(made_with(other)))
    cache_dit.disable_cache(pipe)
    assert torch.equal(run(pipe), plain)
    assert not torch.equal(plain, expected)


@both_executors
@pytest.mark.parametrize("name", [name for name, other in OTHERS.items() if other.take])
@pytest.mark.parametrize("other_first", [True, False])
@pytest.mark.parametrize("other_last", [True, False])
def test_taken_off_in_any_order(
    name: str, executor: str, other_first: bool, other_last: bool
) -> None:
    other = OTHERS[name]
    assert other.take is not None
    plain, without = run(make_pipe()), make_pipe()
    enable(without, executor)
    expected = run(without)
    pipe = make_pipe()
    if other_first:
        other.put(pipe)
    enable(pipe, executor)
    if not other_first:
        other.put(pipe)
    run(pipe)
    if other_last:
        cache_dit.disable_cache(pipe)
        assert torch.equal(run(pipe), run(made_with(other)))
        other.take(pipe)
    else:
        other.take(pipe)
        assert torch.equal(run(pipe), expected)
        assert otcache_plugin.summary(pipe).as_planned
        cache_dit.disable_cache(pipe)
    assert torch.equal(run(pipe), plain)


@both_executors
@pytest.mark.parametrize("offload_first", [True, False])
def test_every_call_is_offloaded(
    executor: str, offload_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Any] = []
    own = accelerate.hooks.CpuOffload.pre_forward

    def note(self: Any, module: Any, *args: Any, **kwargs: Any) -> Any:
        loaded.append(module)
        return own(self, module, *args, **kwargs)

    monkeypatch.setattr(accelerate.hooks.CpuOffload, "pre_forward", note)
    pipe = make_pipe()
    if offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    enable(pipe, executor)
    if not offload_first:
        pipe.enable_model_cpu_offload(device="cpu")
    calls = BUDGET if executor == "velocity" else TOTAL
    for _ in range(3):
        run(pipe)
        assert loaded == [vars(pipe)["transformer"]] * calls
        loaded.clear()
    cache_dit.disable_cache(pipe)
    run(pipe)
    assert len(loaded) == TOTAL


@pytest.mark.parametrize("fullgraph", [True, False])
@pytest.mark.parametrize("compile_first", [True, False])
def test_velocity_and_one_graph(fullgraph: bool, compile_first: bool) -> None:
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    uncompiled, pipe = make_flux(), make_flux()
    enable(uncompiled, "velocity")
    expected = run(uncompiled)
    if compile_first:
        pipe.transformer.compile(backend=backend, fullgraph=fullgraph)
    enable(pipe, "velocity")
    if not compile_first:
        pipe.transformer.compile(backend=backend, fullgraph=fullgraph)
    for _ in range(3):
        assert torch.equal(run(pipe), expected)
    cache_dit.disable_cache(pipe)
    run(pipe)
    enable(pipe, "velocity")
    assert torch.equal(run(pipe), expected)
    assert len(graphs) == 1


@pytest.mark.slow
def test_blocks_and_graphs_that_may_break() -> None:
    graphs: list[Any] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        graphs.append(graph)
        return graph.forward

    pipe = make_pipe()
    enable(pipe, "blocks")
    pipe.transformer.compile(backend=backend)
    run(pipe)
    made = len(graphs)
    for seed in range(5):
        run(pipe, seed=seed)
    assert len(graphs) == made


@pytest.mark.parametrize("compile_first", [True, False])
def test_blocks_in_one_graph_are_refused(compile_first: bool) -> None:
    plain, pipe = run(make_pipe()), make_pipe()
    refused = pytest.raises(PipelineError, match=r"fullgraph=True.*executor='velocity'")
    if compile_first:
        pipe.transformer.compile(backend="eager", fullgraph=True)
        with refused:
            enable(pipe, "blocks")
    else:
        enable(pipe, "blocks")
        pipe.transformer.compile(backend="eager", fullgraph=True)
        with refused:
            run(pipe)
    enable(pipe, "velocity")  # as it says
    assert torch.equal(run(pipe), accelerated(Other(lambda pipe: None), "velocity"))
    cache_dit.disable_cache(pipe)
    assert torch.equal(run(pipe), plain)


@pytest.mark.slow
@both_executors
def test_another_module_for_a_compiled_one(executor: str) -> None:
    # torch.compile gives a module around the transformer, and leaves that as it is.
    expected = accelerated(Other(lambda pipe: None), executor)
    pipe = make_pipe()
    enable(pipe, executor)
    inner = pipe.transformer
    pipe.transformer = torch.compile(inner, backend="eager")
    with count_forwards(inner.transformer_blocks[2]) as forwards:
        assert torch.equal(run(pipe), expected)
    assert len(forwards) == BUDGET
    cache_dit.disable_cache(pipe)
    enable(pipe, executor)
    assert torch.equal(run(pipe), expected)
    cache_dit.disable_cache(pipe)
    assert torch.equal(run(pipe), run(make_pipe()))
