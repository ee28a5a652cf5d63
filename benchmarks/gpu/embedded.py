"""The trained model that ships with the package, on this device against the CPU."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cache_dit
import torch

import otcache_plugin
from otcache_plugin.calibration.calibrate import calibrate, manifest_of
from otcache_plugin.calibration.measuring.measurements import Measurements, Share
from otcache_plugin.calibration.measuring.pools import LocalPool
from otcache_plugin.calibration.measuring.workspace import SCRATCH_FOLDER, Workspace
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.calibration.stages import Unwatched
from otcache_plugin.calibration.task import calibration_task
from otcache_plugin.evaluation.outputs import generate
from otcache_plugin.models.setups import load_setup

from ..metrics import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otcache_plugin.models.setups import ModelSetup

    from .journal import Journal

MODEL = "embedded"
STEPS = 50
BUDGET = 10


@dataclass(frozen=True)
class Embedded:
    """How the embedded model is measured.

    Attributes:
        device: to compare with the CPU.
        pairs: pictures.
        settings: of the calibration by PSNR.
        options: of its calibrator.
        lpips_settings: of the one by LPIPS.
    """

    device: torch.device
    pairs: int
    settings: MeasuringSettings
    options: Mapping[str, object]
    lpips_settings: MeasuringSettings

    def measure(self, journal: Journal) -> None:
        """Measure all rows of this model."""
        for name, budget in (("full", None), (f"otcache {BUDGET}", BUDGET)):
            journal.attempt(
                f"{MODEL}/pictures {name}",
                self._about("pictures in float32 against the CPU's", budget=budget),
                lambda budget=budget: self.pictures(budget),  # type: ignore[misc]
                estimate=10.0,
            )
        journal.attempt(
            f"{MODEL}/calibration",
            self._about("a whole calibration on the device, in small"),
            lambda: self.calibration(self.settings, self.options),
            estimate=40.0,
        )
        about = self._about(f"a quick calibration by LPIPS, {self.lpips_settings.pairs} pairs")
        name = f"{MODEL}/calibration by LPIPS"
        if (home := os.environ.get(VARIABLE)) is None:
            journal.skip(name, about, f"{VARIABLE} names no folder with LPIPS's weights")
        else:
            os.environ["TORCH_HOME"] = home
            quick = {"effort": "quick"}
            journal.attempt(
                name, about, lambda: self.calibration(self.lpips_settings, quick), estimate=40.0
            )

    def _about(self, what: str, **config: Any) -> dict[str, Any]:
        return {"model": MODEL, "what": what, "config": {"pairs": self.pairs, **config}}

    def pictures(self, budget: int | None) -> Mapping[str, Any]:
        """Compare the device's pictures with the CPU's, float32 throughout."""
        before = torch.backends.cudnn.allow_tf32
        torch.backends.cudnn.allow_tf32 = False
        try:
            expected, facts, cpu_seconds = self._generate(torch.device("cpu"), budget)
            self._generate(self.device, budget)
            found, facts, seconds = self._generate(self.device, budget)
        finally:
            torch.backends.cudnn.allow_tf32 = before
        difference = (found - expected).double()
        mean_square = difference.square().mean()
        return {
            "max_abs_difference": float(difference.abs().max()),
            "psnr_db": float(-10 * mean_square.log10()) if mean_square > 0 else None,
            "device_seconds": seconds,
            "cpu_seconds": cpu_seconds,
            **facts,
        }

    def _generate(
        self, device: torch.device, budget: int | None
    ) -> tuple[torch.Tensor, dict[str, Any], float]:
        setup = _setup_on(device)
        if budget is not None:
            cache_dit.enable_cache(setup.pipe, policy="otcache", budget=budget)
        began = time.perf_counter()
        pairs = setup.held_out_pairs(self.pairs)
        pictures = generate(setup.pipe, pairs, {"num_inference_steps": STEPS}, self.pairs)
        seconds = time.perf_counter() - began
        if budget is None:
            return pictures, {}, seconds
        report = otcache_plugin.summary(setup.pipe)
        facts = {"computed_steps": len(report.computed_steps), "as_planned": report.as_planned}
        return pictures, facts, seconds

    def calibration(
        self, settings: MeasuringSettings, options: Mapping[str, object]
    ) -> Mapping[str, Any]:
        """Calibrate on the device, and return what the document says of it."""
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder) / "work"
            began = time.perf_counter()
            pool = LocalPool(lambda: _setup_on(self.device), settings, work / SCRATCH_FOLDER)
            manifest = manifest_of(pool.facts, settings)
            with pool, Workspace(work, manifest, []) as workspace:
                measurements = Measurements(workspace, pool, settings, Share())
                task = calibration_task("otcache", options, settings.num_inference_steps)
                document = calibrate(task, pool.facts, measurements, Unwatched()).document
            seconds = time.perf_counter() - began
        about = document.calibration
        assert about is not None
        return {
            "calibration_seconds": seconds,
            "device": about.device,
            "metric": about.metric,
            "evaluations": about.evaluations,
            "transformer_calls": about.transformer_calls,
            "denoising_steps": about.denoising_steps,
            "evidence_rows": len(document.evidence),
        }


def _setup_on(device: torch.device) -> ModelSetup:
    setup = load_setup(MODEL)
    return replace(setup, pipe=setup.pipe.to(device))


def small_settings(*, toy: bool) -> MeasuringSettings:
    """Return settings of a calibration that takes seconds."""
    return MeasuringSettings(
        num_inference_steps=6 if toy else 20,
        metric="psnr",
        pairs=1 if toy else 4,
        held_out_pairs=2,
        batch_size=4,
    )


def lpips_settings(*, toy: bool) -> MeasuringSettings:
    """Return settings of a calibration by LPIPS that takes seconds."""
    return MeasuringSettings(
        num_inference_steps=22 if toy else 50,
        metric="lpips",
        pairs=2 if toy else 32,
        held_out_pairs=2 if toy else 16,
        batch_size=2 if toy else 16,
    )


def small_options(*, toy: bool) -> Mapping[str, object]:
    """Return the policy's options of a calibration that takes seconds."""
    return {
        "effort": "paper",
        "search": "joint",
        "budget_reference": 4 if toy else 8,
        "budget_anchor": 2 if toy else 4,
        "waypoints": (),
        "trials": 2 if toy else 10,
        "patience": 5,
    }
