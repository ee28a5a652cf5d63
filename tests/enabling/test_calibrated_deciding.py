"""A policy that decides at every step, made from a policy document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from moved_latents import MovedLatents
from otcache_registry import Part, PolicyIdentity, Sampling, Tables
from plugin_fakes import FakeEntryPoint, plugin
from tiny_documents import DEFAULT_BUDGET, MODEL, REVISION, write_document
from tiny_pipelines import FLUX, make_flux

import otcache_plugin
from otcache_plugin.enabling import enable as enabling
from otcache_plugin.plugins import PolicyRegistry
from otcache_plugin.plugins.host import load_plugins


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[MovedLatents]:
    """A plugin registers the policy, its threshold a document's rho; those it has made."""
    policies: list[MovedLatents] = []

    class Threshold(Part):
        threshold: float

    def make(parameters: Threshold, tables: Tables, sampling: Sampling) -> MovedLatents:
        policies.append(MovedLatents(parameters.threshold))
        return policies[-1]

    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_calibrated(
            MovedLatents.name,
            parameters=Threshold,
            make=make,
            description="decides by the latents",
        )

    module = plugin(otcache_register_policies=otcache_register_policies)
    host = load_plugins([FakeEntryPoint("theirs", lambda: module, "otcache-theirs")], None)
    monkeypatch.setattr(enabling, "plugin_host", lambda: host)
    return policies


def test_in_a_pipeline(made: list[MovedLatents], enable: Any, tmp_path: Path) -> None:
    folder = tmp_path / "policy"
    identity = PolicyIdentity(name=MovedLatents.name, distribution="otcache-theirs")
    write_document(folder, policy=identity, parameters={"threshold": 0.4})
    pipe = make_flux()
    enable(pipe, policy=folder)
    assert made[0].threshold == 0.4
    for steps in (50, 25):
        FLUX.run(pipe, num_inference_steps=steps)
    report = otcache_plugin.summary(pipe)
    assert (report.policy, report.decided, report.as_planned) == (MovedLatents.name, True, True)
    assert (report.document, report.model, report.revision) == (str(folder), MODEL, REVISION)
    # The document's default budget, 12 of 50, is what it aims at; 6 of 25 are as many.
    assert [run.budget for run in made[0].begun] == [DEFAULT_BUDGET, 6]

    enable(pipe, policy=folder, speedup=5.0)
    FLUX.run(pipe)
    assert made[1].begun[0].budget == 10


def test_without_budgets_the_policy_is_left_alone(
    made: list[MovedLatents], enable: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "policy"
    identity = PolicyIdentity(name=MovedLatents.name, distribution="otcache-theirs")
    changes = {"parameters": {"threshold": 0.4}, "budgets": None, "default_budget": None}
    write_document(folder, policy=identity, **changes)
    pipe = make_flux()
    enable(pipe, policy=folder)
    FLUX.run(pipe)
    assert [run.budget for run in made[0].begun] == [None]
    assert otcache_plugin.summary(pipe).as_planned
