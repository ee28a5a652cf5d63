"""The built-in policies, executors and metrics, registered through anyone else's hooks."""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from otcache_plugin.plugins import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from otcache_policies import (
        DiCachePolicy,
        GramPolicy,
        LeMiCaPolicy,
        MeanCachePolicy,
        OTCachePolicy,
        ReCachePolicy,
        SearchedPolicy,
        TeaCachePolicy,
    )
    from otcache_registry import PolicyDetails, PolicyDocument, Sampling, Tables

    from otcache_plugin.parameters.gram import GramParameters
    from otcache_plugin.parameters.lemica import LeMiCaParameters
    from otcache_plugin.parameters.meancache import MeanCacheParameters
    from otcache_plugin.parameters.otcache import OTCacheParameters
    from otcache_plugin.parameters.recache import ReCacheParameters
    from otcache_plugin.parameters.searched import SearchedParameters
    from otcache_plugin.parameters.thresholds import (
        DiCacheParameters,
        TeaCacheParameters,
        ThresholdParameters,
    )
    from otcache_plugin.plugins import (
        Calibrator,
        Executor,
        ExecutorRegistry,
        Metric,
        MetricRegistry,
        Policy,
        PolicyRegistry,
    )


@hookimpl
def otcache_register_policies(registry: PolicyRegistry) -> None:
    """Register otcache, its peers and uniform."""
    registry.register_calibrated(
        "otcache",
        parameters=_otcache_parameters,
        make=_otcache,
        description="transport between a searched anchor and a graph reference (arXiv 2606.31026)",
        describe=_describe_otcache,
        calibrator=partial(_calibrator, "otcache", "OTCacheCalibrator"),
    )
    registry.register_calibrated(
        "meancache",
        parameters=_meancache_parameters,
        make=_meancache,
        description="budgeted shortest path over the calibrated edge table (arXiv 2601.19961)",
        converts={"otcache": _meancache_of_otcache},
        calibrator=partial(_calibrator, "meancache", "MeanCacheCalibrator"),
    )
    registry.register_calibrated(
        "gram",
        parameters=_gram_parameters,
        make=_gram,
        description="minimises the quadratic form of recorded velocities; needs a recording alone",
        describe=_describe_gram,
        calibrator=partial(_calibrator, "gram", "GramCalibrator"),
    )
    registry.register_calibrated(
        "lemica",
        parameters=_lemica_parameters,
        make=_lemica,
        description="lexicographic minimax path over outcome-aware edges (arXiv 2511.00090)",
        describe=_describe_lemica,
        calibrator=partial(_calibrator, "lemica", "LeMiCaCalibrator"),
    )
    registry.register_calibrated(
        "recache",
        parameters=_recache_parameters,
        make=_recache,
        description="a network trained by REINFORCE scores steps for a budget (arXiv 2606.06060)",
        describe=_describe_recache,
        calibrator=partial(_calibrator, "recache", "ReCacheCalibrator"),
    )
    registry.register_calibrated(
        "budcache",
        parameters=_searched_parameters,
        make=partial(_searched, "budcache"),
        description="annealing and descent at each budget, latents' error (arXiv 2606.13496)",
        describe=_describe_searched,
        calibrator=partial(_calibrator, "budcache", "BudCacheCalibrator"),
    )
    registry.register_calibrated(
        "direct",
        parameters=_searched_parameters,
        make=partial(_searched, "direct"),
        description="a search on the real model at each budget, by the metric that is asked for",
        describe=_describe_searched,
        calibrator=partial(_calibrator, "direct", "DirectCalibrator"),
    )
    registry.register_calibrated(
        "teacache",
        parameters=_teacache_parameters,
        make=_teacache,
        description="decides at every step by the first block's modulated input (arXiv 2411.19108)",
        describe=_describe_thresholds,
        calibrator=partial(_calibrator, "teacache", "TeaCacheCalibrator"),
    )
    registry.register_calibrated(
        "dicache",
        parameters=_dicache_parameters,
        make=_dicache,
        description="decides at every step by what the first blocks give (arXiv 2508.17356)",
        describe=_describe_thresholds,
        calibrator=partial(_calibrator, "dicache", "DiCacheCalibrator"),
    )
    registry.register_uncalibrated(
        "uniform", _uniform, "evenly spaced steps, look-back 2; needs no calibration"
    )


def _calibrator(module: str, name: str) -> Calibrator:
    """Return a calibrator, whose module is imported now."""
    make: Callable[[], Calibrator] = getattr(
        import_module(f"otcache_plugin.calibration.{module}"), name
    )
    return make()


def _otcache_parameters() -> type[OTCacheParameters]:
    from otcache_plugin.parameters.otcache import OTCacheParameters

    return OTCacheParameters


def _otcache(parameters: OTCacheParameters, tables: Tables, sampling: Sampling) -> OTCachePolicy:
    from otcache_plugin.parameters.otcache import make

    return make(parameters, tables, sampling)


def _describe_otcache(parameters: OTCacheParameters, document: PolicyDocument) -> PolicyDetails:
    from otcache_plugin.parameters.otcache_details import describe

    return describe(parameters, document)


def _meancache_parameters() -> type[MeanCacheParameters]:
    from otcache_plugin.parameters.meancache import MeanCacheParameters

    return MeanCacheParameters


def _meancache(
    parameters: MeanCacheParameters, tables: Tables, sampling: Sampling
) -> MeanCachePolicy:
    from otcache_plugin.parameters.meancache import make

    return make(parameters, tables, sampling)


def _meancache_of_otcache(parameters: OTCacheParameters) -> MeanCacheParameters:
    from otcache_plugin.parameters.meancache import from_otcache

    return from_otcache(parameters)


def _gram_parameters() -> type[GramParameters]:
    from otcache_plugin.parameters.gram import GramParameters

    return GramParameters


def _gram(parameters: GramParameters, tables: Tables, sampling: Sampling) -> GramPolicy:
    from otcache_plugin.parameters.gram import make

    return make(parameters, tables, sampling)


def _describe_gram(parameters: GramParameters, document: PolicyDocument) -> PolicyDetails:
    from otcache_plugin.parameters.gram import describe

    return describe(parameters, document)


def _lemica_parameters() -> type[LeMiCaParameters]:
    from otcache_plugin.parameters.lemica import LeMiCaParameters

    return LeMiCaParameters


def _lemica(parameters: LeMiCaParameters, tables: Tables, sampling: Sampling) -> LeMiCaPolicy:
    from otcache_plugin.parameters.lemica import make

    return make(parameters, tables, sampling)


def _describe_lemica(parameters: LeMiCaParameters, document: PolicyDocument) -> PolicyDetails:
    from otcache_plugin.parameters.lemica import describe

    return describe(parameters, document)


def _recache_parameters() -> type[ReCacheParameters]:
    from otcache_plugin.parameters.recache import ReCacheParameters

    return ReCacheParameters


def _recache(parameters: ReCacheParameters, tables: Tables, sampling: Sampling) -> ReCachePolicy:
    from otcache_plugin.parameters.recache import make

    return make(parameters, tables, sampling)


def _describe_recache(parameters: ReCacheParameters, document: PolicyDocument) -> PolicyDetails:
    from otcache_plugin.parameters.recache import describe

    return describe(parameters, document)


def _searched_parameters() -> type[SearchedParameters]:
    from otcache_plugin.parameters.searched import SearchedParameters

    return SearchedParameters


def _searched(
    name: str, parameters: SearchedParameters, tables: Tables, sampling: Sampling
) -> SearchedPolicy:
    from otcache_plugin.parameters.searched import make

    return make(name, parameters, tables, sampling)


def _describe_searched(parameters: SearchedParameters, document: PolicyDocument) -> PolicyDetails:
    from otcache_plugin.parameters.searched import describe

    return describe(parameters, document)


def _teacache_parameters() -> type[TeaCacheParameters]:
    from otcache_plugin.parameters.thresholds import TeaCacheParameters

    return TeaCacheParameters


def _teacache(parameters: TeaCacheParameters, tables: Tables, sampling: Sampling) -> TeaCachePolicy:
    from otcache_plugin.parameters.thresholds import make_teacache

    return make_teacache(parameters, tables, sampling)


def _dicache_parameters() -> type[DiCacheParameters]:
    from otcache_plugin.parameters.thresholds import DiCacheParameters

    return DiCacheParameters


def _dicache(parameters: DiCacheParameters, tables: Tables, sampling: Sampling) -> DiCachePolicy:
    from otcache_plugin.parameters.thresholds import make_dicache

    return make_dicache(parameters, tables, sampling)


def _describe_thresholds(
    parameters: ThresholdParameters, document: PolicyDocument
) -> PolicyDetails:
    from otcache_plugin.parameters.thresholds import describe

    return describe(parameters, document)


def _uniform(num_inference_steps: int) -> Policy:
    from otcache_policies import UniformPolicy

    return UniformPolicy(num_inference_steps, look_back=2)


@hookimpl
def otcache_register_executors(registry: ExecutorRegistry) -> None:
    """Register velocity, blocks and probe."""
    registry.register(
        "velocity",
        _velocity,
        "skips the whole transformer, estimates the average velocity",
        shows=("latents",),
    )
    registry.register("blocks", _blocks, "the schedule as cache-dit's own steps_computation_mask")
    registry.register(
        "probe",
        _probe,
        "runs the first blocks for a policy that decides, and the others as it says",
        shows=("modulated-input", "after-1-block", "after-2-blocks", "after-3-blocks"),
    )


def _velocity() -> Executor:
    from otcache_plugin.executors.velocity import VelocityExecutor

    return VelocityExecutor()


def _probe() -> Executor:
    from otcache_plugin.executors.probe import ProbeExecutor

    return ProbeExecutor()


def _blocks() -> Executor:
    from otcache_plugin.executors.blocks import BlocksExecutor

    return BlocksExecutor()


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
    registry.register("clip-score", _clip_score, "how well CLIP finds a picture to fit its prompt")
    registry.register("image-reward", _image_reward, "what people would prefer for a prompt")


def _metric(name: str) -> Metric:
    from otcache_plugin.evaluation.metrics import METRICS

    return METRICS[name]


def _clip_score() -> Metric:
    from otcache_plugin.evaluation.prompt_metrics import ClipScore

    return ClipScore()


def _image_reward() -> Metric:
    from otcache_plugin.evaluation.prompt_metrics import ImageReward

    return ImageReward()
