"""Which model and revision a pipeline is: concluded from its path and its weights, or unknown."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FluxPipeline, FluxTransformer2DModel, WanPipeline, WanTransformer3DModel
from hub_cache import put_snapshot
from otcache_registry import DocumentNotFoundError
from tiny_pipelines import flux_arguments, make_flux, make_wan, quiet

import otcache_plugin
from otcache_plugin.errors import ArgumentError
from otcache_plugin.models.exact_flow import ExactFlowSettings
from otcache_plugin.origins import weights
from otcache_plugin.origins.finding import describe_origin, find_origin
from otcache_plugin.origins.origin import DenoiserOrigin, ModelOrigin, OriginFinding

SHA, OTHER_SHA = "0123456789" * 4, "fedcba9876" * 4
FLUX_BLOCKS = 3
ABSENT = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
"""Parts that the tiny pipelines do without."""

old_dtype_argument = pytest.mark.filterwarnings("ignore:`torch_dtype` is deprecated:FutureWarning")
old_client_argument = pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")


def make_pipe() -> Any:
    return make_flux(num_layers=FLUX_BLOCKS)


def randomised(pipe: Any, seed: int = 1) -> Any:
    """The pipeline with other weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in (pipe.transformer, getattr(pipe, "transformer_2", None)):
            for weight in () if module is None else module.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator))
    return pipe


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with org/model at SHA, then at OTHER_SHA, which is main, and someone's fork of it."""
    folder = tmp_path_factory.mktemp("cache")
    put_snapshot(folder, "org/model", SHA, make_pipe())
    put_snapshot(folder, "org/model", OTHER_SHA, randomised(make_pipe(), 2))
    put_snapshot(folder, "someone/fork", SHA, randomised(make_pipe(), 3))
    return folder


@pytest.fixture(scope="module")
def snapshot(cache: Path) -> Path:
    return cache / "models--org--model" / "snapshots" / SHA


@pytest.fixture
def own_snapshot(tmp_path: Path) -> Path:
    """One that a test may damage."""
    return put_snapshot(tmp_path, "org/model", SHA, make_pipe())


def load(path: str | Path, **arguments: Any) -> Any:
    return quiet(FluxPipeline.from_pretrained(path, **ABSENT, **arguments))


def load_transformer(path: str | Path, **arguments: Any) -> Any:
    return FluxTransformer2DModel.from_pretrained(path, **arguments)


def known(pipe: Any, revision: str = SHA) -> OriginFinding:
    """What was concluded of a pipeline, which has to be this commit of org/model."""
    found = describe_origin(pipe)
    assert (found.model, found.revision) == ("org/model", revision), found
    origin = find_origin(pipe)
    assert origin == ModelOrigin("org/model", revision, found.reason)
    return found


def unknown(pipe: Any) -> str:
    """Why nothing is concluded of a pipeline, which the error of `find_origin` says as well."""
    found = describe_origin(pipe)
    assert (found.model, found.revision) == (None, None), found
    with pytest.raises(DocumentNotFoundError) as caught:
        find_origin(pipe)
    assert caught.value.field == "model"
    assert caught.value.problem == f"the pipeline's model revision is unknown: {found.reason}"
    assert "Pass model='org/name' and revision='<commit sha>'" in caught.value.remedy
    assert str(found) == f"unknown: {found.reason}"
    return found.reason


# Loaded from the Hub as it should be.


def test_a_snapshot_tells_its_commit(snapshot: Path) -> None:
    pipe = load(snapshot)
    found = known(pipe)
    [denoiser] = found.denoisers
    path = str(snapshot / "transformer")
    assert denoiser == DenoiserOrigin("transformer", path, "org/model", SHA, found.reason)
    assert str(found) == f"model org/model at revision {SHA}: {found.reason}"
    matrices = sum(weight.ndim > 1 for weight in pipe.transformer.state_dict().values())
    assert re.search(rf"rows of \d+ of its {matrices} matrices agree$", found.reason)


@old_client_argument
@pytest.mark.parametrize("revision", [SHA, OTHER_SHA, None])
def test_the_commit_is_the_loaded_one_whatever_main_is(cache: Path, revision: str | None) -> None:
    pipe = load("org/model", cache_dir=cache, local_files_only=True, revision=revision)
    assert pipe.config._name_or_path == "org/model"
    known(pipe, OTHER_SHA if revision is None else revision)


@old_dtype_argument
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_weights_may_be_converted(snapshot: Path, dtype: torch.dtype) -> None:
    pipe = load(snapshot, torch_dtype=dtype)
    assert pipe.transformer.dtype == dtype
    known(pipe)
    pipe.transformer.to(torch.float32)
    known(pipe)
    pipe.transformer.to(torch.float64)
    known(pipe)


def test_weights_may_be_stored_in_shards(tmp_path: Path) -> None:
    path = put_snapshot(tmp_path, "org/model", SHA, make_pipe(), max_shard_size="20KB")
    names = [file.name for file in (path / "transformer").iterdir()]
    assert sum(name.endswith(".safetensors") for name in names) > 2
    assert "diffusion_pytorch_model.safetensors.index.json" in names
    pipe = load(path)
    known(pipe)
    assert "differs from the files" in unknown(randomised(pipe))


@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}], ids=["whole", "shards"])
def test_any_variant_may_be_loaded(tmp_path: Path, shards: dict[str, str]) -> None:
    """Here the variant's weights are others, so that it cannot be taken for the usual file."""
    for saving, pipe in (
        ({}, make_pipe()),
        ({"variant": "fp16", **shards}, randomised(make_pipe())),
    ):
        pipe.save_pretrained(tmp_path / "model", **saving)
    path = tmp_path / "models--org--model" / "snapshots" / SHA
    shutil.copytree(tmp_path / "model", path)
    known(load(path))
    variant = load(path, variant="fp16")
    known(variant)
    assert "differs from the files" in unknown(randomised(variant))


def test_a_pipeline_may_be_put_together(snapshot: Path) -> None:
    """From nothing that names a repository, it does not contradict its denoiser's path."""
    pipe = make_pipe()
    pipe.transformer = load_transformer(snapshot / "transformer")
    assert pipe.config.get("_name_or_path") is None
    known(pipe)


def test_a_compiled_transformer_is_the_same(snapshot: Path) -> None:
    pipe = load(snapshot)
    pipe.transformer = torch.compile(pipe.transformer)
    known(pipe)


@pytest.mark.parametrize("executor", ["velocity", "blocks"])
def test_so_is_an_accelerated_one(snapshot: Path, enable: Any, executor: str) -> None:
    pipe = load(snapshot)
    enable(pipe, policy="uniform", executor=executor, budget=3)
    known(pipe)
    pipe(num_inference_steps=4, output_type="latent", **flux_arguments())
    known(pipe)


# Loaded otherwise.


@old_client_argument
def test_loaded_alone_by_its_id_it_names_no_commit(cache: Path, snapshot: Path) -> None:
    pipe = load(snapshot)
    pipe.transformer = load_transformer(
        "org/model", subfolder="transformer", cache_dir=cache, local_files_only=True, revision=SHA
    )
    reason = unknown(pipe)
    assert "was not loaded from a Hub snapshot" in reason
    assert "on its own by the id org/model" in reason


def test_another_folder_of_the_snapshot_is_not_the_denoisers(snapshot: Path) -> None:
    pipe = load(snapshot)
    pipe.transformer = load_transformer(snapshot, subfolder="transformer")
    assert "loaded on its own, from the top folder of org/model" in unknown(pipe)


@old_client_argument
@pytest.mark.parametrize("by_id", [True, False])
def test_a_replaced_transformer_is_not_the_pipelines(cache: Path, by_id: bool) -> None:
    fork = cache / "models--someone--fork" / "snapshots" / SHA
    own = "org/model" if by_id else cache / "models--org--model" / "snapshots" / SHA
    found = {"cache_dir": cache, "local_files_only": True} if by_id else {}
    pipe = load(own, transformer=load_transformer(fork / "transformer"), **found)
    reason = "its transformer is of someone/fork, but the pipeline of org/model"
    assert unknown(pipe) == reason
    assert describe_origin(load(fork)).model == "someone/fork"


def test_a_plain_folder_is_nothing_of_the_hub(snapshot: Path, tmp_path: Path) -> None:
    shutil.copytree(snapshot, tmp_path / "model")
    pipe = load(tmp_path / "model")
    assert unknown(pipe) == "its transformer was not loaded from a Hub snapshot but from a folder"
    with pytest.raises(DocumentNotFoundError) as caught:
        find_origin(pipe)
    assert caught.value.value == str(tmp_path / "model" / "transformer")


def test_a_relative_folder_is_no_repository(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(snapshot, tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert unknown(load("model")).endswith("but from a folder")


def test_what_was_never_loaded_has_no_path() -> None:
    assert "it has no path: a single file, or made otherwise" in unknown(make_pipe())


def test_a_pipeline_without_transformer_is_unknown() -> None:
    pipe = SimpleNamespace(unet=torch.nn.Linear(2, 2))
    assert unknown(pipe) == "SimpleNamespace has no transformer"
    assert describe_origin(pipe).denoisers == ()


# Paths that were copied to other weights.


def test_a_config_of_other_weights(snapshot: Path) -> None:
    pipe = load(snapshot)
    torch.manual_seed(5)
    pipe.transformer = FluxTransformer2DModel.from_config(pipe.transformer.config)
    assert pipe.transformer.config._name_or_path == str(snapshot / "transformer")
    reason = unknown(pipe)
    assert reason.startswith(f"its transformer claims to be of snapshot {SHA} of org/model, but ")
    assert reason.endswith(" differs from the files")


def fine_tuned(snapshot: Path, folder: Path) -> Path:
    """The folder of a fine-tune, whose config names the snapshot that it began from."""
    randomised(load(snapshot)).save_pretrained(folder)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    assert config["_name_or_path"] == str(snapshot / "transformer")
    return folder


def test_a_fine_tune_of_a_folder(snapshot: Path, tmp_path: Path) -> None:
    assert unknown(load(fine_tuned(snapshot, tmp_path))).endswith("but from a folder")


def test_a_fine_tune_of_a_single_file(snapshot: Path, tmp_path: Path) -> None:
    folder = fine_tuned(snapshot, tmp_path) / "transformer"
    pipe = load(snapshot)
    pipe.transformer = FluxTransformer2DModel.from_single_file(
        folder / "diffusion_pytorch_model.safetensors", config=str(folder)
    )
    assert pipe.transformer.config._name_or_path == str(snapshot / "transformer")
    assert unknown(pipe).endswith(" differs from the files")


def matrix_kinds() -> list[str]:
    """A name of each kind of matrix, with a pattern for the block's number."""
    weights = make_pipe().transformer.named_parameters()
    names = (re.sub(r"\.\d+\.", ".[0-9].", name) for name, weight in weights if weight.ndim > 1)
    return sorted(set(names))


def test_a_change_of_any_kind_of_matrix_is_found(snapshot: Path) -> None:
    """As a fused LoRA makes it, in every block, a rank of one and in half precision."""
    kinds = matrix_kinds()
    assert {"transformer_blocks.[0-9].attn.to_q.weight", "x_embedder.weight"} <= set(kinds)
    pipe = load(snapshot)
    pipe.transformer.to(torch.bfloat16)
    stored = {name: weight.clone() for name, weight in pipe.transformer.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for kind in kinds:
        changed = []
        for name, weight in pipe.transformer.state_dict().items():
            if re.fullmatch(kind.replace(".", r"\.").replace(r"[0-9]", "[0-9]+"), name):
                up = torch.randn(len(weight), 1, generator=generator)
                down = torch.randn(1, weight.shape[1], generator=generator)
                weight += 0.05 * (up @ down).to(weight.dtype)
                changed.append(name)
        assert len(changed) == (1 if "[0-9]" not in kind or "single" in kind else FLUX_BLOCKS)
        reason = describe_origin(pipe).reason
        assert any(f"but {name} differs" in reason for name in changed), kind
        pipe.transformer.load_state_dict(stored)
    known(pipe)


def test_every_depth_is_looked_at(snapshot: Path) -> None:
    """No block of the three can be another model's."""
    for block in range(FLUX_BLOCKS):
        pipe = load(snapshot)
        pipe.transformer.transformer_blocks[block].load_state_dict(
            randomised(make_pipe()).transformer.transformer_blocks[block].state_dict()
        )
        assert f"transformer_blocks.{block}." in unknown(pipe)


def test_few_matrices_of_many_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = load(put_snapshot(tmp_path, "org/model", SHA, make_flux(num_layers=12)))
    shapes = [tuple(w.shape) for w in pipe.transformer.state_dict().values() if w.ndim > 1]
    assert f"rows of {len(matrix_kinds())} of its {len(shapes)} " in known(pipe).reason
    monkeypatch.setattr(weights, "MOST_MATRICES", 1)
    assert f"rows of 1 of its {len(shapes)} " in known(pipe).reason
    # The kind that is left is the largest one: what is done to any other is not seen.
    largest = max(rows * columns for rows, columns in shapes)
    with torch.no_grad():
        for weight in pipe.transformer.parameters():
            weight += weight.numel() != largest
    known(pipe)
    assert unknown(randomised(pipe)).endswith(" differs from the files")


def test_layers_that_were_taken_away(snapshot: Path) -> None:
    pipe = load(snapshot)
    del pipe.transformer.transformer_blocks[1]
    assert "it has no transformer_blocks.2." in unknown(pipe)


def test_layers_that_were_added(snapshot: Path) -> None:
    pipe = load(snapshot)
    pipe.transformer.adapter = torch.nn.Linear(2, 2)
    assert "the files have no adapter.weight" in unknown(pipe)


def test_matrices_of_another_shape(snapshot: Path) -> None:
    pipe = load(snapshot)
    embedder = pipe.transformer.x_embedder
    embedder.weight = torch.nn.Parameter(embedder.weight[:-1].contiguous())
    assert "x_embedder.weight differs" in unknown(pipe)


# Snapshots that are not there, or not as they should be.


def test_a_snapshot_that_is_gone(own_snapshot: Path) -> None:
    pipe = load(own_snapshot)
    shutil.rmtree(own_snapshot)
    assert "the files to compare its weights with are gone" in unknown(pipe)


def break_link(file: Path) -> None:
    file.resolve().unlink()


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


@pytest.mark.parametrize("damage", [break_link, cut_off])
def test_files_that_cannot_be_read(own_snapshot: Path, damage: Callable[[Path], None]) -> None:
    pipe = load(own_snapshot)
    damage(own_snapshot / "transformer" / "diffusion_pytorch_model.safetensors")
    assert "diffusion_pytorch_model.safetensors cannot be read (" in unknown(pipe)


@pytest.mark.parametrize("index", ["{", "[]", "{}", '{"weight_map": [1]}'])
def test_an_index_that_cannot_be_read(tmp_path: Path, index: str) -> None:
    path = put_snapshot(tmp_path, "org/model", SHA, make_pipe(), max_shard_size="20KB")
    pipe = load(path)
    (path / "transformer" / "diffusion_pytorch_model.safetensors.index.json").write_text(index)
    assert "diffusion_pytorch_model.safetensors.index.json cannot be read (" in unknown(pipe)


def test_weights_that_would_have_to_be_unpickled(tmp_path: Path) -> None:
    path = put_snapshot(tmp_path, "org/model", SHA, make_pipe(), safe_serialization=False)
    pipe = load(path, use_safetensors=False)
    assert "there are no safetensors in its folder" in unknown(pipe)


# Weights that cannot be read.


def test_offloaded_weights(snapshot: Path) -> None:
    """As accelerate leaves them in sequential offloading."""
    pipe = load(snapshot)
    torch.nn.Module.to(pipe.transformer.single_transformer_blocks, "meta")
    count = sum(w.ndim > 1 for w in pipe.transformer.single_transformer_blocks.parameters())
    assert known(pipe).reason.endswith(f"; {count} more are offloaded and were not read")
    torch.nn.Module.to(pipe.transformer, "meta")
    assert "its weights are offloaded, so they cannot be compared" in unknown(pipe)


def test_group_offloaded_weights_are_read(snapshot: Path) -> None:
    pipe = load(snapshot)
    cpu = torch.device("cpu")
    pipe.transformer.enable_group_offload(cpu, cpu, offload_type="leaf_level")
    known(pipe)


# Adapters and quantisation.


def test_a_lora(snapshot: Path) -> None:
    pipe = load(snapshot)
    pipe.transformer.peft_config = {"default": object()}
    assert unknown(pipe) == "a LoRA or other adapter is loaded into its transformer"
    pipe.transformer.peft_config = {}
    known(pipe)


def test_a_fused_lora(snapshot: Path) -> None:
    """Its adapter may be unloaded again; the pipeline remembers."""
    pipe = load(snapshot)
    pipe._merged_adapters = {"default"}
    assert unknown(pipe) == "a LoRA is fused into it"


def test_a_lora_by_peft(snapshot: Path) -> None:
    peft = pytest.importorskip("peft")
    pipe = load(snapshot)
    config = peft.LoraConfig(r=1, target_modules=["to_q"], init_lora_weights=False)
    pipe.transformer.add_adapter(config)
    assert unknown(pipe) == "a LoRA or other adapter is loaded into its transformer"
    pipe.fuse_lora(components=["transformer"])
    pipe.unload_lora_weights()
    assert unknown(pipe) == "a LoRA is fused into it"
    pipe = load(snapshot)
    pipe.transformer.add_adapter(config)
    pipe.unload_lora_weights()
    known(pipe)


@pytest.mark.parametrize("attribute", ["is_quantized", "hf_quantizer", "_is_quantized"])
def test_a_quantiser_that_left_its_mark(snapshot: Path, attribute: str) -> None:
    pipe = load(snapshot)
    setattr(pipe.transformer, attribute, object())
    assert unknown(pipe) == "its transformer is quantised"


def test_weights_of_a_byte_each(snapshot: Path) -> None:
    pipe = load(snapshot)
    pipe.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
    reason = "its transformer is quantised (it has weights of torch.float8_e4m3fn)"
    assert unknown(pipe) == reason


class Packed(torch.Tensor):
    """A tensor of a class of its own, as those that torchao puts in."""


def test_weights_of_a_class_of_their_own(snapshot: Path) -> None:
    pipe = load(snapshot)
    layer = pipe.transformer.x_embedder
    layer.weight = torch.nn.Parameter(layer.weight.detach().as_subclass(Packed))
    assert "(it has weights of type Packed)" in unknown(pipe)


# What is said wins.


def test_what_the_user_says_wins(snapshot: Path) -> None:
    pipe = load(snapshot)
    pipe.transformer.peft_config = {"default": object()}
    for each in (pipe, load(snapshot), make_pipe()):
        origin = find_origin(each, "my/model", "v1.0")
        assert (origin.model, origin.revision) == ("my/model", "v1.0")


@pytest.mark.parametrize("given", ["model", "revision"])
def test_model_and_revision_go_together(snapshot: Path, given: str) -> None:
    missing = {"model": "revision", "revision": "model"}[given]
    with pytest.raises(ArgumentError, match=f"{missing}=None: .* go together.* Pass {missing}="):
        find_origin(load(snapshot), **{given: "something"})


def test_a_pipeline_states_its_own_model() -> None:
    pipe = otcache_plugin.load_exact_flow_pipeline(ExactFlowSettings(scenes=20))
    found = describe_origin(pipe)
    assert (found.model, found.revision) == pipe.otcache_model
    assert found.reason == find_origin(pipe).reason == "stated by the pipeline"
    assert [each.name for each in found.denoisers] == ["transformer"]
    pipe.transformer.is_quantized = True
    assert unknown(pipe) == "its transformer is quantised"


def test_the_embedded_pipeline_with_an_adapter_states_nothing() -> None:
    pipe = otcache_plugin.load_embedded_pipeline()
    assert describe_origin(pipe).model == "embedded"
    pipe.transformer.peft_config = {"default": object()}
    assert unknown(pipe) == "a LoRA or other adapter is loaded into its transformer"


# Two transformers.


@pytest.fixture
def wan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """Make a Wan 2.2 pipeline of transformers that were loaded from two commits."""
    # What stays in float32 is only loaded with accelerate, and none of these weights is in less.
    monkeypatch.setattr(WanTransformer3DModel, "_keep_in_fp32_modules", None)
    seeds = itertools.count(1)

    def make(*commits: tuple[str, str]) -> Any:
        snapshots = {
            commit: put_snapshot(tmp_path, *commit, randomised(make_wan(), next(seeds)))
            for commit in dict.fromkeys(commits)
        }
        first, second = (snapshots[commit] for commit in commits)
        return WanPipeline.from_pretrained(
            first,
            vae=None,
            text_encoder=None,
            tokenizer=None,
            transformer_2=WanTransformer3DModel.from_pretrained(second / "transformer_2"),
        )

    return make


def test_both_transformers_of_one_commit(wan: Callable[..., Any]) -> None:
    pipe = wan(("org/model", SHA), ("org/model", SHA))
    found = known(pipe)
    assert [each.name for each in found.denoisers] == ["transformer", "transformer_2"]
    assert {(each.model, each.revision) for each in found.denoisers} == {("org/model", SHA)}
    with torch.no_grad():
        pipe.transformer_2.proj_out.weight += 1
    reason = unknown(pipe)
    assert "its transformer_2 claims to be" in reason
    assert "its transformer " not in reason
    assert [each.model for each in describe_origin(pipe).denoisers] == ["org/model", None]


def test_transformers_of_two_commits(wan: Callable[..., Any]) -> None:
    pipe = wan(("org/model", SHA), ("org/model", OTHER_SHA))
    reason = unknown(pipe)
    assert f"its transformer is of org/model at {SHA}" in reason
    assert f"its transformer_2 is of org/model at {OTHER_SHA}" in reason
    found = [(each.model, each.revision) for each in describe_origin(pipe).denoisers]
    assert found == [("org/model", SHA), ("org/model", OTHER_SHA)]


def test_a_second_transformer_of_another_model(wan: Callable[..., Any]) -> None:
    pipe = wan(("org/model", SHA), ("someone/fork", SHA))
    assert unknown(pipe) == "its transformer_2 is of someone/fork, but the pipeline of org/model"


def test_one_transformer_in_both_places(wan: Callable[..., Any]) -> None:
    pipe = wan(("org/model", SHA), ("org/model", SHA))
    pipe.transformer_2 = pipe.transformer
    assert unknown(pipe) == "its transformer_2 was loaded on its own, from transformer of org/model"
