"""The card of a policy repository: its documents in one table, and the newest of them in full.

It is written anew with every document that is published, from the documents alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from otcache_registry.documents.card import render_card
from otcache_registry.documents.details import Describe, undescribed
from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.evidence import headline
from otcache_registry.documents.files import CARD_FILE, FIGURES_FOLDER
from otcache_registry.documents.markdown import escaped
from otcache_registry.documents.names import is_hub_id
from otcache_registry.documents.references import HubReference

__all__ = ["IndexEntry", "calibrated_at", "render_index"]

_SECTION = re.compile(r"^(?=## )", re.MULTILINE)
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class IndexEntry:
    """A document of the repository.

    Attributes:
        folder: Its folder in the repository.
        document: The document.
        figures: Names of the files in its folder of figures.
    """

    folder: str
    document: PolicyDocument
    figures: Collection[str]


def calibrated_at(document: PolicyDocument) -> datetime:
    """Return when a document was calibrated; before all others where others published it."""
    calibration = document.calibration
    return _NEVER if calibration is None else datetime.fromisoformat(calibration.created)


def render_index(
    repository: str, entries: Sequence[IndexEntry], describe: Describe = undescribed
) -> str:
    """Return the card, with the Hub's YAML front matter, ending in a newline.

    Args:
        repository: Name of the repository, "user/name".
        entries: Its documents, at least one.
        describe: Says what belongs to their policies.
    """
    from huggingface_hub import ModelCard

    newest = max(entries, key=lambda entry: (calibrated_at(entry.document), entry.folder))
    document = newest.document
    card = ModelCard(render_card(document, newest.figures, describe(document)))
    models = sorted({entry.document.model.id for entry in entries})
    card.data["base_model"] = [model for model in models if is_hub_id(model)] or None
    sections = (
        f"---\n{card.data.to_yaml()}\n---",
        _introduction(models),
        _use(repository, newest, entries),
        _table(entries),
        _in_full(newest, card.text),
    )
    return "\n\n".join(sections) + "\n"


def _introduction(models: Sequence[str]) -> str:
    return f"""# Cache schedules for {", ".join(map(escaped, models))}

Policy documents of otcache. They hold no weights and no code. This page is written anew with \
every document that is published."""


def _use(repository: str, newest: IndexEntry, entries: Sequence[IndexEntry]) -> str:
    # One document needs no name; of several it is said which.
    policy = HubReference(repository, folder=newest.folder if len(entries) > 1 else None)
    return f"""## Use

```python
import cache_dit
import otcache_plugin
cache_dit.enable_cache(pipe, policy="{policy}")
```"""


def _table(entries: Sequence[IndexEntry]) -> str:
    by_place = sorted(entries, key=lambda entry: (entry.document.model.id, entry.folder))
    return "\n".join(
        [
            "## Documents",
            "",
            "| Model | Revision | Policy | Steps | Calibrated at | Evidence | |",
            "|---|---|---|---:|---|---|---|",
            *map(_row, by_place),
        ]
    )


def _row(entry: IndexEntry) -> str:
    document = entry.document
    cells = (
        escaped(document.model.id),
        escaped(document.model.revision or "any"),
        escaped(document.policy.name),
        str(document.num_inference_steps),
        ", ".join(map(str, document.calibrated_budgets)),
        _measured(document),
        f"[document]({entry.folder}/{CARD_FILE})",
    )
    return f"| {' | '.join(cells)} |"


def _measured(document: PolicyDocument) -> str:
    """Return the evidence nearest to what a run gets that asks for no budget."""
    rows = headline(document)
    if not rows:
        return "none"
    row = rows[0]
    return (
        f"{escaped(row.metric)} {row.mean:.4g} ± {row.standard_error:.2g} "
        f"at {row.budget} steps, {row.pairs} pairs"
    )


def _in_full(newest: IndexEntry, card: str) -> str:
    """Return a document's card as a part of this one: without its use, and with paths from here."""
    first, *others = _SECTION.split(card.strip())
    kept = [first, *(section for section in others if not section.startswith("## Use"))]
    text = "".join(kept).replace(f"]({FIGURES_FOLDER}/", f"]({newest.folder}/{FIGURES_FOLDER}/")
    return re.sub(r"^(?=#+ )", "#", text, flags=re.MULTILINE).strip()
