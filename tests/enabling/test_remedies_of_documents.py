"""What an error of a document, the Hub, a plugin or a policy that decides says to do works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import cache_dit
import pytest
from advice import Advice, Deed, then
from hub_server import HubServer
from huggingface_hub import constants
from moved_latents import MovedLatents
from otcache_policies import OTCacheError
from otcache_policies.deciding import after_blocks
from otcache_registry import read_policy
from otcache_registry.documents.names import document_folder
from otcache_registry.finding.resolving import OtherRevisionWarning
from otcache_registry.store.store import PolicyStore
from plugin_fakes import FakeEntryPoint, plugin
from tiny_documents import MODEL, REVISION, write_document
from tiny_pipelines import FLUX, euler_scheduler, make_flux, unipc_scheduler

import otcache_plugin
from otcache_plugin.enabling.documents import OtherModelWarning
from otcache_plugin.plugins.host import load_plugins
from otcache_plugin.runs.notices import RunWarning

# A document of a model's own is what the warnings are about, and some remedies are to do without.
pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{each.__module__}.{each.__name__}")
    for each in (OtherModelWarning, OtherRevisionWarning, RunWarning)
]

STEPS = 12
REPOSITORY = "alice/flux"
OWN = {"model": MODEL, "revision": REVISION}
ANOTHER = {"model": "example/another", "revision": REVISION}


@dataclass(frozen=True)
class World:
    """Where errors come from.

    Attributes:
        folder: that a document lies in.
        hub: where it is published too.
        environment: sets variables and constants.
        use: registers a policy that decides.
    """

    folder: Path
    hub: HubServer
    environment: pytest.MonkeyPatch
    use: Callable[[Any], Any]

    def store(self) -> None:
        """Have the document in the store, as if pulled from the official namespace."""
        contents = {each.name: each.read_bytes() for each in self.folder.iterdir()}
        PolicyStore().add("otcache/policies", "f" * 40, "", contents, datetime.now(UTC))


@pytest.fixture
def world(tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, use: Any) -> World:
    """One with a document of fifty steps."""
    folder = tmp_path / "policy"
    write_document(folder)
    hub.create_repo(REPOSITORY)
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)  # read once, from HF_ENDPOINT
    place = document_folder(read_policy(folder).document)
    hub.commit(REPOSITORY, {f"{place}/{each.name}": each.read_bytes() for each in folder.iterdir()})
    return World(folder, hub, monkeypatch, use)


def run(
    policy: Any = None, steps: int = STEPS, scheduler: Any = euler_scheduler, **arguments: Any
) -> Deed:
    """Enable a policy, the document's unless another is named, and call the pipeline."""

    def deed(world: World) -> None:
        pipe = make_flux(scheduler=scheduler())
        named = policy(world) if callable(policy) else policy or world.folder
        cache_dit.enable_cache(pipe, policy=named, **arguments)
        FLUX.run(pipe, num_inference_steps=steps)
        assert otcache_plugin.summary(pipe).as_planned

    return deed


DOCUMENTS = {
    "bundled": Advice(
        run("bundled:nothing"), "Bundled: ", run("bundled:z-image", steps=50, budget=15)
    ),
    "folder": Advice(run(lambda it: it.folder / "none"), "Give a folder with policy.json", run()),
    "file": Advice(
        run(lambda it: it.folder / "none"),
        "or its policy.json",
        run(lambda it: it.folder / "policy.json"),
    ),
    "path": Advice(run("ftp:policy"), "Give a folder with policy.json", run()),
    "another-model-uniform": Advice(run(**ANOTHER), "Use policy='uniform'", run("uniform")),
    "another-model-same": Advice(
        run(**ANOTHER), "say model= and revision= as the document does", run(**OWN)
    ),
    "another-model": Advice(
        run(**ANOTHER),
        "allow_other_model=True takes it all the same",
        run(**ANOTHER, allow_other_model=True),
    ),
    "another-revision": Advice(
        run(**{**OWN, "revision": "v2"}),
        "Pass allow_other_revision=True",
        run(**{**OWN, "revision": "v2"}, allow_other_revision=True),
    ),
    "model-alone": Advice(run(model=MODEL), "Pass revision= as well", run(**OWN)),
    "unknown-model": Advice(
        run("otcache"),
        "Pass model='org/name' and revision='<commit sha>'",
        then(World.store, run("otcache", **OWN)),
    ),
    "unknown-model-folder": Advice(run("otcache"), "or policy='<folder of a document>'", run()),
    "no-document": Advice(
        run("otcache", **ANOTHER), "policy='uniform', speedup=3", run("uniform", speedup=3)
    ),
    "no-document-of-the-revision": Advice(
        then(World.store, run("otcache", **{**OWN, "revision": "v2"})),
        "Pass allow_other_revision=True",
        run("otcache", **{**OWN, "revision": "v2"}, allow_other_revision=True),
    ),
    "budget": Advice(run(budget=3, steps=50), "Use budget=8 … 50", run(budget=8, steps=50)),
    "speed-up": Advice(run(speedup=20.0, steps=50), "up to 6.25", run(speedup=6.25, steps=50)),
}
"""What is said of documents."""


def on_the_hub(after: str = "") -> Deed:
    return run(f"hub:{REPOSITORY}{after}")


def offline(world: World) -> None:
    world.environment.setenv("HF_HUB_OFFLINE", "1")


def online(world: World) -> None:
    world.environment.delenv("HF_HUB_OFFLINE")


def astray(world: World) -> None:
    world.environment.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")


def back(world: World) -> None:
    world.environment.setattr(constants, "ENDPOINT", world.hub.endpoint)


HUB = {
    "name": Advice(run("hub:no name!"), "Use hub:user/name", on_the_hub()),
    "revision": Advice(on_the_hub("@"), "or leave @ out", on_the_hub()),
    "revision-main": Advice(on_the_hub("@"), "Use a branch", on_the_hub("@main")),
    "folder": Advice(on_the_hub("#"), "or leave # out", on_the_hub()),
    "offline": Advice(
        then(offline, on_the_hub()), "Unset HF_HUB_OFFLINE", then(online, on_the_hub())
    ),
    "endpoint": Advice(
        then(astray, on_the_hub()),
        "Check the connection and HF_ENDPOINT",
        then(back, on_the_hub()),
    ),
    "no-revision": Advice(
        on_the_hub("@nothing"), "Use one that its page lists, or none", on_the_hub()
    ),
}
"""What is said of the Hub."""


class MovedFeatures(MovedLatents):
    """Observes what the first block gives."""

    observes: ClassVar[str] = after_blocks(1)


def using(policy: Any, deed: Deed) -> Deed:
    """Register a policy that decides before."""
    return then(lambda world: world.use(policy), deed)


LATENTS = MovedLatents(0.01)
NAME = MovedLatents.name

DECIDING = {
    "blocks": Advice(using(LATENTS, run(NAME, executor="blocks")), "Leave executor out", run(NAME)),
    "blocks-schedule": Advice(
        using(LATENTS, run(NAME, executor="blocks")),
        "or pass a policy that gives a schedule",
        run("uniform", executor="blocks"),
    ),
    "features": Advice(
        using(MovedFeatures(0.01), run(NAME, executor="velocity")), "Leave executor out", run(NAME)
    ),
    "features-blocks": Advice(
        using(MovedFeatures(0.01), run(NAME, executor="blocks")), "Leave executor out", run(NAME)
    ),
    "budget": Advice(
        using(LATENTS, run(NAME, budget=13)), "Use budget=2 … 12", run(NAME, budget=12)
    ),
    "look-back": Advice(
        using(MovedLatents(0.01, 2), run(NAME, scheduler=unipc_scheduler)),
        "or set a FlowMatchEulerDiscreteScheduler",
        run(NAME),
    ),
}
"""What is said of policies that decide."""

ADVICE = {
    f"{kind}-{name}": advice
    for kind, table in (("document", DOCUMENTS), ("hub", HUB), ("deciding", DECIDING))
    for name, advice in table.items()
}


@pytest.mark.parametrize("name", ADVICE)
def test_what_an_error_says_to_do_works(name: str, world: World) -> None:
    ADVICE[name].require_true(world)


def registering(name: str) -> FakeEntryPoint:
    """A plugin that registers a policy of this name."""

    def otcache_register_policies(registry: Any) -> None:
        registry.register_deciding(name, lambda: LATENTS, "decides")

    module = plugin(otcache_register_policies=otcache_register_policies)
    return FakeEntryPoint(f"plugin_{name}", lambda: module, "otcache-theirs")


def test_two_plugins_of_one_name_and_how_to_choose() -> None:
    mine, theirs = registering("moved"), FakeEntryPoint("theirs", registering("moved").load, "them")
    with pytest.raises(OTCacheError, match="Uninstall one, or leave one out of OTCACHE_PLUGINS"):
        load_plugins([mine, theirs], None)
    for remedy in (load_plugins([mine], None), load_plugins([mine, theirs], mine.name)):
        assert "moved" in remedy.policies


def test_a_name_that_no_plugin_may_have() -> None:
    (broken,) = load_plugins([registering("no name")], None).broken()
    assert str(broken.error).endswith("Rename it.")
    assert "a_name" in load_plugins([registering("a_name")], None).policies
