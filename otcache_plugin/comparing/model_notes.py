"""What a reader of a report has to know of a model that ships with the package, or of another."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ModelNotes", "notes_of"]

IMPORTS = "import cache_dit\nimport otcache_plugin\n"


@dataclass(frozen=True)
class ModelNotes:
    """What there is to know.

    Attributes:
        what: it is, to follow "the model is"; empty where only its user knows.
        speed: what its speed-ups are worth, a sentence, likewise.
        load: the lines that load its pipeline.
    """

    what: str
    speed: str
    load: str


SHIPPED = {
    "embedded": ModelNotes(
        "a small FLUX pipeline of 32 × 32 scenes, trained for this package and shipped with it: a "
        "toy with a real transformer, autoencoder and text encoders",
        "On a large model the transformer takes a larger share of the time, and the speed-up comes "
        "nearer to its limit.",
        f"{IMPORTS}\npipe = otcache_plugin.load_embedded_pipeline()",
    ),
    "exact-flow": ModelNotes(
        "a test-bed of 32 × 32 scenes whose velocity is known in closed form: a formula in the "
        "place of a transformer, nothing trained",
        "The formula costs hardly more than the rest of a step, so skipping it gains little time; "
        "the embedded model's times say more.",
        f"{IMPORTS}\npipe = otcache_plugin.load_exact_flow_pipeline()",
    ),
}


def notes_of(model: str) -> ModelNotes:
    """Return what there is to know of a model."""
    if model in SHIPPED:
        return SHIPPED[model]
    imports = f"{IMPORTS}from diffusers import DiffusionPipeline\n"
    return ModelNotes("", "", f"{imports}\npipe = DiffusionPipeline.from_pretrained({model!r})")
