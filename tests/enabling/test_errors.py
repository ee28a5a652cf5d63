"""Every wrong input raises an error of ours that names the field, the value and what to do."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
from cache_dit import DBCacheConfig, ParallelismConfig
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchHeunDiscreteScheduler,
    FluxPipeline,
    UniPCMultistepScheduler,
)
from hub_server import HubServer
from otcache_policies import BudgetError, OTCacheError, Schedule, ScheduleError, UniformPolicy
from otcache_registry import DocumentError, DocumentNotFoundError, Part, PolicyIdentity
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.errors import HubOfflineError
from otcache_registry.store.store import PolicyStore
from plugin_fakes import FakeEntryPoint, plugin
from tiny_documents import MODEL, REVISION, write_document
from tiny_pipelines import FLUX, count_forwards, euler_scheduler, make_flux

import otcache_plugin
from otcache_plugin.calibration.meancache import MeanCacheCalibrator
from otcache_plugin.enabling import documents, enable
from otcache_plugin.errors import ArgumentError, PipelineError, UnknownNameError
from otcache_plugin.pipelines.attaching import attachment
from otcache_plugin.plugins.host import load_plugins
from otcache_plugin.plugins.registries import PolicyRegistry

SHA = "0123456789abcdef0123456789abcdef01234567"


def refused(error: type[OTCacheError], **arguments: Any) -> str:
    """The message of what `enable_cache` raises; the pipeline must be left as it was."""
    pipe = arguments.pop("pipe", None) or make_flux()
    with pytest.raises(error) as caught:
        cache_dit.enable_cache(pipe, **arguments)
    assert attachment(pipe) is None
    assert "step" not in vars(getattr(pipe, "scheduler", None) or euler_scheduler())
    assert str(caught.value).endswith(".")
    return str(caught.value)


def test_an_unknown_policy_lists_the_known_ones() -> None:
    message = refused(UnknownNameError, policy="otcahe")
    known = ", ".join(load_plugins([], None).policies)
    assert message == f"policy='otcahe': no such policy. Use one of {known}."


def test_how_long_the_hubs_answers_are_kept(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """That there is nothing is an answer, too: it is kept, unless it is to be asked for anew."""
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path))
    monkeypatch.setattr(documents, "HubClient", lambda: HubClient(hub.endpoint, None))
    asked = []
    for arguments in ({}, {}, {"hub_answers": 0}):
        hub.clear_requests()
        refused(
            DocumentNotFoundError, policy="otcache", model=MODEL, revision=REVISION, **arguments
        )
        asked.append(len(hub.requests))
    assert asked == [1, 0, 1]
    message = refused(ArgumentError, policy="otcache", hub_answers=-1)
    assert message.startswith("hub_answers=-1: not a number of seconds")


def test_an_unknown_policy_mentions_broken_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ImportError("no module named 'foresight_core'")

    host = load_plugins([FakeEntryPoint("foresight", fail, "otcache-foresight", "0.3")], None)
    monkeypatch.setattr(enable, "plugin_host", lambda: host)
    message = refused(UnknownNameError, policy="foresight")
    assert "policy='foresight': no such policy" in message
    assert "otcache-foresight 0.3: ImportError: no module named 'foresight_core'" in message
    assert f"Use one of {', '.join(host.policies)}" in message
    message = refused(UnknownNameError, policy="uniform", executor="foresight")
    assert "otcache-foresight 0.3: ImportError" in message


def test_an_unknown_executor_lists_the_known_ones() -> None:
    message = refused(UnknownNameError, policy="uniform", executor="block")
    known = ", ".join(load_plugins([], None).executors)
    assert message == f"executor='block': no such executor. Use one of {known}."


@pytest.mark.parametrize("keyword", ["budgets", "Fn_compute_blocks", "num_inference_steps"])
def test_an_unknown_keyword_lists_the_known_ones(keyword: str) -> None:
    message = refused(ArgumentError, policy="uniform", **{keyword: 10})
    assert message.startswith(f"{keyword}=10: unknown keyword. Known: ")
    for known in ("policy", "budget", "speedup", "executor", "cache_config", "attention_backend"):
        assert known in message
    assert "pipe_or_adapter" not in message


@pytest.mark.parametrize("budget", [1, 0, -3, 10.0, "10", True, math.nan])
def test_a_budget_that_no_run_has(budget: Any) -> None:
    message = refused(BudgetError, policy="uniform", budget=budget)
    assert message.startswith(f"budget={budget!r}: not a number of steps. Use an integer from 2")


def test_a_budget_above_the_steps_of_the_run(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform", budget=51)
    with (
        count_forwards(pipe.transformer.x_embedder) as forwards,
        pytest.raises(BudgetError, match=r"budget=51: the run has 50 steps. Use budget=2 … 50"),
    ):
        FLUX.run(pipe)
    assert not forwards
    FLUX.run(pipe, num_inference_steps=51)
    assert otcache_plugin.summary(pipe).as_planned


@pytest.mark.parametrize("speedup", [0.5, 0.0, -2.0, math.nan, math.inf, True, "4"])
def test_a_speed_up_that_is_none(speedup: Any) -> None:
    message = refused(BudgetError, policy="uniform", speedup=speedup)
    assert message.startswith(f"speedup={speedup!r}: ")
    assert "Use a speed-up of 1 or more, such as speedup=4.0" in message


def test_budget_and_speed_up() -> None:
    message = refused(ArgumentError, policy="uniform", budget=10, speedup=4.0)
    assert message.startswith("budget=10: given together with speedup=4.0. Pass one of them")


@pytest.mark.parametrize(
    "argument",
    [{"budget": 10}, {"speedup": 2.0}, {"executor": "blocks"}, {"model": "a/b", "revision": "c"}],
    ids=lambda argument: next(iter(argument)),
)
def test_arguments_of_a_policy_without_one(argument: dict[str, Any]) -> None:
    message = refused(ArgumentError, **argument)
    assert "belong to a policy. Pass policy='otcache', or drop them" in message


@pytest.mark.parametrize("argument", [{"budget": 2}, {"speedup": 2.0}], ids=str)
def test_a_schedule_has_its_budget(argument: dict[str, Any]) -> None:
    message = refused(ArgumentError, policy=Schedule([0, 4, 9], 10), **argument)
    ((name, value),) = argument.items()
    assert message == f"{name}={value!r}: the schedule already computes 3 of 10 steps. Drop it."


@pytest.mark.parametrize("policy", [17, ["otcache"], {"steps": [0, 49]}, True], ids=str)
def test_a_policy_that_is_none(policy: Any) -> None:
    message = refused(ArgumentError, policy=policy)
    assert message.startswith(f"policy={policy!r}: neither a name, a path nor a Schedule. Use one")


@pytest.mark.parametrize(
    "arguments",
    [
        {"cache_config": DBCacheConfig()},
        {"calibrator_config": cache_dit.TaylorSeerCalibratorConfig()},
        {"params_modifiers": cache_dit.ParamsModifier()},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_the_block_cache_beside_the_velocity_executor(arguments: dict[str, Any]) -> None:
    (name,) = arguments
    message = refused(ArgumentError, policy="uniform", **arguments)
    assert message.startswith(f"{name}=")
    assert "contradicts executor='velocity'" in message
    assert "pass executor='blocks'" in message


def test_a_computation_mask_beside_a_policy() -> None:
    config = DBCacheConfig(steps_computation_mask=[1, 0, 1])
    message = refused(ArgumentError, policy="uniform", executor="blocks", cache_config=config)
    assert message.startswith("cache_config.steps_computation_mask=[1, 0, 1]: contradicts policy=")


def test_ray_does_not_reach_the_hooks() -> None:
    config = ParallelismConfig(use_ray=True, tp_size=2)
    message = refused(ArgumentError, policy="uniform", parallelism_config=config)
    assert message.startswith("parallelism_config.use_ray=True: ")
    assert "cache_dit.enable_cache(pipe.transformer, parallelism_config=…)" in message


class NoTransformer(DiffusionPipeline):
    """A pipeline that denoises with something else."""

    def __init__(self, scheduler: Any) -> None:
        super().__init__()
        self.register_modules(scheduler=scheduler)


def test_a_pipeline_without_transformer() -> None:
    message = refused(PipelineError, pipe=NoTransformer(euler_scheduler()), policy="uniform")
    assert message.startswith("transformer=None: NoTransformer has no transformer. Pass a")


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_a_pipeline_without_scheduler(executor: str) -> None:
    pipe = make_flux()
    pipe.scheduler = None
    message = refused(PipelineError, pipe=pipe, policy="uniform", executor=executor)
    assert message.startswith("scheduler=None: FluxPipeline has no scheduler. Set pipe.scheduler")


@pytest.mark.parametrize(
    ("scheduler", "problem", "remedy"),
    [
        (DDIMScheduler, "its prediction_type is 'epsilon'", "cache-dit's own cache"),
        (FlowMatchHeunDiscreteScheduler, "it calls the transformer twice", "cache-dit's own cache"),
        (UniPCMultistepScheduler, "its prediction_type is 'epsilon'", "executor='blocks'"),
    ],
)
def test_a_scheduler_that_takes_other_steps(scheduler: Any, problem: str, remedy: str) -> None:
    pipe = make_flux()
    pipe.scheduler = scheduler()
    message = refused(PipelineError, pipe=pipe, policy="uniform")
    assert message.startswith(f"scheduler='{scheduler.__name__}': {problem}")
    assert "Set a FlowMatchEulerDiscreteScheduler" in message
    assert remedy in message


def test_stochastic_sampling() -> None:
    pipe = make_flux(scheduler=euler_scheduler(stochastic_sampling=True))
    message = refused(PipelineError, pipe=pipe, policy="uniform")
    assert message.startswith("scheduler.stochastic_sampling=True: its steps add noise")
    assert "Set stochastic_sampling=False" in message


@pytest.mark.parametrize("what", ["transformer", "nothing", "class"])
def test_something_else_than_a_pipeline(what: str) -> None:
    given: Any = {"transformer": make_flux().transformer, "nothing": None, "class": FluxPipeline}
    with pytest.raises(PipelineError) as caught:
        cache_dit.enable_cache(given[what], policy="uniform")
    assert caught.value.field == "pipe_or_adapter"
    assert caught.value.value == type(given[what]).__name__
    assert "Pass the diffusers pipeline" in str(caught.value)


def test_a_schedule_for_another_number_of_steps(enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy=Schedule([0, 4, 9], 10))
    with (
        count_forwards(pipe.transformer.x_embedder) as forwards,
        pytest.raises(ScheduleError, match="num_inference_steps=50: the schedule is for 10") as hit,
    ):
        FLUX.run(pipe)
    assert "Call the pipeline with num_inference_steps=10" in str(hit.value)
    assert not forwards


@pytest.mark.parametrize(
    ("given", "missing"), [({"model": "a/b"}, "revision"), ({"revision": SHA}, "model")]
)
def test_model_and_revision_go_together(given: dict[str, str], missing: str) -> None:
    message = refused(ArgumentError, policy="otcache", **given)
    assert message == f"{missing}=None: model= and revision= go together. Pass {missing}= as well."


def test_a_revision_without_document() -> None:
    message = refused(DocumentNotFoundError, policy="otcache", model="org/model", revision=SHA)
    assert message.startswith("model='org/model': no otcache policy for revision " + SHA)
    assert "The Hub was not asked (OTCACHE_OFFLINE is set)" in message


@pytest.mark.parametrize("path", ["", "org/model", "/home/me/model/transformer"])
def test_an_unknown_origin(path: str) -> None:
    pipe = make_flux()
    pipe.transformer.register_to_config(_name_or_path=path)
    message = refused(DocumentNotFoundError, pipe=pipe, policy="otcache")
    assert message.startswith(f"model={path!r}: the pipeline's model revision is unknown")
    assert "was not loaded from a Hub snapshot" in message
    assert "Pass model='org/name' and revision='<commit sha>'" in message


def test_a_document_on_the_hub() -> None:
    message = refused(HubOfflineError, policy="hub:otcache/policy")
    assert message.startswith("policy='hub:otcache/policy': ")
    assert "Unset OTCACHE_OFFLINE" in message


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [("peft_config", "a LoRA or other adapter"), ("hf_quantizer", "is quantised")],
)
def test_changed_weights_are_of_unknown_origin(attribute: str, reason: str) -> None:
    pipe = make_flux()
    pipe.transformer.register_to_config(
        _name_or_path=f"/cache/models--org--model/snapshots/{SHA}/transformer"
    )
    setattr(pipe.transformer, attribute, {"default": object()})
    assert reason in refused(DocumentNotFoundError, pipe=pipe, policy="otcache")


@pytest.mark.parametrize("as_given", [str, Path])
def test_a_path_without_a_document(as_given: Any, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "policy.json"):
        message = refused(DocumentNotFoundError, policy=as_given(path))
        assert message.startswith(f"path={str(path)!r}: no policy.json there. Give a folder")


def test_a_document_of_a_policy_that_needs_none(tmp_path: Path) -> None:
    uniform = PolicyIdentity(name="uniform", distribution="otcache-plugin")
    write_document(tmp_path / "policy", policy=uniform)
    message = refused(DocumentError, policy=tmp_path / "policy")
    problem = "a policy that needs no document. Pass policy='uniform'."
    assert message == f"policy.name='uniform': {problem}"


def test_a_document_of_an_unknown_policy(tmp_path: Path) -> None:
    foresight = PolicyIdentity(name="foresight", distribution="otcache-foresight")
    write_document(tmp_path / "policy", policy=foresight)
    message = refused(UnknownNameError, policy=tmp_path / "policy")
    remedy = "Install otcache-foresight, which has it as the document says."
    assert message == f"policy='foresight': no such policy. {remedy}"
    assert refused(UnknownNameError, policy="foresight").startswith(
        "policy='foresight': no such policy. Use one of"
    )


def test_one_policys_documents_are_not_anothers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An otcache document in the store serves meancache, and no policy that does not say so."""
    write_document(tmp_path / "policy")
    names = ("policy.json", "tables.safetensors", "README.md")
    contents = {name: (tmp_path / "policy" / name).read_bytes() for name in names}
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "cache"))
    PolicyStore().add("otcache/policies", "f" * 40, "", contents, datetime.now(UTC))

    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_calibrated(
            "strata",
            parameters=Part,
            make=lambda *_: UniformPolicy(50),
            description="made up",
            calibrator=MeanCacheCalibrator,
        )

    module = plugin(otcache_register_policies=otcache_register_policies)
    host = load_plugins([FakeEntryPoint("strata", lambda: module, "otcache-strata")], None)
    monkeypatch.setattr(enable, "plugin_host", lambda: host)
    message = refused(DocumentNotFoundError, policy="strata", model=MODEL, revision=REVISION)
    assert message.startswith(f"model='{MODEL}': no strata policy for revision {REVISION}")
    assert "--policy strata" in message
    pipe = make_flux()
    otcache_plugin.enable_cache(pipe, policy="meancache", model=MODEL, revision=REVISION)
    assert otcache_plugin.summary(pipe).policy == "meancache"
    otcache_plugin.disable_cache(pipe)


@pytest.mark.parametrize(
    "wrong",
    [
        {"policy": "unknown"},
        {"policy": "uniform", "budgets": 3},
        {"policy": "uniform", "budget": 1},
        {"policy": "uniform", "executor": "unknown"},
        {"policy": "otcache"},
    ],
    ids=str,
)
def test_a_refusal_leaves_what_was_enabled(wrong: dict[str, Any], enable: Any) -> None:
    pipe = make_flux()
    enable(pipe, policy="uniform", budget=7)
    with pytest.raises(OTCacheError):
        cache_dit.enable_cache(pipe, **wrong)
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        FLUX.run(pipe)
    assert len(forwards) == 7


def test_a_refusal_by_the_executor_leaves_a_working_pipeline() -> None:
    expected = FLUX.run(make_flux())
    pipe = make_flux()
    cache_dit.enable_cache(pipe, policy="uniform", budget=7)
    with pytest.raises(ArgumentError):
        cache_dit.enable_cache(pipe, policy="uniform", cache_config=DBCacheConfig())
    cache_dit.disable_cache(pipe)
    assert torch.equal(FLUX.run(pipe), expected)


@pytest.mark.parametrize("function", [otcache_plugin.summary, otcache_plugin.disable_cache])
def test_nothing_is_enabled(function: Any) -> None:
    with pytest.raises(PipelineError, match="pipe='FluxPipeline': no policy is enabled") as e:
        function(make_flux())
    assert "Call cache_dit.enable_cache(pipe, policy='otcache') first" in str(e.value)


def test_errors_are_what_python_expects_of_their_kind() -> None:
    # So that callers may catch them without knowing ours.
    assert issubclass(ArgumentError, (TypeError, ValueError))
    assert issubclass(UnknownNameError, LookupError)
    assert issubclass(DocumentNotFoundError, LookupError)
    for error in (ArgumentError, UnknownNameError, PipelineError, BudgetError, DocumentError):
        assert issubclass(error, OTCacheError)
