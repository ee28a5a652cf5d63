"""Errors of the registry: documents that are not there, and documents that cannot be used."""

from __future__ import annotations

from otcache_policies import FieldError

__all__ = ["DocumentError", "DocumentNotFoundError"]


class DocumentError(FieldError):
    """A policy document whose content is invalid or whose files are damaged.

    `field` is the dotted path of the field, such as `anchor.computed_steps`, or a file's name.
    """


class DocumentNotFoundError(FieldError, LookupError):
    """No policy document at a path, or none for a model."""
