"""What is said of an origin: a model revision, and how or why not it was concluded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelOrigin:
    """A model revision, and how it was concluded.

    Attributes:
        model: Hub id, or the name of a model that ships with this package.
        revision: commit sha, or what stands for it.
        reason: what it was concluded from, for people.
    """

    model: str
    revision: str
    reason: str


@dataclass(frozen=True)
class DenoiserOrigin:
    """What was concluded of one denoiser of a pipeline.

    Attributes:
        name: the pipeline's attribute that holds it.
        path: where its config says that it was loaded from; may be empty.
        model: Hub id; None when unknown.
        revision: commit sha; None when unknown.
        reason: what it was concluded from, or why it is unknown, for people.
    """

    name: str
    path: str
    model: str | None
    revision: str | None
    reason: str


@dataclass(frozen=True)
class OriginFinding:
    """What was concluded of a pipeline; model and revision are None together.

    Attributes:
        model: Hub id, or the name of a model that ships with this package; None when unknown.
        revision: commit sha, or what stands for it; None when unknown.
        reason: what it was concluded from, or why it is unknown, for people.
        denoisers: the same of each of its denoisers.
    """

    model: str | None
    revision: str | None
    reason: str
    denoisers: tuple[DenoiserOrigin, ...]

    def __str__(self) -> str:
        if self.model is None:
            return f"unknown: {self.reason}"
        return f"model {self.model} at revision {self.revision}: {self.reason}"
