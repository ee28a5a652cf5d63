"""Whether a pipeline's denoisers still have the weights that a document was chosen for.

A LoRA that is loaded, fused or switched, other weights that are loaded into a denoiser, or another
denoiser in its place: none of it says a word. So before every call the weights are compared with
those at enabling; for a model of twelve billion parameters that takes less than a tenth of a
second. Weights that are only moved, as offloading does, or kept in another precision, are the same.

A look at weights on an accelerator would wait for it. So those that nothing seems to have touched,
by PyTorch's counter of writes and by their addresses, are looked at while the call runs: what was
written past that counter, as PEFT does, is known when the call is over, whose result is then
thrown away.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from otcache_plugin.errors import PipelineError
from otcache_plugin.origins.weight_values import Reading, is_plain
from otcache_plugin.pipelines.parts import DENOISERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from diffusers import DiffusionPipeline

__all__ = ["Look", "WeightsWatch"]

REMEDY = (
    "Call cache_dit.enable_cache(pipe, policy=…) again: with model= and revision= if the same "
    "document is to serve these weights, after `otcache calibrate` with one of their own, or with "
    "policy='uniform'"
)


class WeightsWatch:
    """The weights of a pipeline's denoisers, as they are when it is made."""

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self._states = {
            name: _State.of(module).with_values(Reading(dict(module.named_parameters())))
            for name, module in _denoisers(pipe).items()
        }
        self._fused = _fused(pipe)

    def look(self, pipe: DiffusionPipeline) -> Look:
        """Return a look at the weights, which has found no change so far.

        Raises:
            PipelineError: a denoiser has other weights than when this was made.
        """
        denoisers = _denoisers(pipe)
        later = []
        for name in self._states.keys() | denoisers.keys():
            module, before = denoisers.get(name), self._states.get(name)
            if module is None or before is None:
                raise _changed(name, module, "it was put there or taken away")
            now, reading = _compared(name, module, before)
            self._states[name] = now
            later.append((name, module, now, reading))
        if _fused(pipe) != self._fused:
            raise _changed("pipe", pipe, "a LoRA was fused into it, or taken out")
        return Look(later)


class Look:
    """A look at weights that nothing seems to have touched, while a call uses them.

    Args:
        readings: by denoiser its name, itself, what is known of it and the values read.
    """

    def __init__(self, readings: list[tuple[str, torch.nn.Module, _State, Reading]]) -> None:
        self._readings = readings

    def require_unchanged(self) -> None:
        """Raise PipelineError when they were changed all the same."""
        for name, module, known, reading in self._readings:
            change = known.with_values(reading).change_since(known)
            if change is not None:
                seen = "seen while this call ran, whose result is thrown away"
                raise _changed(name, module, f"{change} ({seen})")


@dataclass(frozen=True)
class _State:
    """The weights of one denoiser.

    Attributes:
        adapters: how its LoRAs and the like are set.
        shapes: class and shape of every weight, by name.
        precisions: of every weight.
        identities: what changes when a weight is written to, moved or replaced, as a rule.
        values: a few of every plain weight, bit by bit.
    """

    adapters: tuple[Any, ...]
    shapes: Mapping[str, tuple[Any, ...]]
    precisions: Mapping[str, torch.dtype]
    identities: Mapping[str, tuple[int | None, ...]]
    values: Mapping[str, bytes]

    @classmethod
    def of(cls, module: torch.nn.Module) -> _State:
        """Return what can be said of a denoiser without a look at its weights' values."""
        weights = dict(module.named_parameters())
        return cls(
            _adapters(module),
            {name: (type(weight), tuple(weight.shape)) for name, weight in weights.items()},
            {name: weight.dtype for name, weight in weights.items()},
            {name: _identity(weight) for name, weight in weights.items()},
            {},
        )

    def with_values(self, *readings: Reading) -> _State:
        """Return the same with values that were read, in the place of those known before."""
        read = {name: values for each in readings for name, values in each.values().items()}
        return replace(self, values={**self.values, **read})

    def change_since(self, before: _State) -> str | None:
        """Return what has changed of a denoiser, if anything."""
        if self.adapters != before.adapters:
            return "a LoRA or another adapter was loaded into it, switched or removed"
        if self.shapes != before.shapes:
            return "it has weights of other names, shapes or kinds"
        for name, values in self.values.items():
            same_precision = self.precisions[name] == before.precisions[name]
            if same_precision and values != before.values.get(name, values):
                return f"its {name} has other values"
        return None


def _compared(name: str, module: torch.nn.Module, before: _State) -> tuple[_State, Reading]:
    """Return what is known of a denoiser now, and the values that are still on their way.

    Raises:
        PipelineError: it has changed.
    """
    weights = dict(module.named_parameters())
    now = _State.of(module)
    at_hand = {
        each: weight
        for each, weight in weights.items()
        if _is_at_hand(weight) or now.identities[each] != before.identities.get(each)
    }
    now = replace(now, values=before.values)
    change = now.change_since(before)
    if change is None:
        now = now.with_values(Reading(at_hand))
        change = now.change_since(before)
    if change is not None:
        raise _changed(name, module, change)
    return now, Reading({each: weights[each] for each in weights.keys() - at_hand.keys()})


def _denoisers(pipe: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    held = {name: getattr(pipe, name, None) for name in DENOISERS}
    return {
        name: getattr(module, "_orig_mod", module)  # as it was before torch.compile
        for name, module in held.items()
        if module is not None
    }


def _fused(pipe: DiffusionPipeline) -> frozenset[str]:
    return frozenset(getattr(pipe, "fused_loras", ()))


def _is_at_hand(weight: torch.nn.Parameter) -> bool:
    """Return whether a weight is read without waiting for a device."""
    return weight.device.type == "cpu"


def _identity(weight: torch.nn.Parameter) -> tuple[int | None, ...]:
    version = None if weight.is_inference() else weight._version
    return id(weight), version, weight.data_ptr() if is_plain(weight) else None


def _adapters(module: torch.nn.Module) -> tuple[Any, ...]:
    """Return how the adapters of PEFT in a module are set: which are active and how strongly."""
    if "peft" not in sys.modules:
        return ()
    from peft.tuners.tuners_utils import BaseTunerLayer

    return tuple(
        (
            tuple(layer.active_adapters),
            layer.disable_adapters,
            tuple(layer.merged_adapters),
            tuple((name, _scaling(each)) for name, each in getattr(layer, "scaling", {}).items()),
        )
        for layer in module.modules()
        if isinstance(layer, BaseTunerLayer)
    )


def _scaling(value: Any) -> tuple[float, ...]:
    """Return what tells a scaling from another one, without reading it from a device."""
    if hasattr(value, "_version"):
        return id(value), value._version
    return (round(float(value), 6),)  # It is scaled in calls and back again.


def _changed(name: str, part: Any, change: str) -> PipelineError:
    problem = f"its weights are not those that the policy's document was chosen for: {change}"
    return PipelineError(name, None if part is None else type(part).__name__, problem, REMEDY)
