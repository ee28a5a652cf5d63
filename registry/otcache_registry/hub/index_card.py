"""The card of a policy repository: its documents in one table, and the newest of them in full.

It is written anew with every document that is published, from the documents alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from otcache_registry.documents.card import render_card
from otcache_registry.documents.details import Describe, undescribed
from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.evidence import headline
from otcache_registry.documents.files import CARD_FILE, FIGURES_FOLDER
from otcache_registry.documents.markdown import escaped
from otcache_registry.documents.names import is_hub_id
from otcache_registry.documents.references import HubReference
from otcache_registry.hub.index import INDEX_KEY, IndexedDocument

__all__ = ["IndexEntry", "UnreadEntry", "calibrated_at", "listed_before", "render_index"]

_SECTION = re.compile(r"^(?=## )", re.MULTILINE)
_NEWEST = "The document calibrated last"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class IndexEntry:
    """A document of the repository.

    Attributes:
        folder: Its folder in the repository.
        document: The document.
        sha256: SHA-256 of its policy.json.
        figures: Names of the files in its folder of figures.
    """

    folder: str
    document: PolicyDocument
    sha256: str
    figures: Collection[str]


@dataclass(frozen=True)
class UnreadEntry:
    """A document of the repository that this version cannot read.

    Attributes:
        folder: Its folder in the repository.
        listed: What the card said of it before, None where it said nothing.
    """

    folder: str
    listed: Mapping[str, Any] | None


def calibrated_at(document: PolicyDocument) -> datetime:
    """Return when a document was calibrated; before all others where others published it."""
    calibration = document.calibration
    return _NEVER if calibration is None else datetime.fromisoformat(calibration.created)


def listed_before(card: bytes) -> dict[str, Mapping[str, Any]]:
    """Return what a card says of documents, by their folder; nothing where it cannot be read."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    try:
        listed = ModelCard(card.decode(), ignore_metadata_errors=True).data.get(INDEX_KEY) or ()
        return {str(each["folder"]): each for each in listed}
    except (YAMLError, ValueError, LookupError, TypeError, RecursionError):
        return {}


def render_index(
    repository: str,
    entries: Sequence[IndexEntry],
    describe: Describe = undescribed,
    unread: Sequence[UnreadEntry] = (),
) -> str:
    """Return the card, with the Hub's YAML front matter, ending in a newline.

    Args:
        repository: Name of the repository, "user/name".
        entries: Its documents, at least one.
        describe: Says what belongs to their policies.
        unread: Its documents that this version cannot read: they stay listed.
    """
    from huggingface_hub import ModelCard

    newest = max(entries, key=lambda entry: (calibrated_at(entry.document), entry.folder))
    document = newest.document
    card = ModelCard(render_card(document, newest.figures, describe(document)))
    models = sorted({entry.document.model.id for entry in entries})
    others = [dict(each.listed) for each in unread if each.listed is not None]
    found_by = {*models, *(str(each.get("model", "")) for each in others)}
    card.data["base_model"] = sorted(model for model in found_by if is_hub_id(model)) or None
    own = [IndexedDocument.of(entry.document, entry.sha256).to_dict() for entry in entries]
    card.data[INDEX_KEY] = sorted([*own, *others], key=lambda listed: str(listed["folder"]))
    sections = (
        f"---\n{card.data.to_yaml()}\n---",
        _introduction(models),
        _use(repository, newest, len(entries) + len(unread)),
        _table(entries, unread),
        _in_full(newest, card.text),
    )
    return "\n\n".join(sections) + "\n"


def _introduction(models: Sequence[str]) -> str:
    return f"""# Cache schedules for {", ".join(map(escaped, models))}

Policy documents of otcache. They hold no weights and no code. This page is written anew with \
every document that is published."""


def _use(repository: str, newest: IndexEntry, documents: int) -> str:
    # One document needs no name; of several it is said which. The commit that has this page has no
    # name yet, and a name without one would mean another document after the next push.
    policy = HubReference(repository, "COMMIT", newest.folder if documents > 1 else None)
    return f"""## Use

```python
import cache_dit
import otcache_plugin
cache_dit.enable_cache(pipe, policy="{policy}")
```

COMMIT stands for the 40 digits of a commit of this repository, which name the same document for \
ever: `otcache pull {repository}` prints them."""


def _table(entries: Sequence[IndexEntry], unread: Sequence[UnreadEntry]) -> str:
    by_place = sorted(entries, key=lambda entry: (entry.document.model.id, entry.folder))
    return "\n".join(
        [
            "## Documents",
            "",
            "| Model | Revision | Policy | Steps | Calibrated at | Evidence | |",
            "|---|---|---|---:|---|---|---|",
            *map(_row, by_place),
            *(
                f"| | | | | | written by a newer version | [document]({each.folder}/{CARD_FILE}) |"
                for each in sorted(unread, key=lambda each: each.folder)
            ),
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
    _, _, introduction = first.partition("\n")  # Its title is this card's, too.
    kept = [section for section in others if not section.startswith("## Use")]
    text = "".join([f"# {_NEWEST}\n{introduction}", *kept]).replace(
        f"]({FIGURES_FOLDER}/", f"]({newest.folder}/{FIGURES_FOLDER}/"
    )
    return re.sub(r"^(?=#+ )", "#", text, flags=re.MULTILINE).strip()
