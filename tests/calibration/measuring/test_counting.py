"""Counting transformer calls and the steps that they are for: guidance is two calls of one step."""

from __future__ import annotations

from typing import Any

import cache_dit
import pytest
from otcache_policies import Schedule
from tiny_pipelines import FLUX, QWEN, WAN, Case

from otcache_plugin.calibration.measuring.counting import count_transformer_calls


@pytest.mark.parametrize("case", [FLUX, QWEN, WAN], ids=str)
def test_guidance_is_further_calls_of_the_same_step(case: Case, enable: Any) -> None:
    pipe = case.make()
    with count_transformer_calls(pipe) as counter:
        case.run(pipe, num_inference_steps=6)
        assert counter.calls == [case.calls_per_step] * 6
        enable(pipe, policy=Schedule([0, 2, 5], 6))
        case.run(pipe, num_inference_steps=6)
        cache_dit.disable_cache(pipe)
    assert counter.calls == [case.calls_per_step] * 9
    case.run(pipe, num_inference_steps=6)
    assert len(counter.calls) == 9  # counting ends with the block
