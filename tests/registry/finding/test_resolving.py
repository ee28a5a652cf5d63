"""The document for a model revision: which one is taken, in which order, and what is said of it."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import Fault, HubServer
from hub_world import (
    EXACT,
    MODEL,
    OFFICIAL,
    REVISION,
    client_of,
    created,
    document_of,
    publish,
    write,
)
from otcache_registry import (
    DocumentError,
    DocumentNotFoundError,
    PolicyDocument,
    PolicyIdentity,
    ServedBudgets,
)
from otcache_registry.documents import bundled
from otcache_registry.documents.names import document_folder
from otcache_registry.finding.nearest import RunSetup
from otcache_registry.finding.resolving import OtherRevisionWarning, Resolved, resolve
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.fetching import pull
from otcache_registry.store.lock_record import LockRecord
from otcache_registry.store.store import PolicyStore

OTHER_REVISION = "f" * 40
NAMESPACES = ("otcache", "bob")


class World:
    """A Hub, a store and a folder of bundled documents, each empty to begin with."""

    def __init__(self, hub: HubServer, folder: Path) -> None:
        self.hub = hub
        self.folder = folder
        self.bundled = folder / "bundled"
        self.store = PolicyStore(folder / "store")
        self.made = 0

    def bundle(self, document: PolicyDocument, name: str = "one") -> None:
        write(self.bundled / name, document)

    def publish(self, document: PolicyDocument, repository: str = OFFICIAL) -> str:
        self.made += 1
        return publish(self.hub, self.folder / f"published-{self.made}", document, repository)

    def keep(self, document: PolicyDocument, repository: str = "bob/kept") -> None:
        """Put a document into the store, from a repository that is gone afterwards."""
        self.publish(document, repository)
        pull(client_of(self.hub), self.store, repository, folder=document_folder(document))
        self.hub.delete_repo(repository)
        self.hub.clear_requests()

    def resolve(self, revision: str | None = REVISION, **changes: Any) -> Resolved:
        arguments: dict[str, Any] = {
            "policies": ("otcache",),
            "model": MODEL,
            "store": self.store,
            "client_factory": self.client,
            "namespaces": NAMESPACES,
            "offline": False,
            "remember": 0,
        }
        return resolve(revision=revision, **{**arguments, **changes})

    def client(self) -> HubClient:
        return client_of(self.hub)


@pytest.fixture
def world(hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    world = World(hub, tmp_path)
    monkeypatch.setattr(bundled, "BUNDLED_FOLDER", world.bundled)
    return world


def source_of(found: Resolved) -> str:
    """Where a document came from: bundled, or a repository."""
    return found.policy.source.removeprefix("hub:").partition("@")[0]


# Which one is taken.


def test_package_then_store_then_hub(world: World) -> None:
    with pytest.raises(DocumentNotFoundError):
        world.resolve()
    world.publish(document_of(), "bob/mine")
    assert source_of(world.resolve()).startswith("bob/mine")
    world.store = PolicyStore(world.folder / "another")
    world.publish(document_of(), OFFICIAL)
    assert source_of(world.resolve()).startswith(OFFICIAL)
    world.store = PolicyStore(world.folder / "a third")
    world.keep(document_of())
    found = world.resolve()
    assert source_of(found).startswith("bob/kept")
    assert found.policy.document == document_of()
    assert found.policy.tables["velocity_errors"].shape[:2] == (50, 50)
    assert found.notes == ()
    world.bundle(document_of())
    assert source_of(world.resolve()) == "bundled:one"


def test_of_the_store_one_namespace_after_the_other(world: World) -> None:
    world.keep(document_of(), "otcache/kept")
    world.keep(document_of(), "bob/kept")
    assert source_of(world.resolve()).startswith("otcache/kept")
    assert source_of(world.resolve(namespaces=("bob", "otcache"))).startswith("bob/kept")


STRATA = PolicyIdentity(name="strata", distribution="otcache-strata")
MEANCACHE = PolicyIdentity(name="meancache", distribution="otcache-plugin")


def test_no_policy_finds_anothers_document(world: World) -> None:
    for place in (world.bundle, world.publish, world.keep):
        place(document_of())
    assert source_of(world.resolve()) == "bundled:one"
    with pytest.raises(DocumentNotFoundError, match="no strata policy for revision") as caught:
        world.resolve(policies=("strata",))
    assert OFFICIAL not in str(caught.value)
    for place, source in (
        (world.publish, OFFICIAL),
        (world.keep, "bob/kept"),
        (world.bundle, "bundled:one"),
    ):
        world.store = PolicyStore(world.folder / source.replace("/", "-"))
        place(document_of(policy=STRATA))
        found = world.resolve(policies=("strata",))
        assert source_of(found).startswith(source)
        assert found.policy.document.policy == STRATA


def test_a_policys_own_documents_go_before_those_it_can_be_made_from(world: World) -> None:
    both = ("meancache", "otcache")
    world.keep(document_of())
    assert source_of(world.resolve(policies=both)).startswith("bob/kept")
    world.publish(document_of(policy=MEANCACHE))
    assert source_of(world.resolve(policies=both)).startswith(OFFICIAL)
    assert source_of(world.resolve(policies=("otcache",))).startswith("bob/kept")
    # The revision counts more.
    world.keep(document_of(revision=OTHER_REVISION))
    found = world.resolve(OTHER_REVISION, policies=both)
    assert found.policy.document.policy.name == "otcache"


def test_of_other_revisions_too_the_policys_own_go_first(world: World) -> None:
    world.bundle(created(document_of(policy=MEANCACHE, revision=OTHER_REVISION), 1))
    world.keep(created(document_of(revision="e" * 40), 2))
    with pytest.warns(OtherRevisionWarning):
        found = world.resolve(policies=("meancache", "otcache"), allow_other_revision=True)
    assert source_of(found) == "bundled:one"
    with pytest.raises(DocumentNotFoundError, match="no meancache policy for revision"):
        world.resolve(policies=("meancache", "otcache"))


def test_what_was_found_on_the_hub_is_kept(world: World) -> None:
    commit = world.publish(document_of())
    first = world.resolve()
    (record,) = world.store.records()
    assert (record.repository, record.commit) == (OFFICIAL, commit)
    world.hub.clear_requests()
    again = world.resolve()
    assert again.policy.source == first.policy.source
    assert world.hub.requests == []


@pytest.mark.parametrize("place", ["kept", "bundled"])
def test_the_hub_is_not_asked_when_it_is_at_hand(world: World, place: str) -> None:
    world.keep(document_of()) if place == "kept" else world.bundle(document_of())
    world.resolve(client_factory=None)
    assert world.hub.requests == []


def test_only_these_namespaces(world: World) -> None:
    world.publish(document_of(), "alice/mine")
    with pytest.raises(DocumentNotFoundError):
        world.resolve()
    assert source_of(world.resolve(namespaces=("otcache", "alice"))).startswith("alice/mine")


@pytest.mark.parametrize(
    ("place", "days"),
    [
        ("kept", [4.0, 5.0, 4.0, 4.0]),
        ("bundled", [3.0, 2.0, 2.0, 2.0]),
        ("hub", [4.0, 5.0, 5.0, 5.0]),  # What was fetched is at hand then.
    ],
)
def test_the_same_pipeline_then_what_came_last(world: World, place: str, days: list[float]) -> None:
    """Last by the store's own order, or the Hub's clock; bundled ones go by their names.

    Whatever day they say that they were calibrated on.
    """

    def variant(pipeline: str, day: int) -> PolicyDocument:
        sampling = EXACT.document.sampling
        update = {"pipeline": pipeline, "guidance": {"day": float(day)}}
        return created(document_of(sampling=sampling.model_copy(update=update)), day)

    documents = [variant("A", 2), variant("A", 5), variant("B", 3), variant("B", 4)]
    for number, document in enumerate(documents):
        if place == "kept":
            world.keep(document)
        elif place == "bundled":
            world.bundle(document, str(number))
        else:
            world.publish(document, f"otcache/{number}")

    def day(pipeline: str | None) -> float:
        near = None if pipeline is None else RunSetup(pipeline)
        return world.resolve(near=near).policy.document.sampling.guidance["day"]

    assert [day("B"), day("A"), day("C"), day(None)] == days


def of_steps(steps: int, day: int) -> PolicyDocument:
    """A document of runs of so many steps, calibrated on a day of January."""
    update = {"num_inference_steps": steps, "sigmas": tuple(np.linspace(1.0, 0.0, steps + 1))}
    sampling = EXACT.document.sampling.model_copy(update=update)
    budgets = ServedBudgets(smallest=2, largest=steps)
    made = document_of(sampling=sampling, budgets=budgets, default_budget=8, evidence=())
    return created(made, day)


@pytest.mark.parametrize("place", ["kept", "bundled", "hub", "kept and bundled"])
def test_the_nearest_to_the_usual_run_and_the_others(world: World, place: str) -> None:
    """Not the newest, nor the first place; the others come along, to be chosen from at a run."""
    put = {
        "kept": (world.keep,) * 3,
        "bundled": tuple(partial(world.bundle, name=name) for name in "abc"),
        "hub": (world.publish,) * 3,
        "kept and bundled": (world.bundle, world.keep, world.keep),
    }[place]
    documents = {steps: of_steps(steps, day) for day, steps in enumerate((50, 28, 16), 1)}
    for put_one, document in zip(put, documents.values(), strict=True):
        put_one(document)
    pipeline = EXACT.document.sampling.pipeline
    for steps, order in ((50, [50, 28, 16]), (28, [28, 16, 50]), (20, [16, 28, 50])):
        found = world.resolve(near=RunSetup(pipeline, steps))
        assert found.policy.document == documents[order[0]]
        others = [each.document.num_inference_steps for each in found.others]
        assert others == order[1:]
        assert [each.load().document.num_inference_steps for each in found.others] == others
    assert len(world.store.records()) == {"bundled": 0, "kept and bundled": 2}.get(place, 3)


def test_of_those_on_the_hub_only_the_nearest_is_fetched(world: World) -> None:
    for steps in (50, 28, 16):
        world.publish(of_steps(steps, 1))
    near = RunSetup(EXACT.document.sampling.pipeline, 28)
    found = world.resolve(near=near)
    assert found.policy.document == of_steps(28, 1)
    assert len(world.store.records()) == 1
    found.others[0].load()
    assert len(world.store.records()) == 2


def test_the_same_pipeline_on_the_hub_before_another_at_hand(world: World) -> None:
    sampling = EXACT.document.sampling
    world.bundle(document_of())
    world.publish(document_of(sampling=sampling.model_copy(update={"pipeline": "B"})))
    assert source_of(world.resolve(near=RunSetup(sampling.pipeline))) == "bundled:one"
    assert world.hub.requests == []
    found = world.resolve(near=RunSetup("C"))
    assert (source_of(found), found.notes) == ("bundled:one", ())
    assert source_of(world.resolve(near=RunSetup("B"))).startswith(OFFICIAL)
    world.hub.clear_requests()
    assert source_of(world.resolve(near=RunSetup("B"))).startswith(OFFICIAL)
    assert world.hub.requests == []


def test_the_same_scheduler_goes_before_the_same_pipeline(world: World) -> None:
    """Whatever the place; those of another kind come along, for a scheduler that is replaced."""
    sampling = EXACT.document.sampling
    world.bundle(document_of())
    multistep = document_of(
        sampling=sampling.model_copy(update={"scheduler": "UniPC", "pipeline": "B"})
    )
    world.publish(multistep)
    euler = RunSetup(sampling.pipeline, scheduler=sampling.scheduler)
    assert source_of(world.resolve(near=euler)) == "bundled:one"
    assert world.hub.requests == []
    unipc = RunSetup(sampling.pipeline, scheduler="UniPC")
    found = world.resolve(near=unipc)
    assert found.policy.document == multistep
    # It has been fetched, and is chosen from what is at hand now.
    assert [each.source for each in world.resolve(near=unipc).others] == ["bundled:one"]
    assert [each.policy for each in world.resolve(near=euler).others] == ["otcache"]
    other = RunSetup("B", scheduler="DPM")
    assert world.resolve(near=other).policy.document == multistep


def test_of_one_place_the_commit_pulled_last(world: World) -> None:
    world.keep(document_of())
    world.keep(document_of(rho=2.5))
    assert world.resolve().policy.document.parameters["rho"] == 2.5


def test_exact_ones_before_those_for_any_revision(world: World) -> None:
    world.keep(document_of(revision=None))
    world.bundle(document_of(revision=None))
    world.publish(document_of(revision=None))
    world.publish(document_of(), "bob/mine")
    assert source_of(world.resolve()).startswith("bob/mine")
    found = world.resolve(OTHER_REVISION)
    assert source_of(found) == "bundled:one"
    assert found.policy.document.model.revision is None
    assert found.notes == ()


def test_for_any_revision_the_same_order(world: World) -> None:
    world.publish(document_of(revision=None), "bob/mine")
    assert source_of(world.resolve()).startswith("bob/mine")
    world.store = PolicyStore(world.folder / "another")
    world.publish(document_of(revision=None))
    assert source_of(world.resolve()).startswith(OFFICIAL)
    world.store = PolicyStore(world.folder / "a third")
    world.bundle(document_of(revision=None))
    assert source_of(world.resolve()) == "bundled:one"


def test_other_models_are_not_mixed_up(world: World) -> None:
    world.keep(document_of("example/other"))
    world.bundle(document_of("example/other", None))
    world.publish(document_of("example/other"), OFFICIAL)
    with pytest.raises(DocumentNotFoundError):
        world.resolve()
    assert source_of(world.resolve(model="example/other")).startswith("bob/kept")


# Where the revision is unknown.


def test_an_unknown_revision_takes_bundled_ones_for_any(world: World) -> None:
    world.keep(document_of())
    world.publish(document_of(revision=None))
    world.bundle(document_of())
    with pytest.raises(DocumentNotFoundError, match="it is unknown, and no policy of") as refused:
        world.resolve(None)
    assert refused.value.field == "revision"
    world.bundle(document_of(revision=None), "two")
    assert source_of(world.resolve(None)) == "bundled:two"
    assert world.hub.requests == []


# Other revisions.


def test_other_revisions_only_on_purpose(world: World) -> None:
    world.keep(created(document_of(revision="old"), 1))
    world.bundle(created(document_of(revision="bundled"), 3))
    world.publish(created(document_of(revision=OTHER_REVISION), 2))
    with pytest.raises(DocumentNotFoundError) as refused:
        world.resolve()
    text = str(refused.value)
    known = "no otcache policy for revision"
    assert f"{known} {REVISION} in the store, the package or on the Hub" in text
    for each in (
        "(revision old, 50 steps)",
        "bundled:one (revision bundled, 50 steps)",
        f"hub:{OFFICIAL}@",
        f"(revision {OTHER_REVISION}, 50 steps)",
    ):
        assert each in text
    assert text.endswith("Use a policy that needs no document, or calibrate one.")
    with pytest.warns(OtherRevisionWarning, match=f"on revision bundled, not on {REVISION}"):
        found = world.resolve(allow_other_revision=True)
    assert source_of(found) == "bundled:one"


def test_the_other_revision_may_be_on_the_hub(world: World) -> None:
    world.publish(document_of(revision=OTHER_REVISION))
    with pytest.warns(OtherRevisionWarning, match=OTHER_REVISION):
        found = world.resolve(allow_other_revision=True)
    assert source_of(found).startswith(OFFICIAL)
    assert [record.revision for record in world.store.records()] == [OTHER_REVISION]


def test_no_warning_where_none_is_needed(world: World) -> None:
    world.bundle(document_of(revision=OTHER_REVISION))
    world.publish(document_of())
    assert source_of(world.resolve(allow_other_revision=True)).startswith(OFFICIAL)


def test_not_even_another_revision(world: World) -> None:
    with pytest.raises(DocumentNotFoundError, match=r"model=.*it's.*calibrate one"):
        world.resolve(allow_other_revision=True, model="example/it's")


# Without the Hub.


@pytest.mark.parametrize("revision", [REVISION, None])
def test_offline(world: World, revision: str | None) -> None:
    world.publish(document_of())
    world.bundle(document_of(revision=revision))
    found = world.resolve(offline=True)
    assert source_of(found) == "bundled:one"
    said = (
        ()
        if revision
        else ("The Hub was not asked, as requested. It may have a policy that fits better.",)
    )
    assert found.notes == said
    assert world.hub.requests == []


def test_offline_and_nothing_at_hand(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    monkeypatch.setenv("OTCACHE_OFFLINE", "1")
    world.publish(document_of())
    with pytest.raises(DocumentNotFoundError) as refused:
        world.resolve(offline=True)
    text = str(refused.value)
    known = "no otcache policy for revision"
    assert f"{known} {REVISION} in the store or the package. The Hub was not" in text
    assert "OTCACHE_OFFLINE is set" in text
    assert "on the Hub" not in text


@pytest.mark.parametrize(
    "fault",
    [
        None,
        Fault(".*", "", "drop", None),
        Fault(".*", "", "status", None, status=503),
        Fault(".*", "", "status", None, status=429, retry_after=3600),
        Fault(".*", "", "status", None, status=401),
    ],
)
def test_a_hub_that_gives_no_answer(world: World, fault: Fault | None) -> None:
    world.publish(document_of())
    if fault is None:
        world.hub.stop_listening()
    else:
        world.hub.faults.add(fault)
    with pytest.raises(DocumentNotFoundError) as refused:
        world.resolve()
    text = str(refused.value)
    assert "in the store or the package. The Hub could not be searched: " in text
    world.bundle(document_of(revision=None))
    found = world.resolve()
    assert source_of(found) == "bundled:one"
    # One that gives no answer at all is not asked for the next namespace.
    refused_one = fault is not None and fault.status == 401
    assert len(found.notes) == (len(NAMESPACES) if refused_one else 1)
    for note in found.notes:
        assert note.startswith("The Hub could not be searched: ")
        assert note.endswith("It may have a policy that fits better.")


def test_a_hub_that_fails_half_way(world: World) -> None:
    world.publish(document_of())
    world.hub.faults.add(Fault("GET", "tables", "status", None, status=500))
    world.bundle(document_of(revision=None))
    found = world.resolve()
    assert source_of(found) == "bundled:one"
    assert [note.startswith(f"hub:{OFFICIAL}@") for note in found.notes] == [True]
    assert "the Hub failed" in found.notes[0]
    assert world.store.records() == ()


def test_a_bad_document_on_the_hub_is_left_out_and_said_so(world: World) -> None:
    world.publish(document_of())
    world.hub.commit(OFFICIAL, {f"{document_folder(document_of())}/policy.json": b"{}"})
    world.publish(document_of(), "bob/mine")
    found = world.resolve()
    assert source_of(found).startswith("bob/mine")
    (note,) = found.notes
    assert note.startswith(f"hub:{OFFICIAL}@")
    assert "was left out" in note


def test_no_room_for_what_was_found(world: World) -> None:
    world.publish(document_of())
    world.store.folder.write_text("in the way")
    found = world.resolve()
    assert source_of(found).startswith(OFFICIAL)
    assert found.policy.document == document_of()
    assert found.policy.tables["velocity_errors"].shape[:2] == (50, 50)
    assert any("is used, and could not be kept" in note for note in found.notes)


def test_a_store_that_cannot_be_used_keeps_nothing_else_from_being_used(world: World) -> None:
    world.store.folder.write_text("in the way")
    world.bundle(document_of())
    assert source_of(world.resolve(client_factory=None)) == "bundled:one"


def test_what_is_pruned_while_it_is_looked_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed before a later commit was pulled, and read after it was removed."""
    world.keep(document_of())
    (stale,) = world.store.records()
    world.keep(document_of(rho=2.5))
    world.store.prune()
    find, listed = PolicyStore.find, [(stale,)]

    def listing(store: PolicyStore, model: str) -> tuple[LockRecord, ...]:
        return listed.pop() if listed else find(store, model)

    monkeypatch.setattr(PolicyStore, "find", listing)
    found = world.resolve(client_factory=None)
    assert (found.policy.document.parameters["rho"], found.notes) == (2.5, ())


# Damage.


def damage(world: World) -> None:
    (record,) = world.store.records()
    (world.store.folder / "blobs" / record.files[1].sha256).write_bytes(b"damaged")


def test_damage_is_repaired_at_the_same_commit(world: World) -> None:
    commit = world.publish(document_of())
    world.resolve()
    damage(world)
    # The repository goes on, and the document there is another one now.
    world.publish(document_of(rho=2.5))
    found = world.resolve()
    assert found.policy.document.parameters["rho"] == document_of().parameters["rho"]
    assert commit in found.policy.source
    assert found.notes == (
        f"{found.policy.source} was damaged in the store, and has been fetched again.",
    )
    (record,) = world.store.records()
    assert world.store.verify(record) == ()
    assert world.resolve().notes == ()


def test_damage_offline(world: World) -> None:
    world.publish(document_of())
    world.resolve()
    damage(world)
    with pytest.raises(DocumentNotFoundError, match="missing or damaged in the store") as refused:
        world.resolve(offline=True)
    assert "The Hub was not asked, as requested" in str(refused.value)
    world.bundle(document_of())
    found = world.resolve(offline=True)
    assert source_of(found) == "bundled:one"
    assert "missing or damaged" in found.notes[0]


def test_damage_that_nobody_can_repair(world: World) -> None:
    world.keep(document_of())
    damage(world)
    with pytest.raises(DocumentNotFoundError, match="is damaged and cannot be fetched again"):
        world.resolve()


def test_damaged_bundled_documents(world: World) -> None:
    world.bundle(document_of())
    (world.bundled / "one" / "tables.safetensors").write_bytes(b"damaged")
    world.publish(document_of())
    found = world.resolve()
    assert source_of(found).startswith(OFFICIAL)
    assert found.notes[0].startswith("bundled:one (revision 0123456789")
    (world.bundled / "one" / "policy.json").write_bytes(b"{}")
    world.store = PolicyStore(world.folder / "another")
    with pytest.raises(DocumentError):
        world.resolve()


def test_no_warnings(world: World) -> None:
    world.publish(document_of())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        world.resolve()
