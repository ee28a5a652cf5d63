"""The environment says whose policies are looked for, and whether the Hub is asked at all."""

from __future__ import annotations

import pytest
from huggingface_hub.constants import _is_true
from otcache_registry.documents.names import is_hub_id
from otcache_registry.hub.environment import SettingError, namespaces, offline, offline_variable

VARIABLES = ("OTCACHE_OFFLINE", "HF_HUB_OFFLINE", "OTCACHE_NAMESPACES")


@pytest.fixture(autouse=True)
def _without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ("otcache",)),
        ("", ("otcache",)),
        (" , ", ("otcache",)),
        ("alice", ("otcache", "alice")),
        (" alice , some-lab,", ("otcache", "alice", "some-lab")),
        ("b,a,b,otcache", ("otcache", "b", "a")),
    ],
)
def test_namespaces(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: tuple[str, ...]
) -> None:
    if value is not None:
        monkeypatch.setenv("OTCACHE_NAMESPACES", value)
    assert namespaces() == expected


@pytest.mark.parametrize("name", ["alice/x", "-alice", "a b", "é", "a..b", "x" * 97, "../etc"])
def test_what_is_no_namespace(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("OTCACHE_NAMESPACES", f"bob,{name}")
    with pytest.raises(SettingError, match="separated by commas") as refused:
        namespaces()
    assert refused.value.field == "OTCACHE_NAMESPACES"
    assert repr(name) in refused.value.problem


@pytest.mark.parametrize(
    "name", ["alice/x\n", "é/x", "a" * 97 + "/x", "alice/" + "x" * 97, "alice", "a/b/c", "a--b/x"]
)
def test_what_is_no_repository_whatever_huggingface_hub_lets_pass(name: str) -> None:
    assert is_hub_id("alice/x")
    assert is_hub_id("a" * 96 + "/" + "x" * 96)
    assert not is_hub_id(name)


@pytest.mark.parametrize("variable", VARIABLES[:2])
@pytest.mark.parametrize("value", ["1", "on", "Yes", "TRUE", "", "0", "off", "no", "2"])
def test_offline(monkeypatch: pytest.MonkeyPatch, variable: str, value: str) -> None:
    assert not offline()
    monkeypatch.setenv(variable, value)
    assert offline() == (value in ("1", "on", "Yes", "TRUE"))
    assert offline() == _is_true(value)  # How huggingface_hub reads its own.
    assert offline_variable() == (variable if offline() else None)
