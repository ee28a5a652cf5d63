"""Tiny pipelines that encode their prompts: random text encoders, and a token for every byte."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from tiny_pipelines import (
    POOLED_WIDTH,
    TEXT_WIDTH,
    make_flux,
    make_qwen,
    make_wan,
    make_z_image,
    quiet,
    unipc_scheduler,
)
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

SPECIAL = ("<pad>", "</s>")
VOCABULARY = len(SPECIAL) + 256
CHAT = "{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}<reply>"


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token per byte and one for the end, so that different prompts are different tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL, *alphabet))}
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = decoders.ByteLevel()
    bytes_only.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", vocabulary["</s>"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_only,
        pad_token="<pad>",
        eos_token="</s>",
        model_max_length=77,
        chat_template=CHAT,
    )


LANGUAGE_MODEL: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 2048,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
T5_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": TEXT_WIDTH,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_heads": 2,
}


def make_clip(kind: type = CLIPTextModel, layers: int = 1) -> Any:
    """A CLIP text model."""
    config = CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=POOLED_WIDTH,
        intermediate_size=16,
        projection_dim=POOLED_WIDTH,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=77,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )
    return kind(config).eval()


def make_t5() -> T5EncoderModel:
    """A T5 encoder of one layer."""
    return T5EncoderModel(T5Config(**T5_LIKE)).eval()


def make_flux_with_text() -> Any:
    """Flux with CLIP and T5."""
    pipe = make_flux()
    pipe.register_modules(
        tokenizer=make_tokenizer(),
        text_encoder=make_clip(),
        tokenizer_2=make_tokenizer(),
        text_encoder_2=make_t5(),
    )
    pipe.tokenizer_max_length = 77
    return pipe


def make_qwen_with_text() -> Any:
    """Qwen-Image with a Qwen2.5-VL of three text layers."""
    pipe = make_qwen()
    config = Qwen2_5_VLConfig(
        text_config={
            **LANGUAGE_MODEL,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "out_hidden_size": TEXT_WIDTH,
        },
    )
    pipe.register_modules(
        tokenizer=make_tokenizer(),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
    )
    return pipe


def make_z_image_with_text() -> Any:
    """Z-Image with a Qwen3 of three layers."""
    pipe = make_z_image()
    pipe.register_modules(
        tokenizer=make_tokenizer(),
        text_encoder=Qwen3Model(Qwen3Config(**LANGUAGE_MODEL)).eval(),
    )
    return pipe


def make_wan_with_text() -> Any:
    """Wan 2.2 with a UMT5."""
    pipe = make_wan()
    pipe.register_modules(
        tokenizer=make_tokenizer(),
        text_encoder=UMT5EncoderModel(UMT5Config(**T5_LIKE)).eval(),
    )
    return pipe


def make_wan_with_vae() -> Any:
    """Wan 2.2, a video pipeline of two transformers, with the multistep solver it comes with."""
    torch.manual_seed(0)
    pipe = make_wan_with_text()
    vae = AutoencoderKLWan(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    pipe.register_modules(vae=vae.eval(), scheduler=unipc_scheduler())
    return pipe


def make_hunyuan_video_with_text() -> Any:
    """HunyuanVideo of one block with a Llama of three layers and CLIP."""
    torch.manual_seed(0)
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=10,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        patch_size=2,
        patch_size_t=1,
        guidance_embeds=True,
        text_embed_dim=TEXT_WIDTH,
        pooled_projection_dim=POOLED_WIDTH,
        rope_axes_dim=(2, 4, 4),
    )
    pipe = HunyuanVideoPipeline(
        text_encoder=LlamaModel(LlamaConfig(**LANGUAGE_MODEL)).eval(),
        tokenizer=make_tokenizer(),
        transformer=transformer.eval(),
        vae=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        text_encoder_2=make_clip(),
        tokenizer_2=make_tokenizer(),
    )
    return quiet(pipe)


def make_ltx_with_text() -> Any:
    """LTX-Video of one block with a T5 and a VAE, so it can be saved and loaded."""
    torch.manual_seed(0)
    transformer = LTXVideoTransformer3DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        cross_attention_dim=16,
        num_layers=1,
        caption_channels=TEXT_WIDTH,
    )
    vae = AutoencoderKLLTXVideo(
        latent_channels=4,
        block_out_channels=(4, 4, 4, 4),
        decoder_block_out_channels=(4, 4, 4, 4),
        layers_per_block=(1,) * 5,
        decoder_layers_per_block=(1,) * 5,
        patch_size=1,
    )
    pipe = LTXPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True),
        vae=vae.eval(),
        text_encoder=make_t5(),
        tokenizer=make_tokenizer(),
        transformer=transformer.eval(),
    )
    return quiet(pipe)


def make_sd3_with_text() -> Any:
    """Stable Diffusion 3 of one block with two CLIPs and a T5."""
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=1,
        in_channels=4,
        out_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=16,
        pooled_projection_dim=2 * POOLED_WIDTH,
    )
    pipe = StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=None,
        text_encoder=make_clip(CLIPTextModelWithProjection, layers=2),
        tokenizer=make_tokenizer(),
        text_encoder_2=make_clip(CLIPTextModelWithProjection, layers=2),
        tokenizer_2=make_tokenizer(),
        text_encoder_3=make_t5(),
        tokenizer_3=make_tokenizer(),
    )
    return quiet(pipe)


def make_sana_with_text() -> Any:
    """Sana of one block with a Gemma 2 of three layers."""
    torch.manual_seed(0)
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=TEXT_WIDTH,
        sample_size=8,
    )
    pipe = SanaPipeline(
        tokenizer=make_tokenizer(),
        text_encoder=Gemma2Model(Gemma2Config(**LANGUAGE_MODEL)).eval(),
        vae=None,
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    return quiet(pipe)
