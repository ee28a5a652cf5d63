"""Calibrate, push, and on a fresh machine `policy="otcache"` finds it by the model's revision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server import HubServer, environment

from otcache_plugin.models.embedded import FOLDER

MODEL = "maker/tiny-scenes"
PROMPTS = ("red circle left on navy", "teal square right on black", "gold ring middle on grey")
HELD_OUT = ("red square left on navy", "teal ring right on black")
SETTINGS = (
    "--steps 8 --budget-anchor 3 --budget-reference 6 --waypoints 4 --trials 5 --pairs 2 "
    "--held-out-pairs 2 --metric psnr --batch-size 2 --effort paper --search joint"
)
PROCESS = """
import json, os, sys
from unittest.mock import patch
import numpy as np, torch, cache_dit, otcache_plugin
from diffusers import DiffusionPipeline
from otcache_registry import DocumentNotFoundError
from otcache_plugin.cli.main import main

def otcache(*arguments):
    with patch.object(sys, "argv", ["otcache", *arguments]):
        try:
            main()
        except SystemExit as ended:
            return ended.code

def generate(model, revision, policy, output, variables):
    pipe = DiffusionPipeline.from_pretrained(model, revision=revision, low_cpu_mem_usage=False)
    pipe.to(torch.float32).set_progress_bar_config(disable=True)
    with patch.dict(os.environ, variables):
        try:
            cache_dit.enable_cache(pipe, policy=policy, budget=4)
        except DocumentNotFoundError as error:
            return str(error)
    call = dict(num_inference_steps=8, height=32, width=32, max_sequence_length=16)
    picture = pipe(
        "red circle left on navy", generator=torch.manual_seed(5), output_type="np", **call
    ).images
    np.save(output, picture)
    return otcache_plugin.summary(pipe).to_dict()

done = [globals()[name](*arguments) for name, *arguments in json.loads(sys.argv[1])]
print(json.dumps(done))
"""
"""Does one thing after the other, and prints what came of each."""


def otcache(*arguments: str) -> tuple[Any, ...]:
    """Run the command; what comes of it is its exit status."""
    return ("otcache", *arguments)


def generate(revision: str, policy: str, output: str, **variables: str) -> tuple[Any, ...]:
    """Generate a picture; what comes of it is the report of the run, or why there is no policy."""
    return ("generate", MODEL, revision, policy, output, variables)


class Machine:
    """A machine with a cache of its own, that knows the test's Hub."""

    def __init__(self, hub: HubServer, home: Path, token: str | None = None) -> None:
        self.home = home
        self.variables = {
            **environment(hub, home / "hf", token),
            "OTCACHE_CACHE": str(home / "otcache"),
            "OTCACHE_OFFLINE": "",
        }
        home.mkdir()

    def run(self, *work: tuple[Any, ...], **variables: str) -> list[Any]:
        """Do some work in a process there; give what came of each piece."""
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, json.dumps(work)],
            cwd=self.home,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "hf_alice" not in done.stdout + done.stderr
        found: list[Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def picture(self, name: str) -> np.ndarray:
        """A picture that was generated."""
        return np.load(self.home / name)


@pytest.mark.slow
def test_from_calibration_to_a_fresh_machine(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.add_user("maker", "hf_maker")
        hub.add_user("alice", "hf_alice")
        hub.create_repo(MODEL)
        revision = hub.commit_folder(MODEL, FOLDER)
        later = hub.commit(MODEL, {"NOTES.md": b"later than what was calibrated"})

        publisher = Machine(hub, tmp_path / "publisher", token="hf_alice")
        (publisher.home / "prompts.txt").write_text("\n".join(PROMPTS))
        (publisher.home / "held-out.txt").write_text("\n".join(HELD_OUT))
        calibrating, own, pushing = publisher.run(
            otcache(
                *("calibrate", MODEL, "--revision", revision, "--output", "policy", "--quiet"),
                *("--prompts", "prompts.txt", "--evaluation-prompts", "held-out.txt"),
                *("--call", '{"height": 32, "width": 32, "max_sequence_length": 16}'),
                *SETTINGS.split(),
            ),
            generate(revision, "./policy", "own.npy"),
            otcache("push", "policy", "--repo", "alice/policies"),
        )
        assert (calibrating, pushing) == (0, 0)

        fresh, alice = Machine(hub, tmp_path / "fresh"), {"OTCACHE_NAMESPACES": "alice"}
        hub.clear_requests()
        unnamed, found, of_another, named = fresh.run(
            generate(revision, "otcache", "unnamed.npy"),
            generate(revision, "otcache", "found.npy", **alice),
            generate(later, "otcache", "of-another.npy", **alice),
            generate(revision, "hub:alice/policies", "named.npy"),
        )
        # Who does not name alice's namespace does not get alice's policy.
        assert f"no otcache policy for revision {revision}" in unnamed
        assert str(found["document"]).startswith("hub:alice/policies@")
        assert (found["model"], found["revision"]) == (MODEL, revision)
        assert found["as_planned"]
        assert found["computed_steps"] == own["computed_steps"]
        np.testing.assert_array_equal(fresh.picture("found.npy"), publisher.picture("own.npy"))
        # A document of this revision says nothing of another one's weights.
        assert f"no otcache policy for revision {later}" in of_another
        assert revision in of_another
        assert named["document"] == found["document"]
        assert {each.method for each in hub.requests} == {"GET", "HEAD"}
    # Without the Hub, from the store.
    (offline,) = fresh.run(
        generate(revision, "otcache", "offline.npy"), HF_HUB_OFFLINE="1", **alice
    )
    assert offline["document"] == found["document"]
    np.testing.assert_array_equal(fresh.picture("offline.npy"), publisher.picture("own.npy"))
