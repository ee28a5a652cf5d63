"""Where a set-up comes from, in a form that can be sent to another process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from otcache_plugin.errors import ArgumentError
from otcache_plugin.models.naming import require_model_name

if TYPE_CHECKING:
    from otcache_plugin.models.setups import ModelSetup, SetupDefaults


@dataclass(frozen=True)
class ModelSource:
    """Where a set-up comes from; small and picklable, so that workers can load it themselves.

    Attributes:
        model: a model that ships with the package, a Hub id or a folder.
        revision: commit of the weights, or what to call a folder's.
        prompts: file of prompts to calibrate on, instead of the package's.
        evaluation_prompts: file of held-out prompts, likewise.
        call: JSON object of further arguments of every pipeline call.
        free_text_encoders: whether the text encoders are to go once all prompts are encoded.
    """

    model: str
    revision: str | None = None
    prompts: Path | None = None
    evaluation_prompts: Path | None = None
    call: str = "{}"
    free_text_encoders: bool = False

    def load(self) -> ModelSetup:
        """Load the model; prompts are read and checked before.

        Raises:
            ArgumentError: a file or value cannot be used or is not for this model, or the model
                cannot be loaded.
            DocumentNotFoundError: the model's revision is unknown.
        """
        from otcache_plugin.models.setups import SETUPS, load_setup

        self.check()
        if self.model in SETUPS:
            setup = load_setup(self.model)
        else:
            # It brings PyTorch with it, which a process that only sends this does without.
            from otcache_plugin.models.pretrained import load_pretrained_setup

            setup = load_pretrained_setup(
                self.model, self.revision, self.prompts, self.call, self.evaluation_prompts
            )
        return replace(setup, free_text_encoders=self.free_text_encoders)

    @property
    def defaults(self) -> SetupDefaults:
        """How this model is calibrated unless it is said otherwise."""
        from otcache_plugin.models.setups import LARGE_MODEL, SETUPS, SMALL_MODEL

        return SMALL_MODEL if self.model in SETUPS else LARGE_MODEL

    def check(self) -> None:
        """Refuse what names no model, or is fixed for one of the package's; loads nothing.

        Raises:
            ArgumentError: something of that was given.
        """
        from otcache_plugin.models.setups import SETUPS

        if self.model not in SETUPS:
            require_model_name(self.model)
            return
        given = {
            "revision": self.revision,
            "prompts": self.prompts,
            "evaluation_prompts": self.evaluation_prompts,
            "call": None if self.call == "{}" else self.call,
        }
        for name, value in given.items():
            if value is not None:
                raise ArgumentError(
                    name,
                    str(value),
                    f"{self.model} ships with its weights, its captions and how it is called",
                    "Leave it out, or pass a Hub id or a folder as the model",
                )
