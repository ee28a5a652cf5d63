"""A few values of every weight of a model, read without waiting for an accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reading", "is_plain"]

SAMPLED = 4
"""Values that are looked at of each weight, evenly spread."""


def is_plain(weight: torch.Tensor) -> bool:
    """Return whether a weight is values in memory, and nothing of a subclass of its own."""
    return type(weight) is torch.nn.Parameter and weight.device.type != "meta"


class Reading:
    """Values as they are when this is made; from an accelerator they are on their way then.

    Args:
        weights: by name; those that are not plain, or not contiguous, are left out.
    """

    def __init__(self, weights: Mapping[str, torch.nn.Parameter]) -> None:
        groups: dict[tuple[torch.device, torch.dtype], dict[str, torch.Tensor]] = {}
        for name, weight in weights.items():
            if is_plain(weight) and weight.is_contiguous() and weight.numel():
                values = weight.detach().view(-1)
                values = values[:: max(len(values) // SAMPLED, 1)][:SAMPLED]
                groups.setdefault((weight.device, weight.dtype), {})[name] = values
        self._groups = [_Group.of(group) for group in groups.values()]

    def values(self) -> dict[str, bytes]:
        """Return the values of each weight, bit by bit, once they have arrived."""
        return {name: value for group in self._groups for name, value in group.values().items()}


@dataclass(frozen=True)
class _Group:
    """Values of one type, from one device.

    Attributes:
        sizes: how many bytes are of each weight, in their order.
        content: all of them, in main memory or on their way there.
        arrived: when they are there; None where they are already.
    """

    sizes: Mapping[str, int]
    content: torch.Tensor
    arrived: torch.cuda.Event | None

    @classmethod
    def of(cls, values: Mapping[str, torch.Tensor]) -> _Group:
        sizes = {name: part.numel() * part.dtype.itemsize for name, part in values.items()}
        # As bytes where there are no other operations, for types of one byte.
        parts = [
            part.view(torch.uint8) if part.dtype.itemsize == 1 else part for part in values.values()
        ]
        together = torch.cat(parts)
        if not together.is_cuda:
            return cls(sizes, together.cpu(), None)
        content = torch.empty_like(together, device="cpu", pin_memory=True)
        with torch.cuda.device_of(together):
            content.copy_(together, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        return cls(sizes, content, arrived)

    def values(self) -> dict[str, bytes]:
        if self.arrived is not None:
            self.arrived.synchronize()
        content, start, found = self.content.view(torch.uint8).numpy().tobytes(), 0, {}
        for name, size in self.sizes.items():
            found[name] = content[start : start + size]
            start += size
        return found
