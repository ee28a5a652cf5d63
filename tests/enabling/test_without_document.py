"""What an error says to do where there is no document: all of it is done here."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import typer
from diffusers import DDIMScheduler, DiffusionPipeline, UniPCMultistepScheduler
from otcache_policies import UniformPolicy
from otcache_registry import DocumentNotFoundError, Part
from plugin_fakes import FakeEntryPoint, plugin
from tiny_pipelines import (
    CASES,
    FLUX,
    WAN,
    Case,
    make_flux,
    make_qwen,
    make_wan,
    make_z_image,
    unipc_scheduler,
)
from tiny_text import make_ltx_with_text

import otcache_plugin
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.cli.main import main
from otcache_plugin.efforts import effort_costs
from otcache_plugin.enabling import enable
from otcache_plugin.errors import PipelineError
from otcache_plugin.evaluation.batches import batches_of
from otcache_plugin.models.source import ModelSource
from otcache_plugin.plugins.costs import Workload
from otcache_plugin.plugins.host import load_plugins
from otcache_plugin.plugins.registries import PolicyRegistry

SHA = "0123456789abcdef0123456789abcdef01234567"
SAID = {"model": "org/model", "revision": SHA}


def refused(pipe: Any, policy: str = "otcache", **arguments: Any) -> str:
    """The message of the error that there is no document."""
    with pytest.raises(DocumentNotFoundError) as caught:
        cache_dit.enable_cache(pipe, policy=policy, **arguments)
    return str(caught.value)


def code_of(message: str) -> str:
    """The lines of Python that it names."""
    lines = re.findall(r"^    ((?:from|cache_dit).*)$", message, re.MULTILINE)
    return "\n".join(lines)


def command_of(message: str) -> list[str]:
    """The words of the command that it names."""
    (line,) = re.findall(r"^    (otcache .*)$", message, re.MULTILINE)
    return shlex.split(line)


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


UNIPC = Case("wan-unipc", lambda: make_wan(scheduler=unipc_scheduler()), WAN.arguments, 2, "")


@pytest.mark.parametrize("case", [*CASES, WAN, UNIPC], ids=str)
def test_what_runs_now_runs(case: Case) -> None:
    pipe = case.make()
    code = code_of(refused(pipe, **SAID))
    exec(code, {"cache_dit": cache_dit, "pipe": pipe})
    case.run(pipe)
    report = otcache_plugin.summary(pipe)
    assert report.as_planned
    assert len(report.computed_steps) == 17  # of 50, a third
    assert report.computed_steps == UniformPolicy(50).schedule(17).computed_steps
    otcache_plugin.disable_cache(pipe)


def test_what_runs_now_with_another_executor() -> None:
    pipe = make_flux(scheduler=UniPCMultistepScheduler())
    message = refused(pipe, executor="blocks", **SAID)
    assert "otcache calibrate" not in message  # which runs the other executor
    code = code_of(message)
    assert code == "cache_dit.enable_cache(pipe, policy='uniform', speedup=3, executor='blocks')"
    exec(code, {"cache_dit": cache_dit, "pipe": pipe})
    cache_dit.disable_cache(pipe)


def test_where_nothing_runs_a_document_would_not_help() -> None:
    pipe = make_flux()
    pipe.scheduler = DDIMScheduler()
    with pytest.raises(PipelineError, match="scheduler='DDIMScheduler': its prediction_type"):
        cache_dit.enable_cache(pipe, policy="otcache", **SAID)


def test_the_cost_is_stated() -> None:
    message = refused(make_flux(), **SAID)
    assert "the time of 32 full pictures (1,600 denoising steps, 50 each)" in message
    assert "With --effort standard it takes at most 16,000 steps, about 320 full" in message


@pytest.mark.parametrize(
    ("steps", "quick", "standard"), [(50, (1600, 32), (16000, 320)), (28, (896, 32), (16000, 571))]
)
def test_costs_by_hand(steps: int, quick: tuple[int, int], standard: tuple[int, int]) -> None:
    assert [(each.effort, each.steps, each.full_pictures) for each in effort_costs(steps)] == [
        ("quick", *quick),
        ("standard", *standard),
    ]


def test_the_costs_are_the_calibrators_own() -> None:
    """At 50 steps, of pairs one by one and of the usual budgets."""
    for cost in effort_costs():
        task = calibration_task("otcache", {"effort": cost.effort}, 50)
        pairs = task.calibrator.usual_pairs(task.options)
        assert pairs is not None
        batches = batches_of("calibration", pairs, 1)
        stages = task.calibrator.costs(task.options, Workload(50, 6, batches, 1))
        steps = sum(stage.denoising_steps for stage in stages)
        assert steps <= cost.steps
        assert cost.effort != "quick" or steps == cost.steps


@pytest.fixture
def begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], ModelSource]:
    """Run a command up to where the model would be loaded; give what it would load."""
    begun: list[ModelSource] = []

    def stop(task: Any, source: ModelSource, *_: Any) -> None:
        begun.append(source)
        raise typer.Exit

    monkeypatch.setattr("otcache_plugin.cli.calibrate._run", stop)
    monkeypatch.chdir(tmp_path)

    def run(words: list[str]) -> ModelSource:
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return begun[-1]

    return run


@pytest.mark.parametrize(
    ("make", "call"),
    [
        (
            make_flux,
            {"true_cfg_scale": 1.0, "guidance_scale": 3.5, "height": 1024, "width": 1024},
        ),
        (make_qwen, {"true_cfg_scale": 4.0, "height": 1024, "width": 1024}),
        (make_z_image, {"guidance_scale": 5.0}),
        (make_wan, {"guidance_scale": 5.0, "height": 480, "width": 832, "num_frames": 81}),
    ],
)
def test_the_command_has_the_pipelines_guidance_and_size(
    make: Any, call: dict[str, Any], begin: Callable[[list[str]], ModelSource]
) -> None:
    words = command_of(refused(make(), **SAID))
    assert option(words, "--effort") == "quick"
    assert option(words, "--output") == "./my-policy"
    source = begin(words)
    assert (source.model, source.revision) == ("org/model", SHA)
    assert json.loads(source.call) == call


def test_the_command_for_a_model_that_ships_with_the_package(
    begin: Callable[[list[str]], ModelSource],
) -> None:
    pipe = otcache_plugin.load_exact_flow_pipeline()
    words = command_of(refused(pipe, "gram"))
    assert words == shlex.split("otcache calibrate exact-flow --policy gram --output ./my-policy")
    assert begin(words).load().name == "exact-flow"


def test_the_command_for_a_folder(
    tmp_path: Path, begin: Callable[[list[str]], ModelSource]
) -> None:
    folder = tmp_path / "a model"
    make_ltx_with_text().save_pretrained(folder)
    pipe = DiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    message = refused(pipe)
    assert message.startswith(f"model='{folder}/transformer': the pipeline's model revision is unk")
    setup = begin(command_of(message)).load()
    assert (setup.origin.model, setup.origin.revision) == (str(folder), "local")
    assert setup.call_arguments == {
        **{"guidance_scale": 3, "height": 512, "width": 704, "num_frames": 161}
    }


def test_the_command_for_changed_weights_of_the_hub() -> None:
    pipe = make_flux()
    pipe.register_to_config(_name_or_path="it's/model")
    pipe.transformer.peft_config = {"default": object()}
    words = command_of(refused(pipe))
    assert words[:5] == ["otcache", "calibrate", "it's/model", "--revision", "local"]
    pipe.register_to_config(_name_or_path="org/model")
    assert command_of(refused(pipe))[:4] == ["otcache", "calibrate", "org/model", "--effort"]


def test_the_command_where_nothing_is_known() -> None:
    words = command_of(refused(make_flux()))
    assert words[:5] == ["otcache", "calibrate", "MODEL", "--revision", "REVISION"]


def test_what_is_made_from_another_policys_documents() -> None:
    """MeanCache is served by what otcache calibrates."""
    words = command_of(refused(make_flux(), "meancache", **SAID))
    assert "--policy" not in words
    assert option(words, "--effort") == "quick"


def test_what_nothing_calibrates(monkeypatch: pytest.MonkeyPatch) -> None:
    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_calibrated(
            "strata", parameters=Part, make=lambda *_: UniformPolicy(50), description="made up"
        )

    module = plugin(otcache_register_policies=otcache_register_policies)
    host = load_plugins([FakeEntryPoint("strata", lambda: module, "otcache-strata")], None)
    monkeypatch.setattr(enable, "plugin_host", lambda: host)
    pipe = make_flux()
    message = refused(pipe, "strata", **SAID)
    assert "otcache calibrate" not in message
    exec(code_of(message), {"cache_dit": cache_dit, "pipe": pipe})
    FLUX.run(pipe)
    assert otcache_plugin.summary(pipe).as_planned
    cache_dit.disable_cache(pipe)
