"""A user's own documents: saved whole, found before all others, and written by nobody else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hub_world import EXACT, MODEL, REVISION, document_of, files_of, write
from otcache_registry import DocumentError, PolicyDocument
from otcache_registry.documents import bundled
from otcache_registry.finding.nearest import RunSetup
from otcache_registry.finding.resolving import Resolved, resolve
from otcache_registry.store.errors import StoreError
from otcache_registry.store.own import OwnDocument, OwnDocuments, PlantedError
from otcache_registry.store.store import PolicyStore

NEAR = RunSetup(EXACT.document.sampling.pipeline, 50)


class World:
    """A store, and documents that are bundled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = PolicyStore(folder / "store")
        self.own = OwnDocuments(self.store.folder)
        self.made = 0

    def save(self, document: PolicyDocument) -> OwnDocument:
        self.made += 1
        folder = write(self.folder / str(self.made), document)
        return self.own.add(files_of(folder)).document

    def bundle(self, document: PolicyDocument) -> None:
        write(self.folder / "bundled" / "one", document)

    def found(self, revision: str | None = REVISION, **changes: Any) -> Resolved:
        def nobody() -> Any:
            raise AssertionError("the Hub is not to be asked")

        return resolve(
            ("otcache",),
            MODEL,
            revision,
            store=self.store,
            client_factory=nobody,
            namespaces=("otcache",),
            offline=True,
            near=NEAR,
            **changes,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", tmp_path / "bundled")
    return World(tmp_path)


def test_all_of_it_is_there(world: World) -> None:
    own = world.save(document_of())
    assert files_of(own.path) == files_of(world.folder / "1")
    assert world.own.of(MODEL).documents == (own,)
    assert world.own.of("example/other").documents == ()
    assert (own.policy.document, own.policy.source) == (document_of(), str(own.path))


def test_it_goes_before_a_bundled_one_as_near(world: World) -> None:
    world.bundle(document_of(rho=2.5))
    assert world.found().policy.source == "bundled:one"
    own = world.save(document_of())
    found = world.found()
    assert (found.policy.source, found.notes) == (str(own.path), ())
    assert [each.source for each in found.others] == ["bundled:one"]


def test_a_nearer_one_goes_before_it(world: World) -> None:
    """Of what is at hand a run follows the document nearest to it, wherever that is."""
    world.bundle(document_of())
    sampling = EXACT.document.sampling
    world.save(document_of(sampling=sampling.model_copy(update={"pipeline": "OtherPipeline"})))
    assert world.found().policy.source == "bundled:one"


def test_one_for_any_revision_where_that_is_unknown(world: World) -> None:
    world.bundle(document_of(revision=None))
    assert world.found(None).policy.source == "bundled:one"
    own = world.save(document_of(revision=None))
    assert world.found(None).policy.source == str(own.path)


def test_one_of_the_same_set_up_takes_its_place(world: World) -> None:
    first = world.save(document_of())
    assert world.own.add(files_of(world.folder / "1")).new is False
    other = world.save(document_of(revision="f" * 40))
    second = world.save(document_of(rho=2.5))
    assert not first.path.exists()
    assert world.own.of(MODEL).documents == (second, other)
    assert world.found().policy.document.parameters["rho"] == 2.5


def given_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a file or folder another user's."""
    if os.geteuid() == 0:
        os.chown(path, 65534, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)


@pytest.mark.parametrize("name", ["", "policy.json", "tables.safetensors"])
@pytest.mark.parametrize("how", ["another's", "open to a group", "open to all", "a link"])
def test_what_others_can_have_written_is_not_found(
    world: World, name: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.bundle(document_of(rho=2.5))
    own = world.save(document_of())
    path = own.path / name
    if how == "another's":
        given_away(path, monkeypatch)
    elif how == "a link":
        elsewhere = world.folder / "elsewhere"
        path.rename(elsewhere)
        path.symlink_to(elsewhere)
    else:
        path.chmod(path.stat().st_mode | (0o020 if how == "open to a group" else 0o002))
    found = world.found()
    assert found.policy.source == "bundled:one"
    (note,) = found.notes
    assert note.startswith(f"{own.path} was left out: ")
    listed = world.own.all()
    assert (listed.documents, list(listed.refused)) == ((), [own.path])


def test_a_planted_one_can_be_saved_by_who_looked_at_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = world.save(document_of())
    planted.path.chmod(0o777)
    with pytest.raises(PlantedError, match=r"others may write to it, by its mode 777.*store add"):
        raise world.own.of(MODEL).refused[planted.path]
    mine = world.own.add(files_of(planted.path)).document
    assert world.found().policy.source == str(mine.path) != str(planted.path)


def test_a_document_that_was_moved_to_another_model(world: World) -> None:
    """Whoever may rename in a shared folder cannot make one model's document another's."""
    world.bundle(document_of(rho=2.5))
    other = world.save(document_of("example/other", "1" * 40))
    home = world.own.folder / "example_2fmodel"
    home.mkdir()
    other.path.rename(home / other.path.name)
    found = world.found()
    assert found.policy.source == "bundled:one"
    assert "of example/other, whose documents lie elsewhere" in found.notes[0]


def test_a_damaged_one_is_named_and_removed(world: World) -> None:
    own = world.save(document_of())
    (own.path / "tables.safetensors").unlink()
    (refusal,) = world.own.all().refused.values()
    assert isinstance(refusal, DocumentError)
    removed = world.own.remove([own.path])
    assert (removed.own, own.path.exists()) == ((str(own.path),), False)
    assert world.own.all().refused == {}


def test_what_a_user_writes_in_a_store_of_a_group_is_theirs(world: World) -> None:
    """The folder of a model is shared, so that others can save theirs; the documents are not."""
    world.store.folder.mkdir()
    world.store.folder.chmod(0o2775)
    before = os.umask(0o002)
    try:
        own = world.save(document_of())
    finally:
        os.umask(before)
    assert own.path.parent.stat().st_mode & 0o7777 == 0o2775
    for path in (own.path, *own.path.rglob("*")):
        assert path.stat().st_mode & 0o022 == 0
    assert world.found().policy.source == str(own.path)


def test_names_that_stand_for_none(world: World) -> None:
    own = world.save(document_of())
    assert world.own.named(str(own.path)) == own.path
    for text in (str(own.path.parent), str(own.path / "figures"), "hub:alice/name", "/", ""):
        assert world.own.named(text) is None


def test_a_folder_in_the_way(world: World) -> None:
    world.store.folder.parent.mkdir(exist_ok=True)
    world.store.folder.write_text("a file")
    with pytest.raises(StoreError, match="OTCACHE_CACHE"):
        world.save(document_of())


def test_a_killed_writers_leftovers(world: World) -> None:
    world.save(document_of())
    scratch = world.store.folder / "temporary" / "own" / "figures"
    scratch.mkdir(parents=True)
    (scratch / "gaps.png").write_bytes(b"half")
    assert world.store.prune().files == ("temporary/own/figures/gaps.png",)
    second = world.save(document_of(rho=2.5))
    assert not scratch.parent.exists()
    assert world.own.all().documents == (second,)
