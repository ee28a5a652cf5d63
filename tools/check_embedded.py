"""Checks the embedded model: are its pictures what was asked for, and can schedules be told apart.

    python tools/check_embedded.py [--json FILE]

Prints, for the shipped weights and held-out captions: how often a small classifier, trained here on
the same procedural scenes, recovers what the caption fixes; the smoothness of the velocity in
sigma; the PSNR of runs with fewer true steps; and how much a schedule's mean PSNR moves when its
interior steps are moved by one at random, beside the gap between two methods. A few minutes on 2
CPU cores.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from otcache_policies import Schedule
from otcache_registry import find_bundled
from torch import nn
from torch.nn import functional as F

from otcache_plugin.calibration.evidence.peers import peers, policies_of
from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.outputs import generate
from otcache_plugin.evaluation.pairs import Pair
from otcache_plugin.evaluation.statistics import paired_difference
from otcache_plugin.models import scenes
from otcache_plugin.models.setups import HELD_OUT_SEEDS, ModelSetup, load_setup
from otcache_plugin.plugins.host import plugin_host

STEPS = 50
ATTRIBUTES = {
    "colour": tuple(scenes.COLOURS),
    "shape": scenes.SHAPES,
    "position": tuple(scenes.POSITIONS),
    "background": tuple(scenes.BACKGROUNDS),
}
JITTERED_BUDGET = 10


class Classifier(nn.Module):
    """Recovers what a caption fixes from a picture, one head per attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(48, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * 64, 128),
            nn.ReLU(),
        )
        self.heads = nn.ModuleList(nn.Linear(128, len(names)) for names in ATTRIBUTES.values())

    def forward(self, pictures: torch.Tensor) -> list[torch.Tensor]:
        features = self.body(pictures)
        return [head(features) for head in self.heads]


def labels(captions: list[scenes.Caption]) -> torch.Tensor:
    """Return `(N, 4)` indices of the captions' attributes."""
    rows = [
        [names.index(getattr(caption, attribute)) for attribute, names in ATTRIBUTES.items()]
        for caption in captions
    ]
    return torch.tensor(rows)


def render(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    captions = scenes.sample_captions(scenes.all_captions(), count, rng)
    pictures = torch.from_numpy(scenes.render(captions, rng).pictures).permute(0, 3, 1, 2)
    return pictures.contiguous(), labels(captions)


def train_classifier(steps: int = 1500, batch: int = 96) -> Classifier:
    """Trained with noise and blur, so that a generated picture need not be pixel-perfect."""
    torch.manual_seed(0)
    pictures, truth = render(20_000, seed=1)
    model = Classifier()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps)
    for _ in range(steps):
        chosen = torch.randint(len(pictures), (batch,))
        x = pictures[chosen]
        if torch.rand(()) < 0.5:
            x = F.avg_pool2d(x, 3, stride=1, padding=1)
        x = x + 0.04 * torch.randn_like(x)
        losses = [F.cross_entropy(out, truth[chosen, i]) for i, out in enumerate(model(x))]
        optimizer.zero_grad()
        torch.stack(losses).sum().backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def recovered(model: Classifier, pictures: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Share of the pictures whose attributes are recovered, each and all at once."""
    guessed = torch.stack([out.argmax(1) for out in model(pictures)], 1)
    right = guessed == truth
    shares = {name: right[:, i].float().mean().item() for i, name in enumerate(ATTRIBUTES)}
    return {**shares, "all": right.all(1).float().mean().item()}


@torch.no_grad()
def smoothness(setup: ModelSetup, pairs: list[Pair]) -> float:
    """Change of v over six small sigma steps against one, at fixed latents; 6 is smooth."""
    calls = []
    transformer = setup.pipe.transformer
    handle = transformer.register_forward_pre_hook(
        lambda _module, _args, kwargs: calls.append(kwargs), with_kwargs=True
    )
    generate(setup.pipe, pairs, {**setup.call_arguments, "num_inference_steps": STEPS})
    handle.remove()
    delta = 1 / STEPS / 6
    ratios = []
    for kwargs in calls[4:-10:4]:
        sigma = kwargs["timestep"]

        start, one, six = (
            transformer(**{**kwargs, "timestep": sigma - shift})[0]
            for shift in (0.0, delta, 6 * delta)
        )
        one, six = one - start, six - start
        ratios.append((six.norm() / one.norm()).item())
    return float(np.mean(ratios))


def fewer_true_steps(held_out: Evaluator) -> dict[int, float]:
    """Mean PSNR of runs with that many steps, all of them computed."""
    metric = plugin_host().metric("psnr")
    means = {}
    for steps in (8, 10, 15, 20):
        (values,) = held_out.values(Schedule.full(steps), metric)
        means[steps] = float(values.mean())
    return means


def jittered(schedule: Schedule, rng: np.random.Generator) -> Schedule:
    """Return the schedule with every interior step moved by -1, 0 or 1, still a schedule."""
    while True:
        moves = rng.integers(-1, 2, schedule.budget)
        moves[[0, -1]] = 0
        steps = np.array(schedule.computed_steps) + moves
        if np.all(np.diff(steps) > 0):
            return Schedule(steps.tolist(), schedule.num_inference_steps, schedule.look_backs)


def jitter_and_gap(setup: ModelSetup, held_out: Evaluator, count: int = 12) -> dict[str, float]:
    """Standard deviation of the mean PSNR under jitter, and MeanCache's gap to uniform."""
    stored = find_bundled("otcache", setup.origin.model, setup.origin.revision)
    schedules = peers(*policies_of(stored))
    metric = plugin_host().metric("psnr")
    uniform, meancache = (
        held_out.values(schedules[name](JITTERED_BUDGET), metric)[0]
        for name in ("uniform", "meancache")
    )
    gap = paired_difference(meancache, uniform)
    rng = np.random.default_rng(0)
    schedule = schedules["meancache"](JITTERED_BUDGET)
    means = [held_out.values(jittered(schedule, rng), metric)[0].mean() for _ in range(count)]
    return {
        "jitter_std": float(np.std(means, ddof=1)),
        "gap": gap.mean,
        "gap_low": gap.low,
        "gap_high": gap.high,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--pictures", type=int, default=256, help="generated for the classifier")
    parser.add_argument("--pairs", type=int, default=64, help="held-out pairs for the rest")
    arguments = parser.parse_args()
    setup = load_setup("embedded")
    call_arguments = {**setup.call_arguments, "num_inference_steps": STEPS}

    classifier = train_classifier()
    captions = scenes.sample_captions(
        scenes.held_out_captions(), arguments.pictures, np.random.default_rng(0)
    )
    pairs = [Pair(str(caption), HELD_OUT_SEEDS + i) for i, caption in enumerate(captions)]
    figures: dict[str, object] = {
        "pictures": len(pairs),
        "recovered_from_rendered": recovered(classifier, *render(2_000, seed=2)),
        "recovered_from_generated": recovered(
            classifier, generate(setup.pipe, pairs, call_arguments), labels(captions)
        ),
        "smoothness": smoothness(setup, setup.held_out_pairs(8)),
    }
    held_out = Evaluator(setup.pipe, setup.held_out_pairs(arguments.pairs), call_arguments)
    figures["pairs"] = arguments.pairs
    figures["fewer_true_steps_psnr"] = fewer_true_steps(held_out)
    figures["jitter"] = jitter_and_gap(setup, held_out)
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
