"""The parts of the second test-bed before they are trained; tools/train_testbed.py trains them."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKLWan, WanTransformer3DModel
from landscapes import WORDS
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

SEQUENCE_LENGTH = 8
"""Text tokens of a caption, the end included."""

LATENT_CHANNELS = 8
PIXEL_PATCH = 2
TEXT_WIDTH = 64
UNTIED: dict[str, Any] = {"tie_word_embeddings": False}
"""Of a UMT5Config, which takes it without naming it in its signature."""


def build_autoencoder() -> AutoencoderKLWan:
    return AutoencoderKLWan(
        base_dim=16,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1, 2],
        num_res_blocks=1,
        temperal_downsample=[False],
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
        in_channels=3 * PIXEL_PATCH**2,
        out_channels=3 * PIXEL_PATCH**2,
        patch_size=PIXEL_PATCH,
        scale_factor_spatial=2 * PIXEL_PATCH,
    )


def build_transformer() -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=3,
        attention_head_dim=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        text_dim=TEXT_WIDTH,
        freq_dim=64,
        ffn_dim=256,
        num_layers=4,
        rope_max_seq_len=16,
    )


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return a word-level tokenizer in the role of UMT5's: pad 0, end 1, unknown 2."""
    vocabulary = {word: index for index, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=SEQUENCE_LENGTH,
    )


def build_text_encoder(vocabulary_size: int) -> UMT5EncoderModel:
    return UMT5EncoderModel(
        UMT5Config(
            vocab_size=vocabulary_size,
            d_model=TEXT_WIDTH,
            d_kv=16,
            d_ff=2 * TEXT_WIDTH,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            **UNTIED,
        )
    )
