"""Trains the second test-bed from nothing: landscapes, autoencoder, text encoder and a small Wan.

    python tools/train_testbed.py --output tools/testbed

Seeded; about half an hour of one CPU core. Two stages: an AutoencoderKLWan on the pictures, then
the flow (transformer and text encoder jointly) on its latents. Both leave their state in the work
folder every 500 steps, so that an interrupted run goes on, to the same weights.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, patchify, unpatchify
from landscapes import captions, render
from resumable_training import Training, train
from torch.nn import functional as F
from untrained_testbed import (
    PIXEL_PATCH,
    SEQUENCE_LENGTH,
    build_autoencoder,
    build_text_encoder,
    build_tokenizer,
    build_transformer,
)

from otcache_plugin.models.precision import convert

SHIFT = 3.0
FAST_PHASE = 0.7  # rad that a time input may turn within the longest of fifty steps
DROPPED_CAPTIONS = 0.1
AUTOENCODER_BATCH = 32


@dataclass(frozen=True)
class Settings:
    """What a training run is determined by."""

    landscapes: int
    autoencoder_steps: int
    flow_steps: int
    batch: int
    seed: int


def treat_frames_as_pictures(autoencoder: AutoencoderKLWan) -> None:
    """Let its convolutions compute on one frame what they would, without the empty past's cost."""

    def convolve(layer: WanCausalConv3d, x: torch.Tensor, cache_x: None = None) -> torch.Tensor:
        weight, padding = layer.weight[:, :, -1], layer.kernel_size[-1] // 2
        return F.conv2d(x[:, :, 0], weight, layer.bias, padding=padding).unsqueeze(2)

    for layer in autoencoder.modules():
        if isinstance(layer, WanCausalConv3d):
            layer.forward = partial(convolve, layer)


def reconstruction_loss(
    pictures: torch.Tensor, model: AutoencoderKLWan, generator: torch.Generator
) -> torch.Tensor:
    """Squared and absolute error, and a light pull of the latents towards N(0, 1)."""
    batch = pictures[torch.randint(len(pictures), (AUTOENCODER_BATCH,), generator=generator)]
    moments = model.quant_conv(model.encoder(patchify(batch, PIXEL_PATCH)))
    mean, log_variance = moments.chunk(2, dim=1)
    log_variance = log_variance.clamp(-30.0, 20.0)
    noise = torch.randn(mean.shape, generator=generator)
    latents = mean + (0.5 * log_variance).exp() * noise
    # Its decode would cut the picture off at ±1, and with it the gradient beyond.
    decoded = unpatchify(model.decoder(model.post_quant_conv(latents)), PIXEL_PATCH)
    divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    error = F.mse_loss(decoded, batch) + 0.3 * F.l1_loss(decoded, batch)
    loss: torch.Tensor = error + 1e-6 * divergence.sum(dim=(1, 2, 3, 4)).mean()
    return loss


class Flow(torch.nn.Module):
    """What is trained jointly in the second stage."""

    def __init__(self, vocabulary_size: int) -> None:
        super().__init__()
        self.transformer = build_transformer()
        self.text_encoder = build_text_encoder(vocabulary_size)

    def forward(
        self, x: torch.Tensor, sigma: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        text = self.text_encoder(ids, mask).last_hidden_state * mask.unsqueeze(-1)
        velocity: torch.Tensor = self.transformer(x, 1000.0 * sigma, text).sample
        return velocity


def shifted(uniform: torch.Tensor) -> torch.Tensor:
    """Return the noise levels that the scheduler's shift makes of evenly spread ones."""
    sigma: torch.Tensor = SHIFT * uniform / (1.0 + (SHIFT - 1.0) * uniform)
    return sigma


def keep_slow_time_inputs(transformer: WanTransformer3DModel) -> None:
    """Leave only the sinusoidal time inputs that turn slowly, so that v is smooth in sigma.

    A fast input lets the network make v depend on sigma at a scale below one step, which no
    estimator can follow and no schedule can be ranked on.
    """
    weight = transformer.condition_embedder.time_embedder.linear_1.weight
    half = weight.shape[1] // 2
    frequencies = torch.exp(-math.log(10000.0) * torch.arange(half) / half)
    longest = shifted(torch.tensor(1.0 / 50.0))
    slow = (frequencies * 1000.0 * longest <= FAST_PHASE).float().repeat(2)
    with torch.no_grad():
        weight.mul_(slow)
    weight.register_hook(lambda gradient: gradient * slow)


def flow_loss(
    latents: torch.Tensor,
    ids: torch.Tensor,
    mask: torch.Tensor,
    batch: int,
    model: Flow,
    generator: torch.Generator,
) -> torch.Tensor:
    """Flow matching: v = noise - x0. Of picture i the text is i modulo their number, "" is last."""
    chosen = torch.randint(len(latents), (batch,), generator=generator)
    empty = len(ids) - 1
    dropped = torch.rand(batch, generator=generator) < DROPPED_CAPTIONS
    text = torch.where(dropped, empty, chosen % empty)
    sigma = shifted(torch.rand(batch, generator=generator))
    x0 = latents[chosen]
    noise = torch.randn(x0.shape, generator=generator)
    x = torch.lerp(x0, noise, sigma.view(-1, 1, 1, 1, 1))
    return F.mse_loss(model(x, sigma, ids[text], mask[text]), noise - x0)


@torch.no_grad()
def encode(autoencoder: AutoencoderKLWan, pictures: torch.Tensor) -> torch.Tensor:
    """Return the latents of all pictures, and let the autoencoder's settings normalise them."""
    latents = torch.cat([autoencoder.encode(some).latent_dist.mean for some in pictures.split(250)])
    mean, std = latents.mean((0, 2, 3, 4)), latents.std((0, 2, 3, 4))
    autoencoder.register_to_config(latents_mean=mean.tolist(), latents_std=std.tolist())
    return (latents - mean.view(1, -1, 1, 1, 1)) / std.view(1, -1, 1, 1, 1)


def train_pipeline(settings: Settings, work: Path) -> WanPipeline:
    known = captions(held_out=False)
    described = [known[index % len(known)] for index in range(settings.landscapes)]
    rendered = render(described, np.random.default_rng(settings.seed))
    pictures = torch.from_numpy(rendered).permute(0, 3, 1, 2).unsqueeze(2) * 2 - 1

    torch.manual_seed(settings.seed)
    autoencoder = build_autoencoder()
    treat_frames_as_pictures(autoencoder)
    autoencoder = train(
        autoencoder,
        partial(reconstruction_loss, pictures),
        Training(
            "autoencoder", settings.autoencoder_steps, 3e-3, 1e-4, warm_up=100, cool_down=1900
        ),
        work,
        settings.seed,
    )
    latents = encode(autoencoder, pictures)

    tokenizer = build_tokenizer()
    padding = {"padding": "max_length", "max_length": SEQUENCE_LENGTH, "return_tensors": "pt"}
    tokens = tokenizer([*map(str, known), ""], **padding)
    flow = Flow(len(tokenizer))
    keep_slow_time_inputs(flow.transformer)
    flow = train(
        flow,
        partial(flow_loss, latents, tokens.input_ids, tokens.attention_mask, settings.batch),
        Training("flow", settings.flow_steps, 2e-3, 0.01, warm_up=300, cool_down=1500),
        work,
        settings.seed + 1,
    )
    plain = build_autoencoder()
    plain.load_state_dict(autoencoder.state_dict())
    plain.register_to_config(
        latents_mean=autoencoder.config.latents_mean, latents_std=autoencoder.config.latents_std
    )
    return WanPipeline(
        tokenizer=tokenizer,
        text_encoder=flow.text_encoder,
        vae=plain.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=SHIFT),
        transformer=flow.transformer,
    )


def write_prompts(folder: Path) -> None:
    """Write the captions that the flow was trained on as text, the held-out ones as JSON lines."""
    known, held_out = captions(held_out=False), captions(held_out=True)
    (folder / "calibration.txt").write_text("".join(f"{caption}\n" for caption in known))
    lines = [json.dumps({"category": each.thing, "prompt": str(each)}) for each in held_out]
    (folder / "evaluation.jsonl").write_text("".join(f"{line}\n" for line in lines))


def name_public_classes(folder: Path) -> None:
    """Name the tokenizer's class that every version of the library has."""
    for file in (folder / "model_index.json", *folder.glob("tokenizer/tokenizer_config.json")):
        file.write_text(file.read_text().replace("TokenizersBackend", "PreTrainedTokenizerFast"))


def claim(work: Path, settings: Settings) -> None:
    """Keep a work folder to one run's settings."""
    work.mkdir(parents=True, exist_ok=True)
    stored, wanted = work / "settings.json", asdict(settings)
    if not stored.exists():
        stored.write_text(json.dumps(wanted))
    elif json.loads(stored.read_text()) != wanted:
        raise SystemExit(f"{work} holds a run with other settings: pass another --work")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the pipeline")
    parser.add_argument("--work", type=Path, default=Path("build/train_testbed"))
    parser.add_argument("--landscapes", type=int, default=40_000)
    parser.add_argument("--autoencoder-steps", type=int, default=2_000)
    parser.add_argument("--flow-steps", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    output, work = arguments.pop("output"), arguments.pop("work")
    settings = Settings(**arguments)
    torch.set_num_threads(1)
    claim(work, settings)
    pipeline = train_pipeline(settings, work)
    convert(pipeline, torch.float16)
    pipeline.save_pretrained(output)
    name_public_classes(output)
    write_prompts(output)
    (output / "training.json").write_text(json.dumps(asdict(settings), indent=2) + "\n")
    print(f"wrote {output}")


if __name__ == "__main__":
    main()
