"""Whatever is wrong with a document is refused with the path of the field, and nothing crashes."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from otcache_policies import FieldError
from otcache_registry import DocumentError, PolicyDocument

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


def refusal(content: object) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        PolicyDocument.from_json(json.dumps(content))
    return caught.value


# What to change, the new value, the field that the error names, and a part of its message.
REFUSED = [
    ("schema", "otcache.policy/v2", "schema", "This version reads otcache.policy/v1"),
    ("schema", None, "schema", "unknown schema"),
    ("schema", LEFT_OUT, "schema", "missing"),
    ("author", "me", "author", "no such field"),
    ("schema_", "otcache.policy/v1", "schema_", "no such field"),
    ("name", "not a name", "name", "pattern"),
    ("name", "", "name", "pattern"),
    ("model", "org/name", "model", "not allowed"),
    ("model.id", "", "model.id", "at least 1 character"),
    ("model.id", 7, "model.id", "valid string"),
    ("model.id", "two\nlines", "model.id", "pattern"),
    ("model.id", "\x1b[2J", "model.id", "pattern"),
    ("model.revision", LEFT_OUT, "model.revision", "missing"),
    ("model.branch", "main", "model.branch", "no such field"),
    ("sampling.num_inference_steps", 1, "sampling.num_inference_steps", "greater than or equal"),
    ("sampling.num_inference_steps", 10_001, "sampling.num_inference_steps", "less than or equal"),
    ("sampling.num_inference_steps", 12.0, "sampling.num_inference_steps", "valid integer"),
    ("sampling.num_inference_steps", "12", "sampling.num_inference_steps", "valid integer"),
    ("sampling.num_inference_steps", True, "sampling.num_inference_steps", "valid integer"),
    ("sampling.num_inference_steps", 13, "sampling.sigmas", "13 entries for 13 steps"),
    ("sampling.sigmas.3", 2.0, "sampling.sigmas", "entry 3 is not below the one before"),
    ("sampling.sigmas.12", -0.1, "sampling.sigmas", "last entry is below 0"),
    ("sampling.sigmas.0", math.nan, "sampling.sigmas.0", "finite"),
    ("sampling.sigmas.0", math.inf, "sampling.sigmas.0", "finite"),
    ("sampling.sigmas.0", "1.0", "sampling.sigmas.0", "valid number"),
    ("sampling.sigmas.12", LEFT_OUT, "sampling.sigmas", "12 entries for 12 steps"),
    ("sampling.height", 0, "sampling.height", "greater than or equal to 1"),
    ("sampling.width", 512.0, "sampling.width", "valid integer"),
    ("sampling.guidance.true_cfg_scale", math.nan, "sampling.guidance.true_cfg_scale", "finite"),
    ("default_budget", 3, "default_budget", "Use 4 … 12"),
    ("default_budget", 13, "default_budget", "Use 4 … 12"),
    ("anchor.computed_steps", [0, 5, 3, 11], "anchor.computed_steps", "step 3 follows step 5"),
    ("anchor.computed_steps", [0, 5, 5, 11], "anchor.computed_steps", "step 5 follows step 5"),
    ("anchor.computed_steps", [0, 3, 5, 10], "anchor.computed_steps", "step 11 must be computed"),
    ("anchor.computed_steps", [1, 3, 5, 11], "anchor.computed_steps", "step 0 must be computed"),
    ("anchor.computed_steps", [0, 3, 5, 12], "anchor.computed_steps", "outside 0 … 11"),
    ("anchor.computed_steps", [], "anchor.computed_steps", "must be computed"),
    ("anchor.computed_steps.1", 3.0, "anchor.computed_steps.1", "valid integer"),
    ("anchor.computed_steps.1", -1, "anchor.computed_steps.1", "greater than or equal to 0"),
    ("anchor.look_backs", [1, 1], "anchor.look_backs", "2 look-backs for 3 segments"),
    ("anchor.look_backs.0", 0, "anchor.look_backs.0", "greater than or equal to 1"),
    ("anchor.look_backs", "111", "anchor.look_backs", "valid array"),
    ("reference.computed_steps", None, "reference.computed_steps", "valid array"),
    ("reference.look_backs", [1], "reference.look_backs", "1 look-backs for 7 segments"),
    ("rho", 0, "rho", "greater than 0"),
    ("rho", math.nan, "rho", "finite"),
    ("rho", math.inf, "rho", "finite"),
    ("rho", True, "rho", "valid number"),
    ("look_backs", [1, 2], "look_backs", "2 entries for an anchor of 4 steps. Use 3"),
    ("look_backs", [1, 2, 3, 1], "look_backs", "4 entries for an anchor of 4 steps"),
    ("look_backs", [], "look_backs", "0 entries for an anchor of 4 steps"),
    ("look_backs", [1, 0, 1], "look_backs.1", "greater than or equal to 1"),
    ("look_backs", [1, 10_001, 1], "look_backs.1", "less than or equal to 10000"),
    ("look_backs", [1, 2.0, 1], "look_backs.1", "valid integer"),
    ("look_backs", "123", "look_backs", "valid array"),
    ("graph.cost", "latents", "graph.cost", "'velocity' or 'displacement'"),
    ("graph.gamma", 0, "graph.gamma", "greater than 0"),
    ("graph.look_back", 0, "graph.look_back", "greater than or equal to 1"),
    ("calibration.pairs", 0, "calibration.pairs", "greater than or equal to 1"),
    ("calibration.seed", -1, "calibration.seed", "greater than or equal to 0"),
    ("calibration.seed", 2**63, "calibration.seed", "less than or equal"),
    ("calibration.batch_size", 0, "calibration.batch_size", "greater than or equal to 1"),
    ("calibration.batch_size", LEFT_OUT, "calibration.batch_size", "missing"),
    ("calibration.prompts_digest", "A" * 64, "calibration.prompts_digest", "pattern"),
    ("calibration.held_out_digest", "b" * 63, "calibration.held_out_digest", "pattern"),
    ("calibration.held_out_digest", LEFT_OUT, "calibration.held_out_digest", "missing"),
    ("calibration.search", "greedy", "calibration.search", "'joint' or 'per-pair'"),
    ("calibration.search", LEFT_OUT, "calibration.search", "missing"),
    ("calibration.history.1", 0.75, "calibration.history", "entry 1 is above the one before"),
    ("calibration.history.3", math.nan, "calibration.history.3", "finite"),
    ("calibration.history", 0.5, "calibration.history", "valid array"),
    ("calibration.history", [0.5] * 10_001, "calibration.history", "at most 10000 items"),
    ("calibration.anchor_budget", 5, "calibration.anchor_budget", "Use 4"),
    ("calibration.reference_budget", 9, "calibration.reference_budget", "Use 8"),
    ("calibration.seconds", -1, "calibration.seconds", "greater than or equal to 0"),
    ("calibration.libraries.torch", 2, "calibration.libraries.torch", "valid string"),
    ("calibration.created", "yesterday", "calibration.created", "not in ISO 8601"),
    ("calibration.created", "2026-01-31T12:00:00", "calibration.created", "without time zone"),
    ("evidence", {}, "evidence", "valid array"),
    ("evidence.0.pairs", 1, "evidence.0.pairs", "greater than or equal to 2"),
    ("evidence.0.budget", 13, "evidence.0.budget", "Use 2 … 12"),
    ("evidence.0.mean", math.nan, "evidence.0.mean", "finite"),
    ("evidence.0.standard_error", -0.1, "evidence.0.standard_error", "greater than or equal"),
    ("evidence.0.win_rate", 0.5, "evidence.0.compared_to", "lacks this field"),
    ("evidence.1.win_rate", LEFT_OUT, "evidence.1.win_rate", "Give all of"),
    ("evidence.1.compared_to", None, "evidence.1.compared_to", "Give all of"),
    ("evidence.1.win_rate", 1.5, "evidence.1.win_rate", "less than or equal to 1"),
    ("evidence.1.difference_low", 4.0, "evidence.1.difference_low", "above difference_high=3.25"),
    ("edges_sha256", "0" * 63, "edges_sha256", "pattern"),
    ("edges_sha256", "0" * 64 + "\n", "edges_sha256", "pattern"),
]


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED)
def test_refused_with_the_path_of_the_field(
    content: Content, path: str, value: object, field: str, words: str
) -> None:
    put(content, path, value)
    error = refusal(content)
    assert error.field == field
    assert words in str(error)


def test_anchor_must_be_the_smaller(content: Content) -> None:
    content["anchor"] = content["reference"]
    error = refusal(content)
    assert error.field == "anchor.computed_steps"
    assert "Use fewer than 8" in str(error)


def test_another_schema_is_the_only_complaint(content: Content) -> None:
    error = refusal({"schema": "otcache.policy/v2", "everything": "else"})
    assert error.field == "schema"
    assert "Also" not in str(error)


def test_the_next_refusals_are_mentioned(content: Content) -> None:
    content["rho"] = -1
    content["name"] = "a b"
    content["extra"] = 1
    content["model"]["id"] = ""
    error = refusal(content)
    assert error.field == "name"
    assert "Also refused: model.id='' (not allowed), rho=-1 (not allowed), 1 more" in str(error)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"rho": 1.3', '"rho": 1.3, "rho": 1.4', "rho"),
        ('"id": ', '"id": "x", "id": ', "model.id"),
        ('"budget": 6', '"budget": 6, "budget": 6', "evidence.0.budget"),
    ],
)
def test_repeated_keys_are_refused(
    valid_document: PolicyDocument, old: str, new: str, field: str
) -> None:
    text = valid_document.to_json().replace(old, new, 1)
    with pytest.raises(DocumentError, match="this key occurs more than once") as caught:
        PolicyDocument.from_json(text)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("null", "not a JSON object"),
        ("[1]", "not a JSON object"),
        ("\ufeff{}", "not JSON"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ("1" * 5_000, "not JSON"),
        ('{"\ud800": 1}', "document"),
        (" " * (16 * 2**20 + 1), "longer than 16777216 characters"),
    ],
    ids=["empty", "open", "null", "array", "bom", "deep", "deeper", "digits", "surrogate", "long"],
)
def test_text_that_is_no_document(text: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as caught:
        PolicyDocument.from_json(text)
    assert len(str(caught.value)) < 1000


def test_document_errors_are_field_errors() -> None:
    assert issubclass(DocumentError, FieldError)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(max_size=10)
    | st.sampled_from(["otcache.policy/v1", "\ud800", "velocity", 10**400, 1e308, -0.0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every path into JSON values, the root's included."""
    found = [path]
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


def changed(content: Any, path: tuple[Any, ...], value: object) -> Any:
    """A copy with the value at a path replaced or, with LEFT_OUT, taken out."""
    if not path:
        return None if value is LEFT_OUT else value
    container = copy.deepcopy(content)
    place = container
    for part in path[:-1]:
        place = place[part]
    if value is LEFT_OUT:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return container


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_any_mutation_is_accepted_or_refused(valid_document: PolicyDocument, data: Any) -> None:
    content = json.loads(valid_document.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(content)))
        content = changed(content, path, data.draw(JSON_VALUES | st.just(LEFT_OUT)))
    text = json.dumps(content)
    try:
        document = PolicyDocument.from_json(text)
    except DocumentError as error:
        str(error)
    else:
        assert PolicyDocument.from_json(document.to_json()).to_json() == document.to_json()


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_damaged_text_is_accepted_or_refused(valid_document: PolicyDocument, data: Any) -> None:
    text = valid_document.to_json()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 20)))
    damaged = text[:start] + data.draw(st.text(max_size=5)) + text[end:]
    try:
        PolicyDocument.from_json(damaged)
    except DocumentError as error:
        str(error)
