"""What is to be calibrated: a policy, by its calibrator, with its options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otcache_policies import FieldError
from pydantic import ValidationError

from otcache_plugin.errors import ArgumentError
from otcache_plugin.plugins.host import UNKNOWN_DISTRIBUTION, plugin_host

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from otcache_plugin.plugins.calibrating import Calibrator


@dataclass(frozen=True)
class CalibrationTask:
    """A policy to be calibrated.

    Attributes:
        policy: its name.
        distribution: what registered it.
        calibrator: that it brings.
        options: of the calibrator.
    """

    policy: str
    distribution: str
    calibrator: Calibrator
    options: BaseModel

    @property
    def installed_by(self) -> str | None:
        """The name of the distribution, None where that is unknown."""
        known = self.distribution != UNKNOWN_DISTRIBUTION
        return self.distribution.partition(" ")[0] if known else None

    @property
    def name(self) -> str:
        """What this calibration is called in a working folder that several go on in."""
        variant = self.calibrator.variant(self.options)
        return f"{self.policy}-{variant}" if variant else self.policy

    @property
    def manifest(self) -> dict[str, Any]:
        """All that the calibration is determined by besides measured values, as JSON."""
        return {
            "policy": self.policy,
            "distribution": self.distribution,
            "options": self.options.model_dump(mode="json"),
            **self.calibrator.determined_by(self.options),
        }


def calibration_task(
    policy: str, given: Mapping[str, object], num_inference_steps: int
) -> CalibrationTask:
    """Return the task of calibrating a registered policy.

    Args:
        policy: its name.
        given: its calibrator's options by name, as values or as text.
        num_inference_steps: of the full runs.

    Raises:
        UnknownNameError: no such policy is registered.
        ArgumentError: it brings no calibrator, or there is no such option, or it has no such value.
        FieldError: options do not fit each other.
    """
    host = plugin_host()
    calibrator = host.calibrator(policy)
    options = options_of(policy, calibrator, given)
    calibrator.check(options, num_inference_steps)
    return CalibrationTask(policy, host.policies.distribution_of(policy), calibrator, options)


def options_of(policy: str, calibrator: Calibrator, given: Mapping[str, object]) -> BaseModel:
    """Return a calibrator's options with what was given, or raise ArgumentError."""
    known = list(calibrator.options.model_fields)
    listed = f"otcache plugins {policy} lists the options: {', '.join(known)}"
    for name, value in given.items():
        if name not in known:
            raise ArgumentError(name, value, f"{policy} has no such option", listed)
    try:
        return calibrator.options.model_validate(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        own = first.get("ctx", {}).get("error")
        if isinstance(own, FieldError):
            raise own from None
        raise ArgumentError(
            ".".join(map(str, first["loc"])), first["input"], first["msg"], listed
        ) from None
