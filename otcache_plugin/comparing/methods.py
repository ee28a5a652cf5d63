"""What a method is that can be compared with others, and what it is shown of the comparison."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from diffusers import DiffusionPipeline

    from otcache_plugin.evaluation.pairs import Pair
    from otcache_plugin.models.setups import ModelSetup

__all__ = ["Bench", "Method", "Variant"]


@dataclass(frozen=True)
class Variant:
    """A method at one setting.

    Attributes:
        method: name of the method.
        setting: for people: "10 steps", "threshold 0.12", "fast".
        budget: computed steps that are asked for; None where they are an outcome, as of a
            threshold.
        rests_on: what else it is determined by, such as a document: what was measured of another
            one is not taken for it.
    """

    method: str
    setting: str
    budget: int | None
    rests_on: str = ""

    @property
    def key(self) -> str:
        """What files of it are called, different for every variant of a comparison."""
        return re.sub(r"[^a-z0-9.]+", "-", f"{self.method} {self.setting}".lower()).strip("-")


@dataclass(frozen=True)
class Bench:
    """What methods are compared on. No method is shown the pairs that it is judged on.

    Attributes:
        setup: the model, without any cache enabled.
        num_inference_steps: of a full run, T.
        budgets: computed steps at which to compare.
        work: folder where methods keep what they found out, as `kept` does.
        documents: policy documents, as `policy=` takes them, that go before those that a policy's
            name would find.
    """

    setup: ModelSetup
    num_inference_steps: int
    budgets: tuple[int, ...]
    work: Path
    documents: tuple[str, ...] = ()

    @property
    def pipe(self) -> DiffusionPipeline:
        """The pipeline."""
        return self.setup.pipe

    @property
    def call_arguments(self) -> dict[str, Any]:
        """Arguments of every call besides prompt and generator."""
        return {**self.setup.call_arguments, "num_inference_steps": self.num_inference_steps}

    def calibration_pairs(self, count: int) -> Sequence[Pair]:
        """Return pairs on which a method may search, none of which it is judged on."""
        return self.setup.calibration_pairs(count)

    def kept(self, name: str, find_out: Callable[[], Any]) -> Any:
        """Return what a method found out, as JSON: from an earlier run of this comparison, or now.

        Args:
            name: of what is kept, the method's own name in it.
            find_out: gives it, as plain values.
        """
        path = self.work / f"{name}.json"
        if not path.exists():
            self.work.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{path.name}.{os.getpid()}.part")
            unfinished.write_text(json.dumps(find_out(), indent=1), encoding="utf-8")
            unfinished.replace(path)
        return json.loads(path.read_text(encoding="utf-8"))


class Method(Protocol):
    """A way to make a model's pictures in less time."""

    @property
    def name(self) -> str:
        """Its word in `--methods`."""
        ...

    @property
    def label(self) -> str:
        """What people call it."""
        ...

    def refusal(self, bench: Bench) -> str | None:
        """Return why it cannot run on this pipeline, and what helps; None where it can. Cheap."""
        ...

    def variants(self, bench: Bench) -> Sequence[Variant]:
        """Return the settings to compare, from the bench's budgets.

        What has to be searched for is searched on calibration pairs, and kept by `Bench.kept`.
        """
        ...

    def enabled(self, bench: Bench, variant: Variant) -> AbstractContextManager[Mapping[str, Any]]:
        """Switch a variant on inside the block, by the public calls that a user would make.

        The block is given the call arguments that differ. However it ends, the pipeline is then as
        it was before.
        """
        ...

    def calibration_steps(self, bench: Bench, variant: Variant) -> int | None:
        """Return the denoising steps that its calibration took, None where that is unknown."""
        ...
