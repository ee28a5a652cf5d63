"""A tiny Ideogram 4 pipeline: guidance is a second transformer, called at every step."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel

from tiny_pipelines.common import SIZE, TEXT_TOKENS, TEXT_WIDTH, Case, euler_scheduler, quiet


class Ideogram4WithoutText(Ideogram4Pipeline):
    """Ideogram 4 without its text encoder: prompts are random embeddings."""

    def encode_prompt(
        self,
        prompt: str | list[str],
        grid_h: int,
        grid_w: int,
        max_sequence_length: int,
        device: torch.device,
    ) -> tuple[torch.Tensor, ...]:
        """See Ideogram4Pipeline."""
        batch = 1 if isinstance(prompt, str) else len(prompt)
        ids = self._prepare_ids([TEXT_TOKENS] * batch, grid_h, grid_w, max_sequence_length, device)
        length = max_sequence_length + grid_h * grid_w
        generator = torch.Generator().manual_seed(1)
        return torch.randn(batch, length, TEXT_WIDTH, generator=generator), *ids


def make_ideogram() -> Any:
    """An Ideogram4Pipeline of two transformers of one block."""
    torch.manual_seed(0)
    transformer, unconditional = [
        Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            intermediate_size=32,
            adaln_dim=8,
            llm_features_dim=TEXT_WIDTH,
            mrope_section=(2, 1, 1),
        ).eval()
        for _ in range(2)
    ]
    pipe = Ideogram4WithoutText(
        scheduler=euler_scheduler(shift=1.0),
        vae=None,
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        unconditional_transformer=unconditional,
    )
    return quiet(pipe)


def ideogram_arguments(batch: int = 1) -> dict[str, Any]:
    """What an Ideogram4Pipeline needs besides steps and noise."""
    return {
        "prompt": ["a prompt"] * batch,
        "guidance_scale": 4.0,
        "guidance_schedule": None,
        "max_sequence_length": TEXT_TOKENS + 2,
        "height": SIZE,
        "width": SIZE,
    }


IDEOGRAM = Case("ideogram-4", make_ideogram, ideogram_arguments, 2, "input_proj")
