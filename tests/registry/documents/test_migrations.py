"""Documents of older schemas are brought to the present one, step by step, and then validated."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from otcache_registry import DocumentError, PolicyDocument
from otcache_registry.documents import migrations

Content = dict[str, Any]


def from_first(content: Content) -> Content:
    """In the made-up first schema the parameters were called "base"."""
    others = {name: value for name, value in content.items() if name != "base"}
    return {**others, "schema": "otcache.policy/beta", "parameters": content.get("base")}


def from_second(content: Content) -> Content:
    """In the made-up second one the default budget was a percentage, named "share"."""
    others = {name: value for name, value in content.items() if name != "share"}
    return {**others, "schema": "otcache.policy/v1", "default_budget": content["share"] * 12 // 100}


OLDER: dict[str, Callable[[Content], Content]] = {
    "otcache.policy/alpha": from_first,
    "otcache.policy/beta": from_second,
}


@pytest.fixture
def oldest(content: Content) -> Content:
    """The valid document as the first schema would have had it."""
    older = {**content, "schema": "otcache.policy/alpha", "share": 50}
    older["base"] = older.pop("parameters")
    del older["default_budget"]
    return older


@pytest.fixture
def older_schemas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both made-up schemas are known."""
    monkeypatch.setattr(migrations, "MIGRATIONS", OLDER)


@pytest.mark.usefixtures("older_schemas")
def test_older_documents_are_read_as_new_ones(
    oldest: Content, valid_document: PolicyDocument
) -> None:
    read = PolicyDocument.from_json(json.dumps(oldest))
    assert read == valid_document
    assert '"schema": "otcache.policy/v1"' in read.to_json()
    assert PolicyDocument.from_json(json.dumps(from_first(oldest))) == valid_document


@pytest.mark.usefixtures("older_schemas")
def test_what_a_migration_leaves_is_validated(oldest: Content) -> None:
    with pytest.raises(DocumentError, match="default_budget=-12") as caught:
        PolicyDocument.from_json(json.dumps({**oldest, "share": -100}))
    assert caught.value.field == "default_budget"
    with pytest.raises(DocumentError, match="no such field") as caught:
        PolicyDocument.from_json(json.dumps({**oldest, "extra": 1}))
    assert caught.value.field == "extra"


@pytest.mark.usefixtures("older_schemas")
@pytest.mark.parametrize("share", ["much", None, [], {}])
def test_what_a_migration_cannot_read_is_refused(oldest: Content, share: object) -> None:
    with pytest.raises(DocumentError, match="the content is not of this schema") as caught:
        PolicyDocument.from_json(json.dumps({**oldest, "share": share}))
    assert (caught.value.field, caught.value.value) == ("schema", "otcache.policy/beta")
    del oldest["share"]
    with pytest.raises(DocumentError, match="KeyError"):
        PolicyDocument.from_json(json.dumps(oldest))


@pytest.mark.usefixtures("older_schemas")
def test_present_documents_are_left_alone(valid_document: PolicyDocument) -> None:
    assert PolicyDocument.from_json(valid_document.to_json()) == valid_document


def test_there_is_no_older_schema_yet(oldest: Content) -> None:
    assert migrations.MIGRATIONS == {}
    with pytest.raises(DocumentError, match="unknown schema") as caught:
        PolicyDocument.from_json(json.dumps(oldest))
    assert caught.value.field == "schema"
