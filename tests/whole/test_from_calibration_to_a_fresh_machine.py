"""Calibrate, push, and on a fresh machine `policy="otcache"` finds it by the model's revision."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hub_server import HubServer, environment

from otcache_plugin.models.embedded import FOLDER

MODEL = "maker/tiny-scenes"
PROMPTS = ("red circle left on navy", "teal square right on black", "gold ring middle on grey")
HELD_OUT = ("red square left on navy", "teal ring right on black")
SETTINGS = (
    "--steps 8 --budget-anchor 3 --budget-reference 6 --waypoints 4 --trials 5 --pairs 2 "
    "--held-out-pairs 2 --metric psnr --batch-size 2"
)
GENERATE = """
import json, sys
import numpy as np, torch, cache_dit, otcache_plugin
from diffusers import DiffusionPipeline

model, revision, policy, output = sys.argv[1:]
pipe = DiffusionPipeline.from_pretrained(model, revision=revision, low_cpu_mem_usage=False)
pipe.to(torch.float32).set_progress_bar_config(disable=True)
cache_dit.enable_cache(pipe, policy=policy, budget=4)
call = dict(num_inference_steps=8, height=32, width=32, max_sequence_length=16)
picture = pipe(
    "red circle left on navy", generator=torch.manual_seed(5), output_type="np", **call
).images
np.save(output, picture)
print(json.dumps(otcache_plugin.summary(pipe).to_dict()))
"""


class Machine:
    """A machine with a cache of its own, that knows the test's Hub."""

    def __init__(self, hub: HubServer, home: Path, token: str | None = None, **own: str) -> None:
        self.home = home
        self.variables = {
            **environment(hub, home / "hf", token),
            "OTCACHE_CACHE": str(home / "otcache"),
            "OTCACHE_OFFLINE": "",
            "OMP_NUM_THREADS": "1",
            **own,
        }
        home.mkdir(exist_ok=True)

    def run(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a module or script of Python there, to its end."""
        return subprocess.run(
            [sys.executable, *command],
            cwd=self.home,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def generate(
        self, revision: str, policy: str, name: str, **variables: str
    ) -> dict[str, object]:
        """Generate a picture into a file of that name, and give the report of the run."""
        output = str(self.home / name)
        done = self.run("-c", GENERATE, MODEL, revision, policy, output, **variables)
        assert done.returncode == 0, done.stderr
        report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return report

    def picture(self, name: str) -> np.ndarray:
        """A picture that was generated."""
        return np.load(self.home / name)


def otcache(*arguments: str) -> tuple[str, ...]:
    """The command as Python runs it."""
    return ("-c", "from otcache_plugin.cli.main import main; main()", *arguments)


def test_from_calibration_to_a_fresh_machine(tmp_path: Path) -> None:
    with HubServer() as hub:
        hub.add_user("maker", "hf_maker")
        hub.add_user("alice", "hf_alice")
        hub.create_repo(MODEL)
        revision = hub.commit_folder(MODEL, FOLDER)
        hub.commit(MODEL, {"NOTES.md": b"later than what was calibrated"})

        publisher = Machine(hub, tmp_path / "publisher", token="hf_alice")
        (publisher.home / "prompts.txt").write_text("\n".join(PROMPTS))
        (publisher.home / "held-out.txt").write_text("\n".join(HELD_OUT))
        calibrating = publisher.run(
            *otcache("calibrate", MODEL, "--revision", revision, "--output", "policy", "--quiet"),
            *("--prompts", "prompts.txt", "--evaluation-prompts", "held-out.txt"),
            *("--call", '{"height": 32, "width": 32, "max_sequence_length": 16}'),
            *SETTINGS.split(),
        )
        assert calibrating.returncode == 0, calibrating.stderr
        own = publisher.generate(revision, "./policy", "own.npy")
        pushing = publisher.run(*otcache("push", "policy", "--repo", "alice/policies"))
        assert pushing.returncode == 0, pushing.stderr
        assert "hf_alice" not in pushing.stdout + pushing.stderr

        # Who does not name alice's namespace does not get alice's policy.
        fresh = Machine(hub, tmp_path / "fresh")
        with pytest.raises(AssertionError, match="no policy for revision"):
            fresh.generate(revision, "otcache", "none.npy")
        alice = {"OTCACHE_NAMESPACES": "alice"}
        found = fresh.generate(revision, "otcache", "found.npy", **alice)
        assert str(found["document"]).startswith("hub:alice/policies@")
        assert (found["model"], found["revision"]) == (MODEL, revision)
        assert found["as_planned"]
        assert found["computed_steps"] == own["computed_steps"]
        np.testing.assert_array_equal(fresh.picture("found.npy"), publisher.picture("own.npy"))

        # A document of this revision says nothing of another one's weights.
        with pytest.raises(AssertionError, match=f"(?s)no policy for revision .*{revision}"):
            fresh.generate(hub.head(MODEL), "otcache", "none.npy", **alice)
        hub.clear_requests()
        named = fresh.generate(revision, "hub:alice/policies", "named.npy")
        assert named["document"] == found["document"]
        posted = [each for each in hub.requests if each.method not in ("GET", "HEAD")]
        assert posted == []
    # Without the Hub, from the store.
    offline = fresh.generate(revision, "otcache", "offline.npy", HF_HUB_OFFLINE="1")
    assert offline["document"] == found["document"]
    np.testing.assert_array_equal(fresh.picture("offline.npy"), publisher.picture("own.npy"))
