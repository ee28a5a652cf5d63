"""Bundled documents are listed by name and found by model revision; having none is fine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from example_documents import UNKNOWN_TABLES
from otcache_policies import EdgeTable
from otcache_registry import (
    DocumentError,
    DocumentNotFoundError,
    ModelReference,
    PolicyDocument,
    bundled_policies,
    find_bundled,
    read_policy,
    render_card,
    write_policy,
)
from otcache_registry.documents import bundled
from otcache_registry.documents.tables import NO_TABLES

from otcache_plugin.parameters.edge_tables import tables_of
from otcache_plugin.plugins.host import load_plugins


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package's, empty and not even there."""
    folder = tmp_path / "bundled"
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", folder)
    return folder


@pytest.fixture
def filled(
    shelf: Path,
    make_edges: Callable[[int], EdgeTable],
    make_document: Callable[..., PolicyDocument],
) -> Path:
    """Model a at revisions 1 (two numbers of steps) and 2, model b at revision 1."""
    for name, model, revision, total in (
        ("z-first", "org/a", "rev1", 12),
        ("a-last", "org/b", "rev1", 12),
        ("m-longer", "org/a", "rev1", 20),
        ("n-second", "org/a", "rev2", 12),
    ):
        edges = make_edges(total)
        document = make_document(edges, model=ModelReference(id=model, revision=revision))
        write_policy(shelf / name, document, tables_of(edges), "card")
    (shelf / "not-a-policy").mkdir()
    return shelf


@pytest.fixture
def passed_on(filled: Path, make_published: Callable[..., PolicyDocument]) -> Path:
    """The same, and published schedules of 12 steps for models a and d, of any revision."""
    for name, model in (("0-any", "org/a"), ("any", "org/d")):
        document = make_published(model=ModelReference(id=model, revision=None))
        write_policy(filled / name, document, NO_TABLES, "card")
    return filled


def test_whatever_ships_is_readable() -> None:
    for entry in bundled_policies():
        stored = entry.load()
        assert stored.document == entry.document
        assert stored.source == f"bundled:{entry.name}"


def test_whatever_ships_has_the_card_that_is_rendered_now() -> None:
    for entry in bundled_policies():
        folder = bundled.BUNDLED_FOLDER / entry.name
        figures = [path.name for path in folder.glob("figures/*")]
        card = (folder / "README.md").read_text(encoding="utf-8")
        details = load_plugins((), None).describe(entry.document)
        assert card == render_card(entry.document, figures, details), entry.name


def test_nothing_bundled(shelf: Path) -> None:
    assert bundled_policies() == ()
    with pytest.raises(DocumentNotFoundError, match="Nothing is bundled"):
        find_bundled("otcache", "org/a", "rev1")


def test_listing_is_sorted_and_needs_no_tables(filled: Path) -> None:
    for path in filled.glob("*/tables.safetensors"):
        path.unlink()
    assert [entry.name for entry in bundled_policies()] == [
        "a-last",
        "m-longer",
        "n-second",
        "z-first",
    ]


def test_found_by_model_and_revision(filled: Path) -> None:
    stored = find_bundled("otcache", "org/a", "rev2")
    assert stored.source == "bundled:n-second"
    assert stored.document.model == ModelReference(id="org/a", revision="rev2")
    assert stored.tables["velocity_errors"].shape == (12, 12, 3)


@pytest.mark.parametrize("revision", ["rev1", "rev9", None])
def test_without_revision_serves_any_even_an_unknown_one(
    passed_on: Path, revision: str | None
) -> None:
    stored = find_bundled("otcache", "org/d", revision)
    assert stored.source == "bundled:any"
    assert stored.document.model.revision is None
    assert stored.tables == {}
    assert find_bundled("otcache", "org/d", revision, 12).document == stored.document


def test_the_very_revision_goes_before_any(passed_on: Path) -> None:
    assert find_bundled("otcache", "org/a", "rev2").source == "bundled:n-second"
    assert find_bundled("otcache", "org/a", "rev1").source == "bundled:m-longer"
    assert find_bundled("otcache", "org/a", "rev1", 12).source == "bundled:z-first"
    assert find_bundled("otcache", "org/a", "rev9").source == "bundled:0-any"
    assert find_bundled("otcache", "org/a", None).source == "bundled:0-any"
    # The revision's own document is for 12 steps as well.
    assert find_bundled("otcache", "org/a", "rev2", 12).source == "bundled:n-second"


def test_any_revision_stands_in_for_steps_that_the_very_one_lacks(
    filled: Path, make_published: Callable[..., PolicyDocument]
) -> None:
    document = make_published(model=ModelReference(id="org/b", revision=None))
    write_policy(filled / "any", document, NO_TABLES, "card")
    longer = read_policy(filled / "m-longer")
    document = longer.document.model_copy(
        update={"model": ModelReference(id="org/b", revision="rev1")}
    )
    write_policy(filled / "a-last", document, longer.tables, "card")
    assert find_bundled("otcache", "org/b", "rev1", 20).source == "bundled:a-last"
    assert find_bundled("otcache", "org/b", "rev1", 12).source == "bundled:any"


def test_found_by_the_policy(filled: Path, unknown_document: PolicyDocument) -> None:
    model = ModelReference(id="org/a", revision="rev1")
    document = unknown_document.model_copy(update={"model": model})
    write_policy(filled / "0-strata", document, UNKNOWN_TABLES, "card")
    assert find_bundled("strata", "org/a", "rev1").source == "bundled:0-strata"
    assert find_bundled("otcache", "org/a", "rev1").source == "bundled:m-longer"
    assert "0-strata" in [entry.name for entry in bundled_policies()]
    with pytest.raises(DocumentNotFoundError, match="no bundled policy for this model"):
        find_bundled("strata", "org/b", "rev1")


def test_steps_choose_among_several(filled: Path) -> None:
    assert find_bundled("otcache", "org/a", "rev1", 12).source == "bundled:z-first"
    assert find_bundled("otcache", "org/a", "rev1", 20).source == "bundled:m-longer"
    assert find_bundled("otcache", "org/a", "rev1").source == "bundled:m-longer"


@pytest.mark.parametrize(
    ("model", "revision", "steps", "field", "words"),
    [
        ("org/c", "rev1", None, "model", "org/b at rev1 (12 steps); org/a at rev1 (20 steps)"),
        ("org/b", "rev9", None, "revision", "the bundled policy of org/b is for revision rev1."),
        ("org/a", "rev9", 12, "revision", "is for revision rev1, rev2."),
        ("org/a", None, None, "revision", "=None: the bundled policy of org/a is for revision"),
        ("org/a", "rev1", 50, "num_inference_steps", "(20 steps); org/a at rev1 (12 steps)"),
    ],
)
def test_not_found_says_what_there_is(
    filled: Path, model: str, revision: str | None, steps: int | None, field: str, words: str
) -> None:
    with pytest.raises(DocumentNotFoundError) as caught:
        find_bundled("otcache", model, revision, steps)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_steps_that_published_schedules_lack(passed_on: Path) -> None:
    with pytest.raises(
        DocumentNotFoundError, match=r"org/d at any revision \(12 steps\)"
    ) as caught:
        find_bundled("otcache", "org/d", None, 50)
    assert caught.value.field == "num_inference_steps"


def test_damage_is_not_passed_over(filled: Path) -> None:
    (filled / "n-second" / "policy.json").write_text("{}")
    with pytest.raises(DocumentError, match="schema"):
        bundled_policies()
