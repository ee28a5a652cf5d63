"""Documents survive the way to JSON and back, byte for byte, and mean the same afterwards."""

from __future__ import annotations

import json
import math
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from otcache_policies import EdgeSettings, EdgeTable, Schedule
from otcache_registry import (
    POLICY_SCHEMA,
    Calibration,
    DocumentError,
    EvidenceRow,
    GraphSettings,
    ModelReference,
    PolicyDocument,
    PolicyIdentity,
    Publication,
    Sampling,
    ScheduleRecord,
    ServedBudgets,
    json_schema,
)
from pydantic import BaseModel, ValidationError


@pytest.fixture(
    params=["valid_document", "waypoint_document", "published_document", "unknown_document"]
)
def document(request: pytest.FixtureRequest) -> PolicyDocument:
    """Each kind of document."""
    kind: PolicyDocument = request.getfixturevalue(request.param)
    return kind


def test_round_trip_is_equal_and_byte_stable(document: PolicyDocument) -> None:
    text = document.to_json()
    again = PolicyDocument.from_json(text)
    assert again == document
    assert again.to_json() == text


def test_text_is_json_with_a_newline_and_arrays_of_numbers_on_one_line(
    valid_document: PolicyDocument,
) -> None:
    text = valid_document.to_json()
    lines = text.splitlines()
    assert text.endswith("}\n")
    assert lines[1] == f'  "schema": "{POLICY_SCHEMA}",'
    steps = list(valid_document.parameters["anchor"]["computed_steps"])
    assert f'      "computed_steps": {json.dumps(steps)},' in lines
    assert json.loads(text) == valid_document.model_dump(mode="json", by_alias=True)


def test_order_of_keys_makes_no_difference(content: dict[str, Any]) -> None:
    def reversed_keys(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: reversed_keys(value[key]) for key in reversed(value)}
        return value

    content["sampling"]["guidance"] = {"b": 1.0, "a": 2.0}
    one = PolicyDocument.from_json(json.dumps(content))
    other = PolicyDocument.from_json(json.dumps(reversed_keys(content)))
    assert one.to_json() == other.to_json()
    assert list(one.sampling.guidance) == ["a", "b"]
    assert list(one.parameters) == [
        *("anchor", "damping", "graph", "reference", "rho", "served", "warp", "waypoints")
    ]


def test_whole_numbers_become_floats_where_the_registry_knows_the_field(
    content: dict[str, Any],
) -> None:
    content["calibration"]["seconds"] = 2
    content["parameters"] = {"own": 2, "other": 2.0}
    text = PolicyDocument.from_json(json.dumps(content)).to_json()
    for line in ('"seconds": 2.0,', '"own": 2\n', '"other": 2.0,'):
        assert line in text


def test_parameters_are_the_same_from_python_and_from_json(content: dict[str, Any]) -> None:
    own = {"b": [1, [2.5, None]], "a": {"y": True, "x": "é"}}
    content["parameters"] = own
    read = PolicyDocument.from_json(json.dumps(content))
    assert read.parameters == {"a": {"x": "é", "y": True}, "b": (1, (2.5, None))}
    fields = {name: getattr(read, name) for name in PolicyDocument.model_fields if name[-1] != "_"}
    assert PolicyDocument(schema=POLICY_SCHEMA, **{**fields, "parameters": own}) == read
    with pytest.raises(ValidationError, match="not a value of JSON"):
        PolicyDocument(schema=POLICY_SCHEMA, **{**fields, "parameters": {"a": {1, 2}}})
    with pytest.raises(ValidationError, match="a key that is not a text"):
        PolicyDocument(schema=POLICY_SCHEMA, **{**fields, "parameters": {"a": {1: 2}}})


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_keep_every_bit(valid_document: PolicyDocument, number: float) -> None:
    document = valid_document.model_copy(update={"parameters": {"a": (number,)}})
    assert PolicyDocument.from_json(document.to_json()).parameters == {"a": (number,)}


def test_a_policy_may_serve_no_budgets(content: dict[str, Any]) -> None:
    content["budgets"] = content["default_budget"] = None
    document = PolicyDocument.from_json(json.dumps(content))
    assert document.calibrated_budgets == ()
    assert PolicyDocument.from_json(document.to_json()) == document
    with pytest.raises(DocumentError, match="serves no budgets"):
        document.require_default_budget()


def test_a_distribution_may_be_unknown(content: dict[str, Any]) -> None:
    content["policy"]["distribution"] = None
    assert PolicyDocument.from_json(json.dumps(content)).policy.distribution is None


@given(st.integers(0, 2**63 - 1))
def test_seeds_keep_every_bit(valid_document: PolicyDocument, seed: int) -> None:
    assert valid_document.calibration is not None
    calibration = valid_document.calibration.model_copy(update={"seed": seed})
    document = valid_document.model_copy(update={"calibration": calibration})
    assert PolicyDocument.from_json(document.to_json()).calibration == calibration


def test_text_other_than_ascii_survives(content: dict[str, Any]) -> None:
    content["calibration"]["device"] = "Gerät № 1"
    document = PolicyDocument.from_json(json.dumps(content))
    assert '"device": "Gerät № 1"' in document.to_json()
    assert PolicyDocument.from_json(document.to_json()) == document


def test_evidence_may_be_left_out(content: dict[str, Any]) -> None:
    del content["evidence"]
    assert PolicyDocument.from_json(json.dumps(content)).evidence == ()


def test_what_a_kind_of_document_lacks_may_be_left_out(document: PolicyDocument) -> None:
    content = json.loads(document.to_json())
    lacking = [name for name, value in content.items() if value in (None, [])]
    assert lacking
    for name in lacking:
        del content[name]
    assert PolicyDocument.from_json(json.dumps(content)) == document


def test_schedule_record() -> None:
    schedule = Schedule([0, 1, 4, 6], 7, [1, 3, 2])
    record = ScheduleRecord.of(schedule)
    assert record.budget == 4
    assert record.schedule(7) == schedule


def test_steps_and_calibrated_budgets(
    waypoint_document: PolicyDocument, published_document: PolicyDocument
) -> None:
    assert waypoint_document.num_inference_steps == 12
    assert waypoint_document.calibrated_budgets == (4, 5, 7, 8)
    assert published_document.calibrated_budgets == (4, 6, 8)


def test_a_calibration_may_name_a_revision_that_is_no_commit(content: dict[str, Any]) -> None:
    content["model"]["revision"] = "scenes4000, shift 3 – seed 0"
    document = PolicyDocument.from_json(json.dumps(content))
    assert document.model.revision == "scenes4000, shift 3 – seed 0"


def test_published_schedules_may_name_revision_and_sigmas(
    published_content: dict[str, Any],
) -> None:
    published_content["model"]["revision"] = "0123abcd"
    published_content["sampling"]["sigmas"] = [1 - step / 12 for step in range(13)]
    document = PolicyDocument.from_json(json.dumps(published_content))
    assert document.model.revision == "0123abcd"
    assert document.sampling.sigmas is not None


@pytest.mark.parametrize(
    "settings", [EdgeSettings(), EdgeSettings("velocity", 4.0, 2)], ids=["default", "other"]
)
def test_graph_settings_mirror_edge_settings(settings: EdgeSettings) -> None:
    assert GraphSettings.of(settings).edge_settings() == settings


def test_documents_are_frozen(valid_document: PolicyDocument) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        valid_document.default_budget = 7


def test_python_values_are_checked_too(valid_edges: EdgeTable) -> None:
    with pytest.raises(ValidationError, match="entry 2 is not below the one before"):
        Sampling(
            pipeline="P",
            scheduler="S",
            num_inference_steps=2,
            sigmas=(1.0, 0.5, 0.5),
            height=None,
            width=None,
            guidance={},
        )
    with pytest.raises(ValidationError, match="finite number"):
        GraphSettings(cost="velocity", gamma=math.nan, look_back=None)


def test_json_schema_lists_every_field_and_allows_no_other(content: dict[str, Any]) -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(schema["properties"]) == set(content)
    assert schema["properties"]["schema"]["const"] == POLICY_SCHEMA
    assert set(schema["required"]) == {
        *("schema", "policy", "model", "sampling"),
        *("default_budget", "budgets", "parameters"),
    }
    calibration = schema["$defs"]["Calibration"]
    assert set(calibration["properties"]) == set(content["calibration"])
    assert set(calibration["required"]) == set(content["calibration"])
    for own in (schema["properties"]["parameters"], calibration["properties"]["settings"]):
        assert own["type"] == "object"
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
    json.dumps(schema)


def test_json_schema_agrees_with_the_parser(document: PolicyDocument) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(validator.schema)
    content = json.loads(document.to_json())
    validator.validate(content)
    for path, value in (
        ("parameters", 0),
        ("parameters", [1]),
        ("policy", {"name": "a b", "distribution": None}),
        ("budgets", {"smallest": 1, "largest": 12, "calibrated": []}),
        ("extra", 1),
        ("default_budget", 10_001),
        ("model", {"id": "a\u202eb", "revision": None}),
        ("model", {"id": "a\nb", "revision": None}),
        ("tables_sha256", "0" * 63),
    ):
        changed = {**content, path: value}
        assert not validator.is_valid(changed), path
        with pytest.raises(DocumentError):
            PolicyDocument.from_json(json.dumps(changed))


@pytest.mark.parametrize(
    "part",
    [
        Calibration,
        EvidenceRow,
        GraphSettings,
        ModelReference,
        PolicyDocument,
        PolicyIdentity,
        Publication,
        Sampling,
        ScheduleRecord,
        ServedBudgets,
    ],
)
def test_every_part_is_strict(part: type[BaseModel]) -> None:
    assert part.model_config["frozen"]
    assert part.model_config["strict"]
    assert part.model_config["extra"] == "forbid"
    assert part.model_config["allow_inf_nan"] is False
