"""Documents of a policy that is not installed: everything but their use works, and says of whom."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from example_documents import UNKNOWN_TABLES, unknown_of
from otcache_registry import ModelReference, PolicyIdentity, render_card, write_policy
from otcache_registry.documents.names import document_folder
from otcache_registry.store.store import PolicyStore

COMMIT = "c" * 40
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
INSTALL = "Install otcache-strata"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The document's folder."""
    document = unknown_of()
    write_policy(tmp_path / "strata", document, UNKNOWN_TABLES, render_card(document))
    return tmp_path / "strata"


@pytest.fixture
def pulled(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What names the document in the user's store."""
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "cache"))
    names = ("policy.json", "tables.safetensors", "README.md")
    contents = {name: (folder / name).read_bytes() for name in names}
    place = document_folder(unknown_of())
    PolicyStore().add("alice/policies", COMMIT, place, contents, NOON)
    return f"hub:alice/policies@{COMMIT}#{place}"


def test_list(main: Any, pulled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    lines = [line.strip() for line in main("list").out.splitlines()]
    assert lines[lines.index(pulled) + 1] == (
        "strata for example/model (0123abcd), 12 steps, budgets 3 … 9, default 6; "
        "not installed: otcache-strata"
    )
    document = json.loads(main("list", "--json").out)["documents"][-1]
    assert (document["policy"], document["policy_name"]) == (pulled, "strata")
    assert document["distribution"] == "otcache-strata"
    found = main("search", "example/model")
    assert pulled in found.out


@pytest.mark.parametrize("place", ["folder", "pulled"])
def test_show(main: Any, place: str, request: pytest.FixtureRequest) -> None:
    policy = str(request.getfixturevalue(place))
    shown = main("show", policy)
    assert (shown.code, shown.err) == (0, "")
    words = " ".join(shown.out.split())
    for each in (
        f"policy strata, not installed. {INSTALL}",
        "model example/model",
        "budgets 3 … 9, or 12; 6 unless asked for another",
        "calibrated 2026-01-31T12:00:00+00:00 on one CPU core",
    ):
        assert each in words
    assert "█" not in words
    data = json.loads(main("show", policy, "--json").out)
    assert data["parameters"] == {
        "layers": [1, 2, 3],
        "names": {"a": None},
        "threshold": 0.25,
    }


def test_verify(main: Any, pulled: str, folder: Path) -> None:
    shown = main("verify", pulled)
    assert (shown.code, shown.err) == (0, "")
    checks = [" ".join(line.split()) for line in shown.out.splitlines()]
    assert any(line.startswith("ok tables SHA-256") for line in checks)
    assert f"strata was not checked: no such policy. {INSTALL}" in " ".join(checks)
    assert main("verify", str(folder)).code == 0


def test_damaged_tables_are_noticed(main: Any, folder: Path) -> None:
    path = folder / "tables.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    shown = main("verify", str(folder))
    assert shown.code == 1
    assert "has the digest" in shown.out
    for command in ("show", "verify", "predict"):
        more = ("--budget", "5") if command == "predict" else ()
        assert main(command, str(folder), *more).code != 0


@pytest.mark.parametrize("arguments", [("predict", "--budget", "5"), ("show", "--budget", "5")])
def test_its_use_says_what_to_install(main: Any, folder: Path, arguments: tuple[str, ...]) -> None:
    command, *options = arguments
    refused = main(command, str(folder), *options)
    assert (refused.code, refused.out) == (2, "")
    assert "policy='strata': no such policy" in refused.err
    assert INSTALL in refused.err


def test_a_document_of_a_known_policy_is_checked_by_it(main: Any, tmp_path: Path) -> None:
    """What only the policy can tell is found by verify, too."""
    document = unknown_of(
        policy=PolicyIdentity(name="otcache", distribution=None),
        model=ModelReference(id="org/name", revision="1"),
    )
    write_policy(tmp_path / "wrong", document, UNKNOWN_TABLES, "# Card\n")
    shown = main("verify", str(tmp_path / "wrong"))
    assert shown.code == 1
    words = " ".join(shown.out.split())
    assert "ok document valid" in words
    assert "no policy parameters.anchor=None: this field is missing" in words
