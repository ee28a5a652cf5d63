"""Whether a pipeline's denoisers still have the weights that a document was chosen for.

A LoRA that is loaded, fused or switched, other weights that are loaded into a denoiser, or another
denoiser in its place: none of it says a word. So before every call the weights are compared with
those at enabling; for a model of twelve billion parameters that takes less than a tenth of a
second. Weights that are only moved, as offloading does, or kept in another precision, are the same.

Weights on an accelerator are told apart by PyTorch's counter of writes and by their addresses, for
a look at them would wait for the device. Only where those changed, as after a move, and of a LoRA's
own weights, which hot-swapping overwrites past that counter, a few values are read.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.errors import PipelineError
from otcache_plugin.pipelines.parts import DENOISERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from diffusers import DiffusionPipeline

__all__ = ["WeightsWatch"]

SAMPLED = 4
"""Values that are looked at of each weight, evenly spread."""

ADAPTER = "lora_"
"""What stands in the name of a LoRA's own weight."""

REMEDY = (
    "Call cache_dit.enable_cache(pipe, policy=…) again: with model= and revision= if the same "
    "document is to serve these weights, after `otcache calibrate` with one of their own, or with "
    "policy='uniform'"
)


class WeightsWatch:
    """The weights of a pipeline's denoisers, as they are when it is made."""

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self._states = {name: _State.of(module) for name, module in _denoisers(pipe).items()}
        self._fused = _fused(pipe)

    def require_unchanged(self, pipe: DiffusionPipeline) -> None:
        """Raise PipelineError when a denoiser has other weights than when this was made."""
        denoisers = _denoisers(pipe)
        for name in self._states.keys() | denoisers.keys():
            module, before = denoisers.get(name), self._states.get(name)
            if module is None or before is None:
                raise _changed(name, module, "it was put there or taken away")
            now = _State.of(module, before)
            change = now.change_since(before)
            if change is not None:
                raise _changed(name, module, change)
            self._states[name] = now
        if _fused(pipe) != self._fused:
            raise _changed("pipe", pipe, "a LoRA was fused into it, or taken out")


@dataclass(frozen=True)
class _State:
    """The weights of one denoiser.

    Attributes:
        adapters: how its LoRAs and the like are set.
        shapes: class and shape of every weight, by name.
        precisions: of every weight.
        identities: what changes when a weight is written to, moved or replaced.
        sample: a few values of every plain weight, bit by bit.
    """

    adapters: tuple[Any, ...]
    shapes: Mapping[str, tuple[Any, ...]]
    precisions: Mapping[str, torch.dtype]
    identities: Mapping[str, tuple[int | None, ...]]
    sample: Mapping[str, bytes]

    @classmethod
    def of(cls, module: torch.nn.Module, before: _State | None = None) -> _State:
        """Return the state of a denoiser; values that cannot have changed are taken from before."""
        weights = dict(module.named_parameters())
        identities = {name: _identity(weight) for name, weight in weights.items()}
        sample: dict[str, bytes] = {}
        looked_at = weights
        if before is not None:
            sample.update(before.sample)
            looked_at = {
                name: weight
                for name, weight in weights.items()
                if identities[name] != before.identities.get(name)
                or weight.device.type == "cpu"
                or ADAPTER in name
            }
        return cls(
            _adapters(module),
            {name: (type(weight), tuple(weight.shape)) for name, weight in weights.items()},
            {name: weight.dtype for name, weight in weights.items()},
            identities,
            {**sample, **_sampled(looked_at)},
        )

    def change_since(self, before: _State) -> str | None:
        """Return what has changed of a denoiser, if anything."""
        if self.adapters != before.adapters:
            return "a LoRA or another adapter was loaded into it, switched or removed"
        if self.shapes != before.shapes:
            return "it has weights of other names, shapes or kinds"
        for name, values in self.sample.items():
            same_precision = self.precisions[name] == before.precisions[name]
            if same_precision and values != before.sample.get(name, values):
                return f"its {name} has other values"
        return None


def _denoisers(pipe: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    held = {name: getattr(pipe, name, None) for name in DENOISERS}
    return {
        name: getattr(module, "_orig_mod", module)  # as it was before torch.compile
        for name, module in held.items()
        if module is not None
    }


def _fused(pipe: DiffusionPipeline) -> frozenset[str]:
    return frozenset(getattr(pipe, "fused_loras", ()))


def _identity(weight: torch.nn.Parameter) -> tuple[int | None, ...]:
    version = None if weight.is_inference() else weight._version
    return id(weight), version, weight.data_ptr() if _is_plain(weight) else None


def _is_plain(weight: torch.Tensor) -> bool:
    """Return whether a weight is values in memory, and nothing of a subclass of its own."""
    return type(weight) is torch.nn.Parameter and weight.device.type != "meta"


def _sampled(weights: Mapping[str, torch.nn.Parameter]) -> dict[str, bytes]:
    """Return a few values of each plain weight; those of a device and a type are read at once."""
    groups: dict[tuple[torch.device, torch.dtype], dict[str, torch.Tensor]] = {}
    for name, weight in weights.items():
        if _is_plain(weight) and weight.is_contiguous() and weight.numel():
            values = weight.detach().view(-1)
            values = values[:: max(len(values) // SAMPLED, 1)][:SAMPLED]
            groups.setdefault((weight.device, weight.dtype), {})[name] = values
    return {name: values for group in groups.values() for name, values in _read(group)}


def _read(group: Mapping[str, torch.Tensor]) -> Iterable[tuple[str, bytes]]:
    size = next(iter(group.values())).dtype.itemsize
    # As bytes where there are no other operations, for types of one byte.
    parts = [each.view(torch.uint8) if size == 1 else each for each in group.values()]
    content = torch.cat(parts).cpu().view(torch.uint8).numpy().tobytes()
    start = 0
    for name, part in zip(group, parts, strict=True):
        end = start + part.numel() * size
        yield name, content[start:end]
        start = end


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
    if isinstance(value, torch.Tensor):
        return id(value), value._version
    return (round(float(value), 6),)  # It is scaled in calls and back again.


def _changed(name: str, part: Any, change: str) -> PipelineError:
    problem = f"its weights are not those that the policy's document was chosen for: {change}"
    return PipelineError(name, None if part is None else type(part).__name__, problem, REMEDY)
