"""The built-in policies, executors and metrics, registered through anyone else's hooks.

What they are is named by its module, so that listing them imports none of it.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from otcache_plugin.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from otcache_plugin.plugins import (
        ExecutorRegistry,
        Metric,
        MetricRegistry,
        Policy,
        PolicyRegistry,
    )


@hookimpl
def otcache_register_policies(registry: PolicyRegistry) -> None:
    """Register otcache, its peers and uniform."""
    _register_recorded(registry)
    _register_searched(registry)
    _register_deciding(registry)
    registry.register_uncalibrated(
        "uniform", _uniform, "evenly spaced steps, look-back 2; needs no calibration"
    )


def _register_recorded(registry: PolicyRegistry) -> None:
    """Register what rests on recorded full runs, or on segments that are cached alone."""
    registry.register_calibrated(
        "otcache",
        parameters=partial(_imported, "parameters.otcache", "OTCacheParameters"),
        make=_later("parameters.otcache", "make"),
        description="transport between a searched anchor and a graph reference (arXiv 2606.31026)",
        describe=_later("parameters.otcache_details", "describe"),
        calibrator=_later("calibration.otcache", "OTCacheCalibrator"),
    )
    registry.register_calibrated(
        "meancache",
        parameters=partial(_imported, "parameters.meancache", "MeanCacheParameters"),
        make=_later("parameters.meancache", "make"),
        description="budgeted shortest path over the calibrated edge table (arXiv 2601.19961)",
        converts={"otcache": _later("parameters.meancache", "from_otcache")},
        calibrator=_later("calibration.meancache", "MeanCacheCalibrator"),
    )
    registry.register_calibrated(
        "gram",
        parameters=partial(_imported, "parameters.gram", "GramParameters"),
        make=_later("parameters.gram", "make"),
        description="minimises the quadratic form of recorded velocities; needs a recording alone",
        describe=_later("parameters.gram", "describe"),
        calibrator=_later("calibration.gram", "GramCalibrator"),
    )
    registry.register_calibrated(
        "lemica",
        parameters=partial(_imported, "parameters.lemica", "LeMiCaParameters"),
        make=_later("parameters.lemica", "make"),
        description="lexicographic minimax path over outcome-aware edges (arXiv 2511.00090)",
        describe=_later("parameters.lemica", "describe"),
        calibrator=_later("calibration.lemica", "LeMiCaCalibrator"),
    )


def _register_searched(registry: PolicyRegistry) -> None:
    """Register what is searched, or trained, by what whole schedules lose."""
    registry.register_calibrated(
        "recache",
        parameters=partial(_imported, "parameters.recache", "ReCacheParameters"),
        make=_later("parameters.recache", "make"),
        description="a network trained by REINFORCE scores steps for a budget (arXiv 2606.06060)",
        describe=_later("parameters.recache", "describe"),
        calibrator=_later("calibration.recache", "ReCacheCalibrator"),
    )
    registry.register_calibrated(
        "budcache",
        parameters=partial(_imported, "parameters.searched", "SearchedParameters"),
        make=partial(_later("parameters.searched", "make"), "budcache"),
        description="annealing and descent at each budget, latents' error (arXiv 2606.13496)",
        describe=_later("parameters.searched", "describe"),
        calibrator=_later("calibration.budcache", "BudCacheCalibrator"),
    )
    registry.register_calibrated(
        "direct",
        parameters=partial(_imported, "parameters.searched", "SearchedParameters"),
        make=partial(_later("parameters.searched", "make"), "direct"),
        description="a search on the real model at each budget, by the metric that is asked for",
        describe=_later("parameters.searched", "describe"),
        calibrator=_later("calibration.direct", "DirectCalibrator"),
    )


def _register_deciding(registry: PolicyRegistry) -> None:
    """Register what decides at every step."""
    registry.register_calibrated(
        "teacache",
        parameters=partial(_imported, "parameters.thresholds", "TeaCacheParameters"),
        make=_later("parameters.thresholds", "make_teacache"),
        description="decides at every step by the first block's modulated input (arXiv 2411.19108)",
        describe=_later("parameters.thresholds", "describe"),
        calibrator=_later("calibration.teacache", "TeaCacheCalibrator"),
    )
    registry.register_calibrated(
        "dicache",
        parameters=partial(_imported, "parameters.thresholds", "DiCacheParameters"),
        make=_later("parameters.thresholds", "make_dicache"),
        description="decides at every step by what the first blocks give (arXiv 2508.17356)",
        describe=_later("parameters.thresholds", "describe"),
        calibrator=_later("calibration.dicache", "DiCacheCalibrator"),
    )


def _imported(module: str, name: str) -> Any:
    """Return what a module of the plugin has under a name."""
    return getattr(import_module(f"otcache_plugin.{module}"), name)


def _later(module: str, name: str) -> Callable[..., Any]:
    """Return a function or class of a module, which is imported when it is first called."""

    def call(*arguments: Any) -> Any:
        return _imported(module, name)(*arguments)

    return call


def _uniform(num_inference_steps: int) -> Policy:
    from otcache_policies import UniformPolicy

    return UniformPolicy(num_inference_steps, look_back=2)


@hookimpl
def otcache_register_executors(registry: ExecutorRegistry) -> None:
    """Register velocity, blocks and probe."""
    registry.register(
        "velocity",
        _later("executors.velocity", "VelocityExecutor"),
        "skips the whole transformer, estimates the average velocity",
        shows=("latents",),
    )
    registry.register(
        "blocks",
        _later("executors.blocks", "BlocksExecutor"),
        "the schedule as cache-dit's own steps_computation_mask",
    )
    registry.register(
        "probe",
        _later("executors.probe", "ProbeExecutor"),
        "runs the first blocks for a policy that decides, and the others as it says",
        shows=("modulated-input", "after-1-block", "after-2-blocks", "after-3-blocks"),
    )


@hookimpl
def otcache_register_metrics(registry: MetricRegistry) -> None:
    """Register LPIPS, SSIM, PSNR, mean errors of pictures and latents, and those of prompts."""
    for name, description in (
        ("lpips", "perceptual distance of pictures, AlexNet features"),
        ("lpips-vgg", "perceptual distance of pictures, VGG features"),
        ("ssim", "structural similarity of pictures"),
        ("psnr", "peak signal-to-noise ratio of pictures, dB"),
        ("mse", "mean squared error of pictures"),
        ("latent-l1", "mean absolute error of latents; nothing is decoded"),
        ("latent-mse", "mean squared error of latents; nothing is decoded"),
    ):
        registry.register(name, partial(_metric, name), description)
    registry.register(
        "clip-score",
        _later("evaluation.prompt_metrics", "ClipScore"),
        "how well CLIP finds a picture to fit its prompt",
    )
    registry.register(
        "image-reward",
        _later("evaluation.prompt_metrics", "ImageReward"),
        "what people would prefer for a prompt",
    )


def _metric(name: str) -> Metric:
    metric: Metric = _imported("evaluation.metrics", "METRICS")[name]
    return metric
