"""The policy document that `policy=` stands for: named by the user, or found for the pipeline."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otcache_policies.warning import warn_caller
from otcache_registry import DocumentNotFoundError, StoredPolicy
from otcache_registry.documents.references import parse_reference
from otcache_registry.finding.loading import load_reference
from otcache_registry.finding.resolving import OtherRevisionWarning, resolve
from otcache_registry.hub.client import HubClient
from otcache_registry.hub.environment import namespaces, offline
from otcache_registry.store.store import PolicyStore

from otcache_plugin.enabling.without_document import ways_on
from otcache_plugin.origins.finding import claimed_model, describe_origin, find_origin
from otcache_plugin.origins.origin import ModelOrigin
from otcache_plugin.pipelines.call_arguments import run_setup

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from diffusers import DiffusionPipeline
    from otcache_registry.finding.candidates import Candidate
    from otcache_registry.finding.nearest import RunSetup

    from otcache_plugin.enabling.wanted import Wanted

__all__ = ["FoundDocument", "OtherModelWarning", "find_document", "open_document", "usual_run"]


class OtherModelWarning(UserWarning):
    """A policy is used that was calibrated on another model."""


@dataclass(frozen=True)
class FoundDocument:
    """A document to use.

    Attributes:
        stored: the document.
        notes: what users should know of how it was found.
        others: documents that would do as well, of which a run may take one that is nearer to it.
    """

    stored: StoredPolicy
    notes: tuple[str, ...] = ()
    others: tuple[Candidate, ...] = ()


def find_document(
    pipe: DiffusionPipeline, policies: Sequence[str], to_calibrate: str | None, wanted: Wanted
) -> FoundDocument:
    """Find a policy's document for a pipeline's model revision: in the store, bundled, on the Hub.

    Args:
        pipe: the pipeline.
        policies: names of the policy, and of those whose documents it can be made from as well.
        to_calibrate: the one of them to calibrate where there is no document, if any.
        wanted: what the user says.

    Raises:
        ArgumentError: only one of model and revision is given.
        DocumentNotFoundError: there is none, or the pipeline's origin is unknown; it says what
            works now, and how one is made.
        PipelineError: there is none, and the pipeline could not run one either.
        OTCacheError: whatever keeps the one that there is from being read.
    """
    try:
        return _found(pipe, policies, wanted)
    except DocumentNotFoundError as error:
        remedy = f"{error.remedy.rstrip('.')}. {ways_on(pipe, to_calibrate, wanted)}"
        raise DocumentNotFoundError(error.field, error.value, error.problem, remedy) from error


def usual_run(pipe: DiffusionPipeline, wanted: Wanted) -> RunSetup:
    """Return the usual run of a pipeline, as far as the user says what it is made on."""
    usual = run_setup(pipe, kwargs=wanted.call_arguments)
    return replace(usual, executor=wanted.executor, calibrator=wanted.calibrator)


def _found(pipe: DiffusionPipeline, policies: Sequence[str], wanted: Wanted) -> FoundDocument:
    origin = find_origin(pipe, wanted.model, wanted.revision)
    resolved = resolve(
        policies,
        origin.model,
        origin.revision,
        store=PolicyStore(),
        client_factory=HubClient,
        namespaces=namespaces(),
        offline=offline(),
        near=usual_run(pipe, wanted),
        allow_other_revision=wanted.allow_other_revision,
        remember=wanted.hub_answers,
    )
    return FoundDocument(resolved.policy, resolved.notes, resolved.others)


def open_document(pipe: DiffusionPipeline, named: str | Path, wanted: Wanted) -> FoundDocument:
    """Read the document of a folder, `bundled:NAME` or `hub:user/name[@revision][#folder]`.

    Raises:
        DocumentNotFoundError: there is none, or it is of another model, or another revision, than
            the pipeline's, and that was not allowed.
        OTCacheError: whatever keeps it from being read.
    """
    origin = _known_origin(pipe, wanted)
    reference = parse_reference(str(named))
    stored = load_reference(reference, model_revision=origin.revision if origin else None)
    model = stored.document.model.id
    claimed = claimed_model(pipe) if origin is None else origin.model
    if claimed is None:
        note = f"It is unknown whether this pipeline is of {model}, which the policy is for."
        return FoundDocument(stored, (note,))
    if claimed != model:
        _check_model(stored, claimed, wanted)
    elif origin is not None:
        _check_revision(stored, origin, wanted)
    return FoundDocument(stored)


def _known_origin(pipe: DiffusionPipeline, wanted: Wanted) -> ModelOrigin | None:
    """Return the origin, None where unknown: who names a document need not say the model too."""
    if wanted.model is not None or wanted.revision is not None:
        return find_origin(pipe, wanted.model, wanted.revision)
    found = describe_origin(pipe)
    if found.model is None or found.revision is None:
        return None
    return ModelOrigin(found.model, found.revision, found.reason)


def _check_model(stored: StoredPolicy, model: str, wanted: Wanted) -> None:
    """Refuse a document of another model, or warn where it is allowed.

    On average it does worse than none.
    """
    problem = f"{stored.source} was calibrated on {stored.document.model.id}, another model"
    if not wanted.allow_other_model:
        remedy = (
            "Use policy='uniform', which such documents fall behind, or calibrate one for this "
            "model. Where both are the same, say model= and revision= as the document does; "
            "allow_other_model=True takes it all the same"
        )
        raise DocumentNotFoundError("model", model, problem, remedy)
    warn_caller(
        f"{problem} than {model}: expect it to do worse than policy='uniform'.", OtherModelWarning
    )


def _check_revision(stored: StoredPolicy, origin: ModelOrigin, wanted: Wanted) -> None:
    """Refuse a document of another revision, or warn where it is allowed."""
    model = stored.document.model
    if model.revision in (None, origin.revision):
        return
    problem = (
        f"{stored.source} was calibrated on revision {model.revision} of {model.id}, and the "
        f"pipeline is of revision {origin.revision} ({origin.reason})"
    )
    if not wanted.allow_other_revision:
        remedy = "Pass allow_other_revision=True to use it all the same, or calibrate this revision"
        raise DocumentNotFoundError("revision", origin.revision, problem, remedy)
    warn_caller(f"{problem}: its figures need not hold.", OtherRevisionWarning)
