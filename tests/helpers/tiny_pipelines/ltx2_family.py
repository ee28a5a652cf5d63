"""Rows of LTX-2: video with sound, from pictures and other conditions."""

from __future__ import annotations

from typing import Any

from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition

from tiny_pipelines.building import Row, picture
from tiny_pipelines.common import euler_scheduler
from tiny_pipelines.ltx2 import SIDE, ltx2_arguments, make_ltx2

SIGMAS = (1.0, 0.9, 0.75, 0.6, 0.4, 0.25, 0.1)
"""Of the pipelines that take no number of steps."""


def _all_guidances(**others: Any) -> dict[str, Any]:
    """The usual call: guidance of four kinds, rescaled."""
    scales = {"stg_scale": 1.0, "modality_scale": 3.0, "spatio_temporal_guidance_blocks": [1]}
    return ltx2_arguments(**scales, audio_stg_scale=1.0, audio_modality_scale=3.0, **others)


def _condition() -> LTX2VideoCondition:
    return LTX2VideoCondition(frames=picture(SIDE)[0], index=0, strength=1.0, crf=0)


def _dfr() -> Any:
    """Takes a transformer of LTX-2.5."""
    return make_ltx2("LTX2DFRPipeline", use_keyframes_abs_pos_embedding=True)


def _dfr_arguments() -> dict[str, Any]:
    wanted = ("height", "width", "num_frames", "frame_rate", "prompt_embeds")
    given = ltx2_arguments()
    return {
        **{name: given[name] for name in (*wanted, "prompt_attention_mask")},
        "sigmas": list(SIGMAS),
    }


ROWS = (
    Row("LTX2Pipeline", make_ltx2, ltx2_arguments, quick=True),
    Row("LTX2Pipeline (all guidances)", make_ltx2, _all_guidances),
    Row(
        "LTX2ImageToVideoPipeline",
        lambda: make_ltx2("LTX2ImageToVideoPipeline"),
        lambda: ltx2_arguments(image=picture(SIDE), image_crf=0),
    ),
    Row(
        "LTX2ConditionPipeline",
        lambda: make_ltx2("LTX2ConditionPipeline", audio_scheduler=euler_scheduler()),
        lambda: ltx2_arguments(conditions=[_condition()]),
    ),
    Row(
        "LTX2InContextPipeline",
        lambda: make_ltx2("LTX2InContextPipeline", audio_scheduler=euler_scheduler()),
        lambda: ltx2_arguments(conditions=[_condition()]),
    ),
    Row(
        "LTX2HDRPipeline",
        lambda: make_ltx2("LTX2HDRPipeline", audio_scheduler=euler_scheduler()),
        lambda: {
            name: value
            for name, value in ltx2_arguments().items()
            if not name.startswith(("audio", "negative"))
        },
    ),
    Row("LTX2DFRPipeline", _dfr, _dfr_arguments),
)
