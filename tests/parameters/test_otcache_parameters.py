"""OTCache's parameters are refused with the path of the field, and make the policy they say."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from example_documents import document_of, edges_of, published_of
from otcache_policies import EdgeSettings, EdgeTable, MeanCachePolicy, OTCachePolicy, Schedule
from otcache_registry import DocumentError, PolicyDocument, StoredPolicy
from pydantic import ValidationError

from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.parameters.otcache import OTCacheParameters
from otcache_plugin.plugins.host import PluginHost

Content = dict[str, Any]
LEFT_OUT = object()


def put(content: Content, path: str, value: object) -> None:
    """Set, or with LEFT_OUT delete, the value at a dotted path."""
    *parents, last = (int(part) if part.isdecimal() else part for part in path.split("."))
    place: Any = content
    for part in parents:
        place = place[part]
    if value is LEFT_OUT:
        del place[last]
    else:
        place[last] = value


def stored(content: Content) -> StoredPolicy:
    """The document with the tables that it names; no other part of it is wrong."""
    document = PolicyDocument.from_json(json.dumps(content))
    tables = {} if document.tables_sha256 is None else tables_of(edges_of(12))
    return StoredPolicy(document, tables, "here")


def refusal(host: PluginHost, content: Content) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        host.policy_of(stored(content))
    return caught.value


# What to change in the parameters, the new value, the field that the error names, its words.
REFUSED = [
    (
        "anchor.computed_steps",
        [0, 5, 3, 11],
        "anchor.computed_steps",
        "step 3 follows step 5",
    ),
    (
        "anchor.computed_steps",
        [0, 5, 5, 11],
        "anchor.computed_steps",
        "step 5 follows step 5",
    ),
    (
        "anchor.computed_steps",
        [0, 3, 5, 10],
        "anchor.computed_steps",
        "step 11 must be computed",
    ),
    (
        "anchor.computed_steps",
        [1, 3, 5, 11],
        "anchor.computed_steps",
        "step 0 must be computed",
    ),
    (
        "anchor.computed_steps",
        [0, 3, 5, 12],
        "anchor.computed_steps",
        "outside 0 … 11",
    ),
    (
        "anchor.computed_steps",
        [],
        "anchor.computed_steps",
        "must be computed",
    ),
    (
        "anchor.computed_steps.1",
        3.0,
        "anchor.computed_steps.1",
        "valid integer",
    ),
    (
        "anchor.computed_steps.1",
        -1,
        "anchor.computed_steps.1",
        "greater than or equal to 0",
    ),
    (
        "anchor.look_backs",
        [1, 1],
        "anchor.look_backs",
        "2 look-backs for 3 segments",
    ),
    (
        "anchor.look_backs.0",
        0,
        "anchor.look_backs.0",
        "greater than or equal to 1",
    ),
    ("anchor.look_backs", "111", "anchor.look_backs", "Use an array"),
    (
        "reference.computed_steps",
        None,
        "reference.computed_steps",
        "Use an array",
    ),
    (
        "reference.look_backs",
        [1],
        "reference.look_backs",
        "1 look-backs for 7 segments",
    ),
    ("rho", 0, "rho", "greater than 0"),
    ("rho", True, "rho", "valid number"),
    ("graph.cost", "latents", "graph.cost", "'velocity' or 'displacement'"),
    ("graph.gamma", 0, "graph.gamma", "greater than 0"),
    ("graph.look_back", 0, "graph.look_back", "greater than or equal to 1"),
    ("rho", "1.3", "rho", "valid number"),
    ("rho", LEFT_OUT, "rho", "missing"),
    ("graph", None, "graph", "Give both, or neither"),
    ("graph", LEFT_OUT, "graph", "Give both, or neither"),
    ("graph.look_back", 4, "graph.look_back", "Use null, or 1 … 3"),
    ("author", "me", "author", "no such field"),
]


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED)
def test_refused_with_the_path_of_the_field(
    host: PluginHost, content: Content, path: str, value: object, field: str, words: str
) -> None:
    put(content["parameters"], path, value)
    error = refusal(host, content)
    assert error.field == f"parameters.{field}"
    assert words in str(error)


# Steps of budgets 4, 5, 7 and 8.
REFUSED_WAYPOINTS = [
    ("waypoints", None, "waypoints", "Use an array"),
    ("waypoints", {}, "waypoints", "Use an array"),
    ("waypoints.0", [0, 1, 11], "waypoints.0", "not allowed"),
    ("waypoints.0.budget", 5, "waypoints.0.budget", "no such field"),
    ("waypoints.1.look_backs", LEFT_OUT, "waypoints.1.look_backs", "missing"),
    (
        "waypoints.1.look_backs",
        [1],
        "waypoints.1.look_backs",
        "1 look-backs for 6 segments",
    ),
    (
        "waypoints.1.computed_steps.2",
        11,
        "waypoints.1.computed_steps",
        "follows step 11",
    ),
    (
        "waypoints.0.computed_steps.4",
        12,
        "waypoints.0.computed_steps",
        "outside 0 … 11",
    ),
    (
        "waypoints.0.computed_steps.4",
        10,
        "waypoints.0.computed_steps",
        "step 11 must be computed",
    ),
    (
        "waypoints.0",
        {"computed_steps": [0, 5, 7, 11], "look_backs": [1] * 3},
        "anchor.computed_steps",
        "4 steps, not fewer than those of waypoints.0. Use fewer than 4",
    ),
    (
        "waypoints.0",
        {"computed_steps": [0, 1, 2, 3, 4, 5, 11], "look_backs": [1] * 6},
        "waypoints.0.computed_steps",
        "7 steps, not fewer than those of waypoints.1. Use fewer than 7",
    ),
    (
        "waypoints.1",
        {"computed_steps": [*range(8), 11], "look_backs": [1] * 8},
        "waypoints.1.computed_steps",
        "9 steps, not fewer than those of reference. Use fewer than 8",
    ),
    (
        "waypoints",
        [{"computed_steps": [0, 11], "look_backs": [1]}] * 101,
        "waypoints",
        "at most 100 items",
    ),
]


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED_WAYPOINTS)
def test_waypoints_refused_with_the_path_of_the_field(
    host: PluginHost, waypoint_content: Content, path: str, value: object, field: str, words: str
) -> None:
    put(waypoint_content["parameters"], path, value)
    error = refusal(host, waypoint_content)
    assert error.field == f"parameters.{field}"
    assert words in str(error)


def test_waypoints_in_the_wrong_order(host: PluginHost, waypoint_content: Content) -> None:
    waypoint_content["parameters"]["waypoints"].reverse()
    error = refusal(host, waypoint_content)
    assert error.field == "parameters.waypoints.0.computed_steps"
    assert "7 steps, not fewer than those of waypoints.1" in str(error)


def test_anchor_must_be_the_smaller(host: PluginHost, content: Content) -> None:
    content["parameters"]["anchor"] = content["parameters"]["reference"]
    error = refusal(host, content)
    assert error.field == "parameters.anchor.computed_steps"
    assert "Use fewer than 8" in str(error)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("policy.name", "uniform", "a policy that needs no document"),
        ("budgets.smallest", 3, "Use 4"),
        ("budgets.largest", 11, "Use 12"),
    ],
)
def test_what_the_document_says_to_others_has_to_be_true(
    host: PluginHost, content: Content, path: str, value: object, words: str
) -> None:
    put(content, path, value)
    if path.startswith("budgets"):
        content["budgets"]["calibrated"] = []
    error = refusal(host, content)
    assert error.field == path
    assert words in str(error)


def test_the_next_refusals_are_mentioned(host: PluginHost, content: Content) -> None:
    content["parameters"].update(rho=-1, extra=1)
    content["parameters"]["anchor"]["look_backs"] = None
    error = refusal(host, content)
    assert error.field == "parameters.anchor.look_backs"
    assert "Also refused: parameters.rho=-1 (not allowed), parameters.extra=1" in str(error)


def test_published_schedules_have_no_graph(host: PluginHost, published_content: Content) -> None:
    graph = {"cost": "velocity", "gamma": 1.0, "look_back": None}
    published_content["parameters"]["graph"] = graph
    error = refusal(host, published_content)
    assert error.field == "parameters.graph"
    assert "come together" in str(error)


REFUSED_SETTINGS = [
    (
        "search",
        "greedy",
        "search",
        "'joint' or 'per-pair'",
    ),
    ("effort", LEFT_OUT, "effort", "missing"),
    ("effort", "fast", "effort", "'quick', 'standard', 'thorough' or 'paper'"),
    (
        "history.1",
        0.75,
        "history",
        "entry 1 is above the one before",
    ),
    ("history", 0.5, "history", "Use an array"),
    (
        "history",
        [0.5] * 10_001,
        "history",
        "at most 10000 items",
    ),
    ("anchor_budget", 5, "anchor_budget", "Use 4"),
    ("reference_budget", 9, "reference_budget", "Use 8"),
]


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED_SETTINGS)
def test_settings_refused_with_the_path_of_the_field(
    host: PluginHost, content: Content, path: str, value: object, field: str, words: str
) -> None:
    put(content["calibration"]["settings"], path, value)
    with pytest.raises(DocumentError) as caught:
        host.describe(PolicyDocument.from_json(json.dumps(content)))
    assert caught.value.field == f"calibration.settings.{field}"
    assert words in str(caught.value)


def test_a_history_may_be_left_out_and_be_as_long_as_the_longest_search(
    host: PluginHost, content: Content
) -> None:
    settings = content["calibration"]["settings"]
    del settings["history"]
    assert host.describe(PolicyDocument.from_json(json.dumps(content))).calibration
    # Losses of a metric that is better when it is larger are negative.
    settings["history"] = [-float(trial) for trial in range(10_000)]
    assert host.describe(PolicyDocument.from_json(json.dumps(content))).calibration


def test_the_policy_is_the_parameters(host: PluginHost, edges: EdgeTable) -> None:
    document = document_of(edges)
    policy = host.policy_of(StoredPolicy(document, tables_of(edges), "here"))
    graph = MeanCachePolicy(edges, EdgeSettings("displacement", 2.0))
    assert isinstance(policy, OTCachePolicy)
    assert policy.anchor == policy.schedule(4) == graph.schedule(4)
    assert policy.reference == policy.schedule(8) == graph.schedule(8)
    assert policy.rho == 1.3
    assert policy.settings == graph.settings
    assert policy.schedule(12) == Schedule.full(12)
    assert OTCacheParameters.of(policy).model_dump() == document.parameters


def test_the_policy_goes_through_the_waypoints(host: PluginHost, edges: EdgeTable) -> None:
    document = document_of(edges, waypoints=(5, 7))
    policy = host.policy_of(StoredPolicy(document, tables_of(edges), "here"))
    assert isinstance(policy, OTCachePolicy)
    assert [schedule.budget for schedule in policy.calibrated] == [4, 5, 7, 8]
    for schedule in policy.calibrated:
        assert policy.schedule(schedule.budget) == schedule


def test_published_schedules_are_served_without_a_table(host: PluginHost) -> None:
    policy = host.policy_of(StoredPolicy(published_of(), {}, "here"))
    assert str(policy.budgets) == "4 … 8, or 12"
    assert isinstance(policy, OTCachePolicy)
    assert policy.calibrated == (
        Schedule([0, 2, 5, 11], 12, [1, 2, 5]),
        Schedule([0, 1, 3, 6, 8, 11], 12, [1, 2, 3, 4, 5]),
        Schedule([0, 1, 2, 3, 5, 7, 9, 11], 12, [1, 1, 1, 2, 2, 2, 6]),
    )


def test_details_name_the_schedules_and_the_search(host: PluginHost, edges: EdgeTable) -> None:
    details = host.describe(document_of(edges, waypoints=(5, 7)))
    assert [(name, each.budget) for name, each in details.schedules] == [
        ("anchor", 4),
        ("waypoint", 5),
        ("waypoint", 7),
        ("reference", 8),
    ]
    assert details.notes == ("Budgets between two neighbours are predicted with rho = 1.3.",)
    text = "per pair, each on its own, up to 200 trials for each schedule"
    assert details.calibration == (("effort", "paper"), ("search", text))
    assert host.describe(published_of()).calibration == ()


def test_parameters_are_frozen(edges: EdgeTable) -> None:
    parameters = OTCacheParameters.model_validate(document_of(edges).parameters)
    with pytest.raises(ValidationError, match="frozen"):
        parameters.rho = 1.0


def test_a_table_of_another_set_up_is_refused(host: PluginHost, edges: EdgeTable) -> None:
    document, tables = document_of(edges), tables_of(edges)
    changed = {**tables, "sigmas": np.linspace(0.9, 0.0, 13)}
    with pytest.raises(DocumentError, match=r"tables\.sigmas.*not the document's sampling.sigmas"):
        host.policy_of(StoredPolicy(document, changed, "here"))
