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


def nested(depth: int) -> object:
    """A value inside so many objects."""
    return {"a": nested(depth - 1)} if depth else 1


def refusal(content: object) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        PolicyDocument.from_json(json.dumps(content))
    return caught.value


# What to change, the new value, the field that the error names, and a part of its message.
REFUSED = [
    ("schema", "otcache.policy/v2", "schema", "This version reads otcache.policy/v1"),
    ("schema", None, "schema", "unknown schema"),
    ("schema", LEFT_OUT, "schema", "missing"),
    ("schema", "otcache.policy/v0", "schema", "unknown schema"),
    ("schema", ["otcache.policy/v1"], "schema", "unknown schema"),
    ("author", "me", "author", "no such field"),
    ("look_backs", [1, 1, 1], "look_backs", "no such field"),
    ("schema_", "otcache.policy/v1", "schema_", "no such field"),
    ("policy", "otcache", "policy", "Use an object"),
    ("policy", LEFT_OUT, "policy", "missing"),
    ("policy.name", "not a name", "policy.name", "pattern"),
    ("policy.name", "", "policy.name", "pattern"),
    ("policy.name", "x" * 101, "policy.name", "at most 100 characters"),
    ("policy.distribution", LEFT_OUT, "policy.distribution", "missing"),
    ("policy.distribution", "two words", "policy.distribution", "pattern"),
    ("policy.distribution", "--index-url=x", "policy.distribution", "pattern"),
    ("policy.distribution", "git+https://x.org/y", "policy.distribution", "pattern"),
    ("policy.version", "1.0", "policy.version", "no such field"),
    ("model", "org/name", "model", "not allowed"),
    ("model.id", "", "model.id", "at least 1 character"),
    ("model.id", 7, "model.id", "valid string"),
    ("model.id", "two\nlines", "model.id", "pattern"),
    ("model.id", "\x1b[2J", "model.id", "pattern"),
    ("model.id", "\x9b2J", "model.id", "pattern"),
    ("model.id", "two\u2028lines", "model.id", "pattern"),
    ("model.id", "org/\u202egnp.exe", "model.id", "pattern"),
    *(
        ("model.id", f"org/na{sign}me", "model.id", "pattern")
        for sign in "\u200b\u200c\u200d\u200e\u200f\u061c\u2060\ufeff\xad\u180e"
    ),
    ("model.revision", "v1\u200d", "model.revision", "pattern"),
    ("calibration.device", "c\u200bpu", "calibration.device", "pattern"),
    ("calibration.seconds", 1e308, "calibration.seconds", "less than or equal"),
    ("model.id", "org/\u2066name", "model.id", "pattern"),
    ("model.id", "x" * 1001, "model.id", "at most 1000 characters"),
    ("model.revision", LEFT_OUT, "model.revision", "missing"),
    ("model.revision", None, "model.revision", "a calibrated document cannot do without it"),
    ("model.revision", "", "model.revision", "at least 1 character"),
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
    ("sampling.sigmas", None, "sampling.sigmas", "a calibrated document cannot do without it"),
    ("sampling.sigmas", LEFT_OUT, "sampling.sigmas", "missing"),
    ("sampling.height", 0, "sampling.height", "greater than or equal to 1"),
    ("sampling.width", 512.0, "sampling.width", "valid integer"),
    ("sampling.guidance.true_cfg_scale", math.nan, "sampling.guidance.true_cfg_scale", "finite"),
    ("sampling.guidance", dict.fromkeys(map(str, range(101)), 1.0), "sampling.guidance", "100"),
    ("sampling.executor", "../blocks", "sampling.executor", "pattern"),
    ("sampling.calibrator", "foca", "sampling.calibrator", "without an executor"),
    ("sampling.calls_per_step", 0, "sampling.calls_per_step", "greater than or equal to 1"),
    ("sampling.guidance.\t", 1.0, "sampling.guidance.\t.[key]", "pattern"),
    ("default_budget", 3, "default_budget", "Use 4 … 12"),
    ("default_budget", 13, "default_budget", "Use 4 … 12"),
    ("default_budget", None, "default_budget", "come together"),
    ("budgets", None, "default_budget", "Give both, or null for both"),
    ("budgets", LEFT_OUT, "budgets", "missing"),
    ("budgets.smallest", 1, "budgets.smallest", "greater than or equal to 2"),
    ("budgets.smallest", 5, "budgets.calibrated", "4 is not among 5 … 12"),
    ("budgets.largest", 3, "budgets.largest", "below the smallest budget 4"),
    ("budgets.largest", 7, "budgets.calibrated", "8 is not among 4 … 7"),
    ("budgets.largest", 13, "budgets.largest", "above the 12 steps. Use 4 … 12"),
    ("budgets.calibrated", [8, 4], "budgets.calibrated", "entry 1 is not above the one before"),
    ("budgets.calibrated", [4, 4], "budgets.calibrated", "entry 1 is not above the one before"),
    ("budgets.calibrated.1", 8.0, "budgets.calibrated.1", "valid integer"),
    ("parameters", None, "parameters", "Use an object"),
    ("parameters", [1], "parameters", "Use an object"),
    ("parameters", LEFT_OUT, "parameters", "missing"),
    ("parameters.rho", math.nan, "parameters.rho", "not a finite number"),
    ("parameters.rho", math.inf, "parameters.rho", "not a finite number"),
    ("parameters.own", {"a": [1, {"b": -math.inf}]}, "parameters.own.a.1.b", "not a finite"),
    ("parameters.own", "x" * 1001, "parameters.own", "longer than 1000 characters"),
    ("parameters.own", "two\nlines", "parameters.own", "with a line break"),
    ("parameters.own", ["\u202e"], "parameters.own.0", "reverses the writing"),
    ("parameters.own", "\ud800", "parameters.own", "Remove it"),
    ("parameters.own", {"\x1b": 1}, "parameters.own", "a control character"),
    ("parameters.own", {"x" * 1001: 1}, "parameters.own", "longer than 1000 characters"),
    ("parameters.own", nested(33), f"parameters.own{'.a' * 32}", "nested deeper than 32"),
    ("calibration", None, "calibration", "Give exactly one of calibration and published"),
    ("calibration", LEFT_OUT, "calibration", "Give exactly one of calibration and published"),
    ("calibration.pairs", 0, "calibration.pairs", "greater than or equal to 1"),
    ("calibration.seed", -1, "calibration.seed", "greater than or equal to 0"),
    ("calibration.seed", 2**63, "calibration.seed", "less than or equal"),
    ("calibration.batch_size", 0, "calibration.batch_size", "greater than or equal to 1"),
    ("calibration.batch_size", LEFT_OUT, "calibration.batch_size", "missing"),
    ("calibration.prompts_digest", "A" * 64, "calibration.prompts_digest", "pattern"),
    ("calibration.held_out_digest", "b" * 63, "calibration.held_out_digest", "pattern"),
    ("calibration.held_out_digest", LEFT_OUT, "calibration.held_out_digest", "missing"),
    ("calibration.settings", LEFT_OUT, "calibration.settings", "missing"),
    ("calibration.settings", "joint", "calibration.settings", "Use an object"),
    ("calibration.settings.a", math.nan, "calibration.settings.a", "not a finite number"),
    ("calibration.seconds", -1, "calibration.seconds", "greater than or equal to 0"),
    ("calibration.libraries.torch", 2, "calibration.libraries.torch", "valid string"),
    (
        "calibration.libraries",
        dict.fromkeys(map(str, range(101)), "1"),
        "calibration.libraries",
        "at most 100 items",
    ),
    ("calibration.created", "yesterday", "calibration.created", "not in ISO 8601"),
    ("calibration.created", "2026-01-31T12:00:00", "calibration.created", "without time zone"),
    ("evidence", {}, "evidence", "Use an array"),
    ("evidence.0.pairs", 1, "evidence.0.pairs", "greater than or equal to 2"),
    ("evidence.0.budget", 13, "evidence.0.budget", "Use 2 … 12"),
    ("evidence.0.mean", math.nan, "evidence.0.mean", "finite"),
    ("evidence.0.standard_error", -0.1, "evidence.0.standard_error", "greater than or equal"),
    ("evidence.0.win_rate", 0.5, "evidence.0.compared_to", "lacks this field"),
    ("evidence.1.win_rate", LEFT_OUT, "evidence.1.win_rate", "Give all of"),
    ("evidence.1.compared_to", None, "evidence.1.compared_to", "Give all of"),
    ("evidence.1.win_rate", 1.5, "evidence.1.win_rate", "less than or equal to 1"),
    ("evidence.1.difference_low", 4.0, "evidence.1.difference_low", "above difference_high=3.25"),
    ("tables_sha256", "0" * 63, "tables_sha256", "pattern"),
    ("tables_sha256", "0" * 64 + "\n", "tables_sha256", "pattern"),
]


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED)
def test_refused_with_the_path_of_the_field(
    content: Content, path: str, value: object, field: str, words: str
) -> None:
    put(content, path, value)
    error = refusal(content)
    assert error.field == field
    assert words in str(error)


# Budgets from 4 to 8, and no table to go on with.
REFUSED_PUBLISHED = [
    ("published", None, "calibration", "Give exactly one of calibration and published"),
    ("published.authors", "", "published.authors", "at least 1 character"),
    ("published.source", LEFT_OUT, "published.source", "missing"),
    ("published.paper", "two\nlines", "published.paper", "pattern"),
    ("published.setting", None, "published.setting", "valid string"),
    ("published.licence", "MIT", "published.licence", "no such field"),
    (
        "evidence",
        [
            {
                **{"policy": "otcache", "budget": 6, "metric": "psnr"},
                **{"mean": 30.0, "standard_error": 0.5, "pairs": 8},
            }
        ],
        "evidence",
        "published schedules come without",
    ),
    ("model.revision", LEFT_OUT, "model.revision", "missing"),
    ("sampling.sigmas", [1.0, 0.5, 0.0], "sampling.sigmas", "3 entries for 12 steps"),
    ("default_budget", 3, "default_budget", "Use 4 … 8, or 12"),
    ("default_budget", 9, "default_budget", "Use 4 … 8, or 12"),
]


@pytest.mark.parametrize(("path", "value", "field", "words"), REFUSED_PUBLISHED)
def test_published_refused_with_the_path_of_the_field(
    published_content: Content, path: str, value: object, field: str, words: str
) -> None:
    put(published_content, path, value)
    error = refusal(published_content)
    assert error.field == field
    assert words in str(error)


@pytest.mark.parametrize("budget", [8, 12])
def test_published_schedules_may_default_to_the_reference_or_every_step(
    published_content: Content, budget: int
) -> None:
    published_content["default_budget"] = budget
    assert PolicyDocument.from_json(json.dumps(published_content)).default_budget == budget


def test_a_document_is_calibrated_or_published(
    content: Content, published_content: Content
) -> None:
    content["published"] = published_content["published"]
    error = refusal(content)
    assert error.field == "published"
    assert "Give exactly one of calibration and published" in str(error)


def test_another_schema_is_the_only_complaint(content: Content) -> None:
    error = refusal({"schema": "otcache.policy/v2", "everything": "else", "rho": "NaN"})
    assert error.field == "schema"
    assert "Also" not in str(error)


def test_the_next_refusals_are_mentioned(content: Content) -> None:
    content["default_budget"] = -1
    content["policy"]["name"] = "a b"
    content["extra"] = 1
    content["model"]["id"] = ""
    error = refusal(content)
    assert error.field == "policy.name"
    assert (
        "Also refused: model.id='' (not allowed), default_budget=-1 (not allowed), 1 more"
    ) in str(error)


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"rho": 1.3', '"rho": 1.3, "rho": 1.4', "parameters.rho"),
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
        (" " * (2**20 + 1), "longer than 1048576 characters"),
    ],
    ids=["empty", "open", "null", "array", "bom", "deep", "deeper", "digits", "surrogate", "long"],
)
def test_text_that_is_no_document(text: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words) as caught:
        PolicyDocument.from_json(text)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("count", [1_000, 200_000])
def test_what_is_read_can_be_written_and_read_again(content: Content, count: int) -> None:
    # As text each of the empty lists takes three characters, and a line when it is written.
    content["parameters"]["own"] = [[]] * count
    text = json.dumps(content, separators=(",", ":"))
    assert len(text) < 2**20
    if count == 1_000:
        document = PolicyDocument.from_json(text)
        assert PolicyDocument.from_json(document.to_json()) == document
        return
    with pytest.raises(DocumentError, match="longer than 1048576 characters when it is written"):
        PolicyDocument.from_json(text)


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


@settings(max_examples=200)
@given(data=st.data())
def test_any_mutation_is_accepted_or_refused(
    waypoint_document: PolicyDocument, published_document: PolicyDocument, data: Any
) -> None:
    origin = data.draw(st.sampled_from([waypoint_document, published_document]))
    content = json.loads(origin.to_json())
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


@settings(max_examples=200)
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
