"""Set-ups of models that do not ship with the package: from the Hub or a local folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import is_accelerate_available
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from otcache_plugin.errors import ArgumentError
from otcache_plugin.models.naming import no_model, require_model_name
from otcache_plugin.models.precision import convert
from otcache_plugin.models.setups import LARGE_MODEL, ModelSetup
from otcache_plugin.origins.finding import find_origin
from otcache_plugin.origins.origin import ModelOrigin
from otcache_plugin.pipelines.call_arguments import is_guidance
from otcache_plugin.prompts.files import (
    Prompts,
    calibration_prompts,
    evaluation_prompts,
    read_prompts,
    require_disjoint,
)

HUB_CLIENTS = ("huggingface_hub", "httpx", "httpx2", "requests")
"""Whose errors say that the Hub gave no answer: its client's, and what its versions stand on."""

SET_BY_CALIBRATIONS = {"prompt", "generator", "latents", "num_inference_steps", "output_type"}


def load_pretrained_setup(
    model: str,
    revision: str | None,
    prompts: Path | None,
    call_arguments: str,
    evaluation: Path | None = None,
) -> ModelSetup:
    """Load a pipeline to calibrate, in half precision on a GPU when there is one.

    Args:
        model: Hub id, or a folder that `save_pretrained` wrote.
        revision: commit sha on the Hub; for a folder, what the document shall call its weights.
        prompts: file of prompts to calibrate on; None for those that ship with the package.
        call_arguments: JSON object of further arguments of every pipeline call.
        evaluation: file of held-out prompts; likewise.

    Raises:
        ArgumentError: a file or value cannot be used, a prompt is in both files, or the model
            cannot be loaded.
        DocumentNotFoundError: the model's revision is unknown.
    """
    is_folder = Path(model).is_dir()
    require_model_name(model)
    to_calibrate, held_out = _read_both(prompts, evaluation)
    arguments = _parse_call_arguments(call_arguments)
    pipe = _loaded(model, None if is_folder else revision)
    return ModelSetup(
        model,
        pipe,
        arguments,
        {name: float(value) for name, value in arguments.items() if is_guidance(name, value)},
        to_calibrate.texts,
        held_out.texts,
        _origin(pipe, model, revision, is_folder),
        LARGE_MODEL,
    )


def _loaded(model: str, revision: str | None) -> DiffusionPipeline:
    """Return the pipeline, in half precision on a GPU when there is one.

    Raises:
        ArgumentError: it cannot be loaded.
    """
    on_gpu = torch.cuda.is_available()
    try:
        pipe = DiffusionPipeline.from_pretrained(
            model,
            revision=revision,
            low_cpu_mem_usage=is_accelerate_available(),
            # Newer versions call it dtype, and know this name until 1.0.
            **({"torch_dtype": torch.bfloat16} if on_gpu else {}),
        )
    except (OSError, ValueError) as error:
        # Parts of a transformer that stay in float32, as Wan's do, are only loaded by it.
        if "low_cpu_mem_usage" in str(error):
            raise ArgumentError(
                "model",
                model,
                f"diffusers does not load it without accelerate ({error})",
                "Run: pip install accelerate",
            ) from error
        raise _not_loaded(model, error) from error
    if not on_gpu:
        convert(pipe, torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to("cuda" if on_gpu else "cpu")


def _not_loaded(model: str, error: OSError | ValueError) -> ArgumentError:
    """Return why diffusers gave up; of what the Hub said it tells no more than to see the cause."""
    said = error if isinstance(error, HfHubHTTPError) else error.__cause__
    if isinstance(said, GatedRepoError):
        problem = "its authors give it to those alone who accept its licence"
        remedy = f"Accept it at https://huggingface.co/{model}, then run: hf auth login"
    elif isinstance(said, RepositoryNotFoundError):
        problem = "no such model on the Hub, or a private one"
        remedy = "Check its name; for a private one run: hf auth login"
    elif type(said).__module__.partition(".")[0] in HUB_CLIENTS:
        (reason, *_) = str(said).splitlines() or [type(said).__name__]
        problem = f"it is not downloaded yet, and the Hub cannot be reached ({reason})"
        remedy = "Check the connection, HF_ENDPOINT and HF_HUB_OFFLINE, or pass a pipeline's folder"
    else:
        return no_model(model, f"it cannot be loaded ({error})")
    return ArgumentError("model", model, problem, remedy)


def _read_both(calibration: Path | None, evaluation: Path | None) -> tuple[Prompts, Prompts]:
    to_calibrate = (
        read_prompts(calibration, "prompts") if calibration is not None else calibration_prompts()
    )
    held_out = (
        read_prompts(evaluation, "evaluation_prompts")
        if evaluation is not None
        else evaluation_prompts()
    )
    require_disjoint(to_calibrate, held_out)
    return to_calibrate, held_out


def _parse_call_arguments(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except json.JSONDecodeError as error:
        arguments = error
    if not isinstance(arguments, dict):
        raise ArgumentError(
            "call",
            text,
            "not a JSON object",
            """Pass such as '{"height": 1024, "width": 1024, "guidance_scale": 3.5}'""",
        )
    for name in SET_BY_CALIBRATIONS & arguments.keys():
        raise ArgumentError(
            f"call.{name}", arguments[name], "the calibration sets it itself", "Leave it out"
        )
    return arguments


def _origin(
    pipe: DiffusionPipeline, model: str, revision: str | None, is_folder: bool
) -> ModelOrigin:
    if is_folder and revision is not None:
        return find_origin(pipe, model, revision)
    return find_origin(pipe)
