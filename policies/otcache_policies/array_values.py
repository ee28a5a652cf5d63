"""Values that hold arrays which nobody can change, whichever way the value was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArrayValue"]


class ArrayValue:
    """What frozen dataclasses that hold arrays have in common."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __reduce__(self) -> tuple[type[ArrayValue], tuple[Any, ...]]:
        # Copied and unpickled through the constructor: numpy's own copies could be written to.
        return type(self), tuple(getattr(self, each.name) for each in fields(self))

    def _keep(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Make fields of arrays that are the value's own, and read-only from now on."""
        for name, array in arrays.items():
            array.flags.writeable = False
            object.__setattr__(self, name, array)
