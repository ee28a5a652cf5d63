"""A document's policy is made by whoever registered it, from parameters that are its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from example_documents import UNKNOWN_TABLES, document_of, edges_of, unknown_of
from otcache_policies import Budgets, Policy, Schedule, UniformPolicy
from otcache_registry import (
    NO_DETAILS,
    DocumentError,
    Part,
    PolicyDetails,
    PolicyDocument,
    PolicyIdentity,
    Sampling,
    ServedBudgets,
    StoredPolicy,
    Tables,
)
from plugin_fakes import FakeEntryPoint, plugin
from pydantic import BaseModel

from otcache_plugin.errors import UnknownNameError
from otcache_plugin.plugins.host import PluginHost, load_plugins
from otcache_plugin.plugins.registries import PolicyRegistry


class Strata(Part):
    """What documents of the made-up policy hold."""

    threshold: float
    layers: tuple[int, ...]
    names: dict[str, int | None] | None = None


class StrataPolicy:
    """Even spacing over fewer budgets, the first one from the parameters."""

    name = "strata"

    def __init__(self, parameters: Strata, total: int) -> None:
        self.evenly = UniformPolicy(total)
        self.budgets = Budgets(len(parameters.layers), 9, total)
        self.num_inference_steps = total

    def schedule(self, budget: int) -> Schedule:
        return self.evenly.schedule(self.budgets.require(budget, self.name))


def make(parameters: Strata, tables: Tables, sampling: Sampling) -> Policy:
    assert tables.keys() <= {"scores"}
    return StrataPolicy(parameters, sampling.num_inference_steps)


def host_with(**registration: Any) -> PluginHost:
    """The built-in policies, and strata as a plugin registers it."""
    arguments = {"parameters": Strata, "make": make, "description": "made up", **registration}

    def otcache_register_policies(registry: PolicyRegistry) -> None:
        registry.register_calibrated("strata", **arguments)

    module = plugin(otcache_register_policies=otcache_register_policies)
    return load_plugins([FakeEntryPoint("strata", lambda: module, "otcache-strata")], None)


def stored(**changes: Any) -> StoredPolicy:
    return StoredPolicy(unknown_of(**changes), UNKNOWN_TABLES, "here")


def lazily() -> type[BaseModel]:
    return Strata


@pytest.mark.parametrize("parameters", [Strata, lazily])
def test_parameters_are_validated_and_the_policy_is_made(
    parameters: type[BaseModel] | Callable[[], type[BaseModel]],
) -> None:
    policy = host_with(parameters=parameters).policy_of(stored())
    assert isinstance(policy, StrataPolicy)
    assert policy.budgets == Budgets(3, 9, 12)
    assert policy.schedule(5) == UniformPolicy(12).schedule(5)


@pytest.mark.parametrize(
    ("parameters", "field", "words"),
    [
        ({"layers": (1, 2, 3)}, "parameters.threshold", "missing"),
        ({"threshold": "0.5", "layers": (1,)}, "parameters.threshold", "valid number"),
        ({"threshold": 0.5, "layers": (1, "2")}, "parameters.layers.1", "valid integer"),
        ({"threshold": 0.5, "layers": (), "rho": 1}, "parameters.rho", "no such field"),
    ],
)
def test_other_parameters_are_refused(parameters: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        host_with().policy_of(stored(parameters=parameters))
    assert caught.value.field == field
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("served", "field", "remedy"),
    [
        ({"smallest": 2, "largest": 9}, "budgets.smallest", "Use 3"),
        ({"smallest": 3, "largest": 8}, "budgets.largest", "Use 9"),
    ],
)
def test_a_document_serves_the_budgets_that_it_states(
    served: dict[str, int], field: str, remedy: str
) -> None:
    with pytest.raises(DocumentError, match="not what the policy of its parameters") as caught:
        host_with().policy_of(stored(budgets=ServedBudgets(**served)))
    assert caught.value.field == field
    assert remedy in str(caught.value)


def test_a_policy_that_serves_budgets_states_them() -> None:
    with pytest.raises(DocumentError, match=r"its policy serves budgets\. State 3 … 9, or 12"):
        host_with().policy_of(stored(budgets=None, default_budget=None))


def test_a_policy_that_is_not_installed_says_what_to_install() -> None:
    host = load_plugins((), None)
    with pytest.raises(UnknownNameError, match="no such policy") as caught:
        host.policy_of(stored())
    assert "Install otcache-strata" in str(caught.value)
    assert caught.value.value == "strata"
    nobodys = stored(policy=PolicyIdentity(name="strata", distribution=None))
    with pytest.raises(UnknownNameError, match="does not say what to install"):
        host.policy_of(nobodys)
    assert host.describe(stored().document) == NO_DETAILS


def test_a_plugin_that_failed_to_load_is_mentioned() -> None:
    def broken() -> None:
        raise ImportError("no module named strata")

    host = load_plugins([FakeEntryPoint("strata", broken, "otcache-strata")], None)
    with pytest.raises(UnknownNameError, match="no module named strata"):
        host.policy_of(stored())


def test_what_a_policy_says_of_its_documents() -> None:
    def describe(parameters: Strata, document: PolicyDocument) -> PolicyDetails:
        assert document == stored().document
        return PolicyDetails(notes=(f"The threshold is {parameters.threshold:g}.",))

    details = host_with(describe=describe).describe(stored().document)
    assert details.notes == ("The threshold is 0.25.",)
    assert host_with().describe(stored().document) == NO_DETAILS


def test_a_policy_may_be_made_from_anothers_documents() -> None:
    def of_otcache(parameters: Any) -> Strata:
        return Strata(threshold=parameters.rho, layers=parameters.anchor.computed_steps)

    host = host_with(converts={"otcache": of_otcache, "nobodys": of_otcache})
    assert host.serving("strata") == ("strata", "otcache")
    document = document_of(edges_of(12)).model_copy(update={"tables_sha256": None})
    policy = host.policy_of(StoredPolicy(document, {}, "here"), "strata")
    assert isinstance(policy, StrataPolicy)
    # Of the otcache document's anchor of four steps; what that serves is no matter of this policy.
    assert policy.budgets.smallest == 4
    with pytest.raises(DocumentError, match=r"It takes those of: meancache, otcache"):
        host.policy_of(stored(), "meancache")


def test_parameters_that_cannot_be_converted_are_refused_first() -> None:
    host = host_with(converts={"otcache": lambda parameters: parameters})
    document = document_of(edges_of(12)).model_copy(update={"parameters": {"rho": 1.0}})
    with pytest.raises(DocumentError) as caught:
        host.policy_of(StoredPolicy(document, {}, "here"), "strata")
    assert caught.value.field == "parameters.anchor"
