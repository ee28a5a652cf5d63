"""``otcache doctor``: does everything this package stands on work here, and if not, why."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from otcache_plugin.cli.output import Json, print_json, silence_loading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARIES = ("otcache-plugin", "cache-dit", "torch", "diffusers", "transformers", "optuna")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        subject: what.
        ok: whether it works.
        finding: what was found, or what to do.
    """

    subject: str
    ok: bool
    finding: str


def doctor(json: Json = False) -> None:
    """Check that the installation works."""
    checks = list(_checks())
    if json:
        print_json([asdict(check) for check in checks])
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        for check in checks:
            mark = "[green]ok[/]" if check.ok else "[bold red]no[/]"
            table.add_row(mark, check.subject, escape(check.finding))
        Console().print(table)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _checks() -> Iterator[Check]:
    yield Check("python", True, platform.python_version())
    for name in LIBRARIES:
        yield _library(name)
    yield Check("device", True, _device())
    yield _attempt("policy= in cache-dit", _install)
    yield _attempt("plugins", _plugins)
    yield _attempt("bundled policies", _bundled)
    yield _attempt("embedded pipeline", _embedded)
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
    from otcache_plugin import activation

    if os.environ.get(activation.DISABLE, "") not in ("", "0"):
        return f"switched off by {activation.DISABLE}"
    activation.install()
    return "installed"


def _plugins() -> str:
    from otcache_plugin.manager import plugin_host

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
    from otcache_plugin.enabling import enable_cache, summary
    from otcache_plugin.models.embedded import load_embedded_pipeline

    silence_loading()
    pipe = load_embedded_pipeline()
    enable_cache(pipe, policy="otcache", budget=8)
    pipe("red circle left on navy", output_type="latent")
    report = summary(pipe)
    if not report.as_planned:
        raise RuntimeError(str(report))
    return f"ran {len(report.computed_steps)} of {report.num_inference_steps} steps as planned"
