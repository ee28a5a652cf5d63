"""Installing `policy=` into cache-dit, and taking it out again.

cache-dit has no plugin mechanism, so its public functions are replaced by wrappers that hand over
to `otcache_plugin.enabling` when a policy is involved and to the originals otherwise. Every binding
of the originals inside cache-dit's modules is replaced, whatever module it was imported
into, and restored by `uninstall`.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import wrapt
from packaging.version import InvalidVersion, Version

from otcache_plugin import cache_dit_originals
from otcache_plugin.cache_dit_originals import POLICY_PARAMETERS
from otcache_plugin.errors import IncompatibleCacheDitError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

__all__ = ["DISABLE", "install", "install_when_imported", "is_installed", "uninstall"]

CACHE_DIT = "cache_dit"
OLDEST_CACHE_DIT = "1.5.1"
DISABLE = "OTCACHE_DISABLE"

EXPECTED_PARAMETERS = ("pipe_or_adapter", "cache_config", "calibrator_config", "params_modifiers")


@dataclass
class _Installation:
    """What stands in for cache-dit's functions, by public name, and whether it is wanted."""

    wrappers: dict[str, Callable[..., Any]] = field(default_factory=dict)
    wanted: bool = True


_installation = _Installation()


def install_when_imported() -> None:
    """Install at once when cache-dit is imported already, else the moment it is."""
    if os.environ.get(DISABLE, "") not in ("", "0"):
        return
    _installation.wanted = True
    if CACHE_DIT in sys.modules:
        install()
    else:
        wrapt.register_post_import_hook(_on_import, CACHE_DIT)


def _on_import(_module: ModuleType) -> None:
    if _installation.wanted:
        install()


def is_installed() -> bool:
    """Return whether `cache_dit.enable_cache` accepts `policy=` now."""
    return cache_dit_originals.are_kept()


def install() -> None:
    """Install `policy=` into cache-dit; do nothing when it is installed already.

    Raises:
        IncompatibleCacheDitError: cache-dit is too old, or its `enable_cache` has changed.
    """
    import cache_dit  # for the first time, it installs: see install_when_imported

    if is_installed():
        return
    check_compatible(cache_dit)
    _installation.wanted = True
    originals = {
        "enable_cache": cache_dit.enable_cache,
        "disable_cache": cache_dit.disable_cache,
        "summary": cache_dit.summary,
    }
    wrappers = {
        "enable_cache": _wrap_enable_cache(originals["enable_cache"]),
        "disable_cache": _wrap_disable_cache(originals["disable_cache"]),
        "summary": _wrap_summary(originals["summary"]),
    }
    cache_dit_originals.keep(originals)
    _installation.wrappers = wrappers
    for name, original in originals.items():
        _rebind(original, wrappers[name])


def uninstall() -> None:
    """Give cache-dit its own functions back; pipelines enabled before stay as they are."""
    _installation.wanted = False
    for name, wrapper in _installation.wrappers.items():
        _rebind(wrapper, cache_dit_originals.original(name))
    cache_dit_originals.forget()
    _installation.wrappers = {}


def check_compatible(module: ModuleType) -> None:
    """Raise IncompatibleCacheDitError unless `module`, a cache-dit, can take `policy=`."""
    remedy = (
        f"Install another one (pip install 'cache-dit>={OLDEST_CACHE_DIT}'), or set {DISABLE}=1 "
        "to leave cache-dit alone and call otcache_plugin.enable_cache instead."
    )
    version = module.__version__
    if _is_older(version, OLDEST_CACHE_DIT):
        raise IncompatibleCacheDitError(
            f"cache-dit {version} is older than {OLDEST_CACHE_DIT}. {remedy}"
        )
    parameters = inspect.signature(module.enable_cache).parameters
    missing = [name for name in EXPECTED_PARAMETERS if name not in parameters]
    clashing = [name for name in POLICY_PARAMETERS if name in parameters]
    if missing or clashing:
        raise IncompatibleCacheDitError(
            f"cache-dit {version}: enable_cache lacks {missing or 'nothing'} and already has "
            f"{clashing or 'nothing'} of what is to be added. {remedy}"
        )


def _is_older(version: str, oldest: str) -> bool:
    try:
        return Version(version) < Version(oldest)
    except InvalidVersion:  # a source tree says "unknown version"; its signature will tell
        return False


def _cache_dit_modules() -> Iterator[ModuleType]:
    for name, module in list(sys.modules.items()):
        if module is not None and (name == CACHE_DIT or name.startswith(CACHE_DIT + ".")):
            yield module


def _rebind(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    for module in _cache_dit_modules():
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


def _wrap_enable_cache(enable_cache: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(enable_cache)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in POLICY_PARAMETERS.items()
    ]
    own = list(signature.parameters.values())
    at = next(
        (i for i, each in enumerate(own) if each.kind is inspect.Parameter.VAR_KEYWORD), len(own)
    )

    @functools.wraps(enable_cache)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        from otcache_plugin.enabling import enable

        given = {name: kwargs[name] for name in POLICY_PARAMETERS if name in kwargs}
        if any(value != POLICY_PARAMETERS[name] for name, value in given.items()):
            return enable.enable_cache(*args, **kwargs)
        plain = {name: value for name, value in kwargs.items() if name not in given}
        pipe = signature.bind(*args, **plain).arguments.get(own[0].name)
        with enable.replaced_policy(pipe):  # Enabling replaces, a policy too.
            return enable_cache(*args, **plain)

    wrapper.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*own[:at], *added, *own[at:]]
    )
    return wrapper


def _wrap_disable_cache(disable_cache: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(disable_cache)
    def wrapper(pipe_or_adapter: Any) -> Any:
        from otcache_plugin.enabling.enable import disable_policy

        if not disable_policy(pipe_or_adapter):
            return disable_cache(pipe_or_adapter)
        return None

    return wrapper


def _wrap_summary(summary: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(summary)

    @functools.wraps(summary)
    def wrapper(adapter_or_others: Any, *args: Any, **kwargs: Any) -> Any:
        from otcache_plugin.enabling.enable import summarise_policy

        stats = summary(adapter_or_others, *args, **kwargs)
        logging = signature.bind(adapter_or_others, *args, **kwargs).arguments.get("logging", True)
        return summarise_policy(adapter_or_others, stats, logging=logging)

    return wrapper
