"""What a README.md says of its repository in its front matter, and what the Hub makes of it."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

FRONT_MATTER = re.compile(r"\A\s*---[\r\n]+(.*?)[\r\n]+---(?:\r?\n|\Z)", re.DOTALL)
MODEL_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
RELATIONS = ("adapter", "finetune", "merge", "quantized")
LICENSES = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m
    bigscience-bloom-rail-1.0 bigscience-openrail-m bsd bsd-2-clause bsd-3-clause
    bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
    cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0
    epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl
    gpl gpl-2.0 gpl-3.0 h-research intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2
    llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1
    openmdw-1.0 openrail openrail++ osl-3.0 other pddl postgresql unknown unlicense wtfpl zlib
    """


def front_matter(readme: bytes) -> dict[str, Any]:
    """The metadata of a README; empty without any, or when it is not a mapping in YAML."""
    return _front_matter(readme)


@functools.lru_cache(maxsize=10_000)
def _front_matter(readme: bytes) -> dict[str, Any]:
    block = FRONT_MATTER.search(readme.decode("utf-8", "replace").removeprefix("\ufeff"))
    if block is None:
        return {}
    try:
        value = yaml.load(block[1], LOADER)  # A safe one.
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}


def validate(readme: str) -> tuple[list[str], list[str]]:
    """The errors and the warnings of a README's front matter."""
    block = FRONT_MATTER.search(readme.removeprefix("\ufeff"))
    if block is None:
        return [], ["empty or missing yaml metadata in repo card"]
    try:
        card = yaml.safe_load(block[1])
    except yaml.YAMLError as error:
        return [f"Bad YAML: {error}"], []
    if card is None:
        return [], ["empty or missing yaml metadata in repo card"]
    if not isinstance(card, dict):
        return ["YAML metadata must be an object"], []
    return [*_errors(card)], []


def _errors(card: Mapping[str, Any]) -> list[str]:
    errors = []
    for name in ("tags", "datasets", "metrics"):
        value = card.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            errors.append(f'"{name}" must be an array of strings')
    for name in ("library_name", "pipeline_tag"):
        if not isinstance(card.get(name, ""), str):
            errors.append(f'"{name}" must be a string')
    for licence in _strings(card.get("license")):
        if licence not in LICENSES.split():
            errors.append(f'"license" must be one of {LICENSES.split()}')
    for model in _strings(card.get("base_model")):
        if not MODEL_ID.fullmatch(model):
            errors.append(
                f'"base_model" with value "{model}" is not valid.'
                " Use a model id from https://hf.co/models."
            )
    if card.get("base_model_relation", "finetune") not in RELATIONS:
        errors.append(f'"base_model_relation" must be one of {list(RELATIONS)}')
    return errors


def _strings(value: Any) -> list[str]:
    """What may be one or several, as several."""
    if value is None:
        return []
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def library_name(card: Mapping[str, Any], paths: Mapping[str, object]) -> str | None:
    """The library that the card names, or the one that the files are for."""
    if "library_name" in card:
        return str(card["library_name"])
    return "diffusers" if "model_index.json" in paths else None


def base_models(card: Mapping[str, Any], paths: Mapping[str, object]) -> tuple[str, list[str]]:
    """How a model came from others, guessed as the Hub does where the card does not say; which."""
    models = _strings(card.get("base_model"))
    if "base_model_relation" in card:
        return str(card["base_model_relation"]), models
    if len(models) > 1:
        return "merge", models
    return ("adapter" if "adapter_config.json" in paths else "finetune"), models


def config(files: Mapping[str, bytes]) -> dict[str, Any]:
    """What the Hub reads from a pipeline's files."""
    if "model_index.json" not in files:
        return {}
    return {"diffusers": {"_class_name": json.loads(files["model_index.json"]).get("_class_name")}}


def tags(card: Mapping[str, Any], files: Mapping[str, bytes]) -> list[str]:
    """What a repository is found by: `filter` of a search names some of them."""
    relation, models = base_models(card, files)
    library, pipeline = library_name(card, files), config(files).get("diffusers")
    found = [
        *([library] if library else []),
        *(["safetensors"] if any(path.endswith(".safetensors") for path in files) else []),
        *_strings(card.get("pipeline_tag")),
        *_strings(card.get("tags")),
        *_strings(card.get("language")),
        *(f"dataset:{dataset}" for dataset in _strings(card.get("datasets"))),
        *(f"base_model:{model}" for model in models),
        *(f"base_model:{relation}:{model}" for model in models),
        *(f"license:{licence}" for licence in _strings(card.get("license"))),
        *([f"diffusers:{pipeline['_class_name']}"] if pipeline else []),
        "region:us",
    ]
    return list(dict.fromkeys(found))
