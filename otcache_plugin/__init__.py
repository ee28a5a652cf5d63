"""otcache-plugin: optimal-transport cache schedules for diffusion pipelines, inside cache-dit.

Importing it installs `policy=` into cache-dit, at once or the moment cache-dit is imported, and
nothing heavy: every name below is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otcache_policies.lazy_imports import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "otcache_plugin.runs.report": ("RunReport",),
        "otcache_policies": ("Schedule",),
        "otcache_plugin.enabling.enable": (
            "disable_cache",
            "enable_cache",
            "summary",
        ),
        "otcache_plugin.models.embedded": ("load_embedded_pipeline",),
        "otcache_plugin.models.exact_flow": ("load_exact_flow_pipeline",),
        "otcache_plugin.origins.hub_revision": ("resolve_origin",),
    },
)

install_when_imported()
