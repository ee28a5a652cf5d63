"""What a variant makes of the held-out pairs, judged against the full run, and what it takes."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch

import otcache_plugin
from otcache_plugin.calibration.measuring.locked_folder import explained
from otcache_plugin.comparing.counting import Counts, counting_calls, flop_counter
from otcache_plugin.comparing.pages import save_picture
from otcache_plugin.errors import ExecutionError
from otcache_plugin.evaluation.outputs import Outputs, generate_outputs
from otcache_plugin.pipelines.attaching import attachment

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from otcache_plugin.calibration.stages import CalibrationProgress
    from otcache_plugin.comparing.lineup import Entrant
    from otcache_plugin.comparing.methods import Bench
    from otcache_plugin.evaluation.metrics import Metric
    from otcache_plugin.evaluation.pairs import Pair

PICTURES, FULL_OUTPUTS = "pictures", "full"
SHOWN_PAIRS = 6
"""Pairs whose pictures are kept: the first ones, so that nobody chose them."""


@dataclass(frozen=True)
class Ran:
    """What the last run of a policy did, where one was on.

    Attributes:
        document: that it rests on, if any.
        computed_steps: of the run.
        look_backs: likewise.
        decided: whether the policy decided at run time, so that other runs may differ.
    """

    document: str | None
    computed_steps: tuple[int, ...]
    look_backs: tuple[int, ...]
    decided: bool


@dataclass(frozen=True)
class Measured:
    """What was measured of a variant, times apart.

    Attributes:
        values: by metric, one per pair.
        counts: of one call.
        ran: by a policy, None where none was on.
        calibration_steps: denoising steps that its calibration took, None where unknown.
        frames: of each output, 1 for pictures.
    """

    values: Mapping[str, list[float]]
    counts: Counts
    ran: Ran | None
    calibration_steps: int | None
    frames: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Measured:
        """Return what `to_dict` gave, after JSON."""
        ran = record["ran"]
        if ran is not None:
            steps, look_backs = tuple(ran["computed_steps"]), tuple(ran["look_backs"])
            ran = Ran(ran["document"], steps, look_backs, ran["decided"])
        return cls(
            record["values"],
            Counts(**record["counts"]),
            ran,
            record["calibration_steps"],
            record["frames"],
        )


@dataclass(frozen=True)
class Judge:
    """Runs variants on held-out pairs and judges them; keeps pictures, and the full run's outputs.

    Attributes:
        bench: what is compared on.
        pairs: held out.
        metrics: to judge by.
        folder: where files are kept.
        progress: is told of every step that was taken.
    """

    bench: Bench
    pairs: Sequence[Pair]
    metrics: Sequence[Metric]
    folder: Path
    progress: CalibrationProgress

    def picture_files(self, entrant: Entrant) -> tuple[Path, ...]:
        """Return where a variant's first few pictures are kept."""
        count = min(SHOWN_PAIRS, len(self.pairs))
        folder = self.folder / PICTURES
        return tuple(folder / f"{entrant.key}-{index + 1}.png" for index in range(count))

    def measure_full(self, entrant: Entrant) -> Measured:
        """Measure the full run, and keep its outputs for all others to be judged by."""
        return self._measure(entrant, keep=True)

    def measure(self, entrant: Entrant) -> Measured:
        """Measure a variant, after the full run.

        Raises:
            Exception: whatever the method raises.
        """
        return self._measure(entrant, keep=False)

    def _measure(self, entrant: Entrant, keep: bool) -> Measured:
        bench = self.bench
        values: dict[str, list[float]] = {metric.name: [] for metric in self.metrics}
        shown: list[torch.Tensor] = []
        flops, calls, frames = 0.0, 0, 1
        with (
            counting_calls(bench.pipe) as counts,
            entrant.method.enabled(bench, entrant.variant) as differing,
        ):
            call = {**bench.call_arguments, **differing}
            for index, batch in enumerate(self._batches()):
                with flop_counter() if index == 0 else nullcontext() as counter:
                    outputs = generate_outputs(bench.pipe, batch, call, len(batch))
                if counter is not None:
                    flops = counter.get_total_flops() / len(batch)
                calls += 1
                reference = self._reference(index, outputs if keep else None)
                for metric in self.metrics:
                    judged = metric.values(outputs, reference, batch)
                    values[metric.name] += judged.tolist()
                assert outputs.pictures is not None
                frames = outputs.pictures.shape[1]
                shown += list(outputs.pictures[:, frames // 2][: SHOWN_PAIRS - len(shown)])
                self.progress.ran(steps_of(entrant, bench) * len(batch))
            ran = _ran(bench, entrant)
            blocks = counts.blocks / calls if counts.has_blocks else None
            counted = Counts(counts.transformer / calls, blocks, flops)
        with explained(self.folder):
            for path, picture in zip(self.picture_files(entrant), shown, strict=True):
                save_picture(path, picture)
        steps = entrant.method.calibration_steps(bench, entrant.variant)
        return Measured(values, counted, ran, steps, frames)

    def _batches(self) -> Iterator[Sequence[Pair]]:
        size = self.bench.setup.defaults.batch_size
        return (self.pairs[start : start + size] for start in range(0, len(self.pairs), size))

    def _reference(self, index: int, outputs: Outputs | None) -> Outputs:
        """Keep the full run's outputs of a batch where given, or read those that were kept."""
        path = self.folder / FULL_OUTPUTS / f"{index}.safetensors"
        if outputs is not None:
            assert outputs.pictures is not None
            arrays = {"latents": outputs.latents, "pictures": outputs.pictures}
            with explained(self.folder):
                path.parent.mkdir(parents=True, exist_ok=True)
                unfinished = path.with_suffix(".part")
                unfinished.write_bytes(
                    safetensors.torch.save(
                        {name: each.contiguous() for name, each in arrays.items()}
                    )
                )
                unfinished.replace(path)
            return outputs
        with explained(self.folder):
            kept = safetensors.torch.load_file(path)
        return Outputs(kept["latents"], kept["pictures"])


def steps_of(entrant: Entrant, bench: Bench) -> int:
    """Return the steps that a run of a variant counts for in estimates: at most, where unknown."""
    return entrant.variant.budget or bench.num_inference_steps


def _ran(bench: Bench, entrant: Entrant) -> Ran | None:
    """Return what the policy that is on did, which must be what it was to do.

    Raises:
        ExecutionError: it is not.
    """
    if attachment(bench.pipe) is None:
        return None
    report = otcache_plugin.summary(bench.pipe)
    if not report.as_planned:
        what = f"{entrant.method.label}, {entrant.variant.setting},"
        raise ExecutionError(f"{what} did not compute its schedule: {report}")
    return Ran(report.document, report.computed_steps, report.look_backs, report.decided)
