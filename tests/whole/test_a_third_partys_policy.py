"""A third party's calibrated policy goes all the way without a change in this repository."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hub_server import HubServer, environment
from installed_example import path_with

SETTINGS = "--steps 12 --pairs 4 --held-out-pairs 3 --batch-size 4 --seed 1 --quiet"
POLICY = "hub:alice/policies"
COMPARE = "--budgets 4,6 --pairs 3 --rounds 1 --document ./policy --json --quiet"
CHOSEN = ("--set", "powers=[1, 1.5, 2.5]", "--set", "budgets=[4, 6]")

PROCESS = """
import io, json, sys
from contextlib import redirect_stdout
from unittest.mock import patch

import cache_dit, otcache_plugin, torch
from otcache_plugin.cli.main import main

def otcache(*arguments):
    out = io.StringIO()
    with patch.object(sys, "argv", ["otcache", *arguments]), redirect_stdout(out):
        try:
            main()
        except SystemExit as ended:
            assert not ended.code, arguments
    return out.getvalue()

def run(policy):
    pipe = otcache_plugin.load_exact_flow_pipeline()
    try:
        cache_dit.enable_cache(pipe, policy=policy, budget=6)
    except LookupError as error:
        return str(error)
    prompt = pipe.transformer.captions[0]
    pipe(prompt, num_inference_steps=12, generator=torch.manual_seed(0), output_type="pt")
    return otcache_plugin.summary(pipe).to_dict()

work = json.loads(sys.argv[1])
print(json.dumps([globals()[name](*arguments) for name, *arguments in work]))
"""
"""Does one thing after the other, and prints what came of each."""


@dataclass(frozen=True)
class Machine:
    """A machine with a cache of its own, that knows the test's Hub."""

    hub: HubServer
    home: Path
    token: str | None = None
    path: str | None = None

    def do(self, *work: tuple[str, ...]) -> list[Any]:
        """Do some work in a process there; give what came of each piece."""
        self.home.mkdir()
        own = {"OTCACHE_CACHE": str(self.home / "otcache"), "OTCACHE_OFFLINE": ""}
        path = {} if self.path is None else {"PYTHONPATH": self.path}
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, json.dumps(work)],
            cwd=self.home,
            env={**environment(self.hub, self.home / "hf", self.token), **own, **path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout.splitlines()[-1])
        return found


@pytest.mark.slow
def test_from_calibrating_to_enabling(installed_example: Path, tmp_path: Path) -> None:
    installed = path_with(installed_example)
    calibrate = ("otcache", "calibrate", "exact-flow", "--policy", "front_loaded")
    calibrate = (*calibrate, *SETTINGS.split(), *CHOSEN, "--output", "policy")
    with HubServer() as hub:
        hub.add_user("alice", "hf_alice")
        maker = Machine(hub, tmp_path / "maker", "hf_alice", installed)
        found = maker.do(
            ("otcache", "plugins", "front_loaded", "--json"),
            (*calibrate, "--dry-run", "--json"),
            calibrate,
            ("otcache", "show", "./policy", "--json"),
            ("otcache", "verify", "./policy", "--replay", "3", "--json", "--quiet"),
            ("otcache", "compare", "exact-flow", "--methods", "front_loaded", *COMPARE.split()),
            ("otcache", "push", "policy", "--repo", "alice/policies"),
        )
        listed, plan, _, shown, verified, compared = map(_json, found[:6])
        document = json.loads((maker.home / "policy" / "policy.json").read_text())
        # Another one gets it: used with the package, and known without.
        (report,) = Machine(hub, tmp_path / "user", path=installed).do(("run", POLICY))
        stranger = Machine(hub, tmp_path / "stranger")
        printed, refusal = stranger.do(("otcache", "show", POLICY), ("run", POLICY))

    assert listed["distribution"] == "otcache-front-loaded 0.1.0"
    assert [option["name"] for option in listed["options"]] == ["powers", "budgets"]
    # Three powers at two budgets; fewer steps, uniform and the policy on held-out pairs.
    assert [(each["stage"], each["transformer_calls"]) for each in plan["stages"]] == [
        ("full runs to compare with", 12),
        ("choosing the power", 3 * (4 + 6)),
        # Nine tenths of it is usually computed: runs that begin alike are begun once.
        ("evidence on held-out pairs", round(0.9 * (12 + 3 * (4 + 6)))),
    ]
    assert document["policy"] == {"name": "front_loaded", "distribution": "otcache-front-loaded"}
    power = document["parameters"]["power"]
    assert power in (1, 1.5, 2.5)
    assert document["budgets"] == {"smallest": 2, "largest": 12, "calibrated": []}
    assert document["calibration"]["settings"]["powers"] == [1, 1.5, 2.5]
    assert [(row["budget"], row["policy"], row["metric"]) for row in document["evidence"]] == [
        (budget, policy, metric)
        for budget in (4, 6)
        for policy in ("fewer-steps", "uniform", "front_loaded")
        for metric in ("psnr", "ssim")
    ]
    assert document["tables_sha256"] is None
    figures = {path.name for path in (maker.home / "policy" / "figures").iterdir()}
    assert figures == {"schedules.png", "gaps.png", "quality.png", "differences.png"}
    assert shown["parameters"] == document["parameters"]
    assert verified["ok"]
    assert (compared["num_inference_steps"], compared["not_run"]) == (12, [])
    assert [(row["method"], row["setting"]) for row in compared["rows"]] == [
        ("front_loaded", "4 steps"),
        ("front_loaded", "6 steps"),
    ]
    cost = document["calibration"]["denoising_steps"]
    assert [row["calibration_steps"] for row in compared["rows"]] == [cost, cost]
    assert (report["policy"], report["as_planned"]) == ("front_loaded", True)
    assert len(report["computed_steps"]) == 6
    assert report["computed_steps"][:2] == [0, max(1, round(11 * (1 / 5) ** power))]
    assert "front_loaded" in printed
    assert "Install otcache-front-loaded" in refusal


def _json(text: str) -> Any:
    return json.loads(text) if text.startswith("{") else None
