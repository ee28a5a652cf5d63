"""What recording a pair of a calibration costs beyond its run: tables, and a dozen pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from otcache_plugin.calibration.measuring.units import Record, Reference
from otcache_plugin.calibration.measuring.worker import Worker
from otcache_plugin.calibration.settings import MeasuringSettings
from otcache_plugin.evaluation.batches import Batch
from otcache_plugin.models.setups import ModelSetup
from otcache_plugin.origins.origin import ModelOrigin
from otcache_plugin.pipelines.method_hook import MethodHook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .bench import Bench

ONE = Batch("calibration", 0, 1)


def recording(bench: Bench, steps: int) -> Mapping[str, Any]:
    """Measure a pair's full run, and its recording, with pictures compared.

    Args:
        bench: with a pipeline whose `encode_prompt` gives embeddings, pooled ones and ids.
        steps: of both.
    """
    arguments = dict(bench.arguments)
    embeddings, pooled = (arguments.pop(name) for name in ("prompt_embeds", "pooled_prompt_embeds"))
    ids = torch.zeros(embeddings.shape[1], 3, device=bench.device, dtype=embeddings.dtype)
    hook = MethodHook(bench.pipe, "encode_prompt", lambda *_, **__: (embeddings, pooled, ids))
    setup = ModelSetup(
        bench.model.name,
        bench.pipe,
        arguments,
        {},
        ("any",),
        ("another",),
        ModelOrigin(bench.model.name, "random weights", "a benchmark"),
    )
    settings = MeasuringSettings(steps, pairs=1, held_out_pairs=2, batch_size=1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            worker = Worker(setup, settings, Path(folder))
            try:
                [(_, full)] = worker.measure(Reference(ONE), {})
                *_, (_, recorded) = worker.measure(Record(ONE), {})
            finally:
                worker.close()
    finally:
        hook.remove()
    return {
        "steps": steps,
        "full_run_seconds": full.seconds,
        "recording_seconds": recorded.seconds,
        "full_run_transformer_calls": sum(full.calls),
        "recording_transformer_calls": sum(recorded.calls),
    }
