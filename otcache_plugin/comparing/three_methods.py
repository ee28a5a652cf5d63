"""The compared methods, all from one policy document, and the calls that switch them on."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cache_dit
from otcache_policies import FieldError
from otcache_registry import find_bundled, read_policy

import otcache_plugin
from otcache_plugin.calibration.evidence.peers import PEERS, peers, policies_of
from otcache_plugin.patch import DISABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from diffusers import DiffusionPipeline
    from otcache_policies import Schedule
    from otcache_registry import StoredPolicy

    from otcache_plugin.models.setups import ModelSetup

BUNDLED = "otcache"
"""The policy that ships with the package; any other one is a document's folder."""

LABELS = dict(zip(PEERS, ("uniform", "MeanCache", "OTCache"), strict=True))
"""What methods are called where people read."""


@dataclass(frozen=True)
class Contender:
    """A method at a budget.

    Attributes:
        method: "uniform", "meancache" or "otcache".
        schedule: what it will compute.
        arguments: of `cache_dit.enable_cache`, which switch it on.
    """

    method: str
    schedule: Schedule
    arguments: Mapping[str, Any]


def contenders_of(stored: StoredPolicy, policy: str, budgets: Sequence[int]) -> list[Contender]:
    """Return every budget with every method, all with the look-back rule of the document.

    Args:
        stored: the document.
        policy: what the user named it.
        budgets: computed steps.

    Raises:
        BudgetError: the policy does not serve a budget.
        DocumentError: its schedules were published by others, who had no look-back rule.
    """
    schedules = peers(*policies_of(stored))
    bundled = policy == BUNDLED
    contenders = []
    for budget, method in product(budgets, PEERS):
        schedule = schedules[method](budget)
        arguments: dict[str, Any] = {"policy": schedule}
        if method == "otcache":
            arguments = {"policy": policy if bundled else Path(policy), "budget": budget}
        elif method == "meancache" and bundled:
            arguments = {"policy": method, "budget": budget}
        contenders.append(Contender(method, schedule, arguments))
    return contenders


def find_policy(setup: ModelSetup, policy: str) -> StoredPolicy:
    """Return the document that a user named, for this model.

    Raises:
        DocumentNotFoundError: there is none.
        FieldError: it is for another model.
    """
    origin = setup.origin
    if policy == BUNDLED:
        with enabled(setup.pipe, {"policy": policy}):  # or else says how to calibrate one
            return find_bundled(policy, origin.model, origin.revision)
    stored = read_policy(policy)
    calibrated = stored.document.model
    if (calibrated.id, calibrated.revision) != (origin.model, origin.revision):
        raise FieldError(
            "policy",
            policy,
            f"calibrated on {calibrated.id} at {calibrated.revision}, and this is "
            f"{origin.model} at {origin.revision}",
            f"Calibrate one for it: otcache calibrate {origin.model} --output DIR",
        )
    return stored


def require_installed() -> None:
    """Raise FieldError where `cache_dit.enable_cache` has no `policy=`."""
    if not otcache_plugin.is_installed():
        raise FieldError(
            DISABLE,
            os.environ.get(DISABLE),
            "cache_dit.enable_cache, which is compared, has no policy= now",
            f"Unset {DISABLE}",
        )


@contextmanager
def enabled(pipe: DiffusionPipeline, arguments: Mapping[str, Any]) -> Iterator[None]:
    """Switch on inside the block what the arguments say, by the calls that a user would make."""
    cache_dit.enable_cache(pipe, **arguments)
    try:
        yield
    finally:
        cache_dit.disable_cache(pipe)
