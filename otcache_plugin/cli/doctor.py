"""`otcache doctor`: does everything this package stands on work here, and if not, why."""

from __future__ import annotations

import json as json_format
import os
import platform
import warnings
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from otcache_plugin.cli.common.checks import Check, print_checks
from otcache_plugin.cli.common.output import (
    Json,
    Quiet,
    StageProgress,
    print_json,
    silence_loading,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from diffusers import DiffusionPipeline

LIBRARIES = ("otcache-plugin", "cache-dit", "torch", "diffusers", "transformers", "optuna")


def doctor(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Whose origin to show: a folder or cached Hub id."),
    ] = "embedded",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check that the installation works, and that a model's revision is known."""
    with StageProgress(quiet) as progress:
        checks = list(_checks(model, progress))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        print_checks(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _checks(model: str, progress: StageProgress) -> Iterator[Check]:
    yield Check("python", True, platform.python_version())
    for name in LIBRARIES:
        yield _library(name)
    progress.announce("importing torch and diffusers")
    yield _attempt("device", _device)
    yield _attempt("policy= in cache-dit", _install)
    yield _attempt("plugins", _plugins)
    yield _attempt("bundled policies", _bundled)
    progress.announce("running the embedded pipeline")
    yield _attempt("embedded pipeline", _embedded)
    progress.announce(f"loading {model}")
    yield _origin(model)
    for name in ("OTCACHE_DISABLE", "OTCACHE_PLUGINS"):
        if name in os.environ:
            yield Check(name, True, f"set to {os.environ[name]!r}")


def _library(name: str) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, False, f"not installed: pip install {name}")


def _attempt(subject: str, attempt: Callable[[], str]) -> Check:
    try:
        return Check(subject, True, attempt())
    except Exception as error:  # a doctor reports every failure, and goes on
        return Check(subject, False, f"{type(error).__name__}: {error}")


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU only"


def _install() -> str:
    from otcache_plugin import patch

    if os.environ.get(patch.DISABLE, "") not in ("", "0"):
        return f"switched off by {patch.DISABLE}"
    patch.install()
    return "installed"


def _plugins() -> str:
    from otcache_plugin.plugins.host import plugin_host

    host = plugin_host()
    broken = host.broken()
    if broken:
        raise RuntimeError("; ".join(f"{each.name}: {each.error}" for each in broken))
    return (
        f"{', '.join(host.policies)}; executors {', '.join(host.executors)}; "
        f"metrics {', '.join(host.metrics)}"
    )


def _bundled() -> str:
    from otcache_registry import bundled_policies

    return ", ".join(entry.load().source for entry in bundled_policies())


def _embedded() -> str:
    from otcache_plugin.enabling.enable import enable_cache, summary
    from otcache_plugin.models.embedded import load_embedded_pipeline

    silence_loading()
    pipe = load_embedded_pipeline()
    enable_cache(pipe, policy="otcache", budget=8)
    pipe("red circle left on navy", output_type="latent")
    report = summary(pipe)
    if not report.as_planned:
        raise RuntimeError(str(report))
    return f"ran {len(report.computed_steps)} of {report.num_inference_steps} steps as planned"


def _origin(model: str) -> Check:
    from otcache_plugin.origins.finding import REMEDY, describe_origin

    try:
        found = describe_origin(_load(model))
    except Exception as error:  # likewise
        problem = f"{model} cannot be loaded ({type(error).__name__}: {error})"
        remedy = f"Pass a pipeline's folder, or first run: hf download {model}"
        return Check("origin", False, f"{problem}. {remedy}")
    known = found.model is not None
    return Check("origin", known, str(found) if known else f"{found}. {REMEDY}")


def _load(model: str) -> DiffusionPipeline:
    """Return the pipeline as far as its origin needs it: no download, and no text encoders."""
    import torch
    from diffusers import DiffusionPipeline
    from diffusers.utils import is_accelerate_available

    from otcache_plugin.models.setups import SETUPS, load_setup

    silence_loading()
    if model in SETUPS:
        return load_setup(model).pipe
    with warnings.catch_warnings():
        # Newer versions call it dtype, and know this name until 1.0.
        warnings.simplefilter("ignore", FutureWarning)
        is_folder = Path(model).is_dir()
        folder = model if is_folder else DiffusionPipeline.download(model, local_files_only=True)
        index = json_format.loads((Path(folder) / DiffusionPipeline.config_name).read_text("utf-8"))
        text = [
            name
            for name, part in index.items()
            if isinstance(part, list) and "transformers" in part
        ]
        return DiffusionPipeline.from_pretrained(
            folder,
            low_cpu_mem_usage=is_accelerate_available(),
            torch_dtype=torch.bfloat16,
            **dict.fromkeys(text),
        )
