"""otcache-plugin: optimal-transport cache schedules for diffusion pipelines, inside cache-dit.

Importing it installs `policy=` into cache-dit, at once or the moment cache-dit is imported, and
nothing heavy: every name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otcache_plugin.patch import install, install_when_imported, is_installed, uninstall

if TYPE_CHECKING:
    from otcache_policies import Schedule

    from otcache_plugin.enabling.enable import disable_cache, enable_cache, summary
    from otcache_plugin.models.embedded import load_embedded_pipeline
    from otcache_plugin.models.exact_flow import load_exact_flow_pipeline
    from otcache_plugin.origins.hub_revision import resolve_origin
    from otcache_plugin.runs.report import RunReport

__version__ = "0.1.0"

__all__ = [
    "RunReport",
    "Schedule",
    "disable_cache",
    "enable_cache",
    "install",
    "is_installed",
    "load_embedded_pipeline",
    "load_exact_flow_pipeline",
    "resolve_origin",
    "summary",
    "uninstall",
]

_LAZY = {
    "RunReport": "otcache_plugin.runs.report",
    "Schedule": "otcache_policies",
    "disable_cache": "otcache_plugin.enabling.enable",
    "enable_cache": "otcache_plugin.enabling.enable",
    "load_embedded_pipeline": "otcache_plugin.models.embedded",
    "load_exact_flow_pipeline": "otcache_plugin.models.exact_flow",
    "resolve_origin": "otcache_plugin.origins.hub_revision",
    "summary": "otcache_plugin.enabling.enable",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, loaded or not."""
    return sorted({*globals(), *__all__})


install_when_imported()
