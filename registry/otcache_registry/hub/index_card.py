"""The card of a policy repository: its documents in one table, and the one published last in full.

It is written anew with every document that is published: from that, and from what the card before
lists of the others.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otcache_registry.documents.card import render_card
from otcache_registry.documents.details import Describe, undescribed
from otcache_registry.documents.document import PolicyDocument
from otcache_registry.documents.files import CARD_FILE, FIGURES_FOLDER
from otcache_registry.documents.markdown import escaped
from otcache_registry.documents.names import is_hub_id
from otcache_registry.documents.references import HubReference
from otcache_registry.hub.index import INDEX_KEY, IndexedDocument

__all__ = ["IndexEntry", "UnreadEntry", "listed_before", "render_index"]

_SECTION = re.compile(r"^(?=## )", re.MULTILINE)
_LAST = "The document published last"


@dataclass(frozen=True)
class IndexEntry:
    """The document that is published.

    Attributes:
        document: The document.
        listed: What the card lists of it.
        figures: Names of the files in its folder of figures.
    """

    document: PolicyDocument
    listed: IndexedDocument
    figures: Collection[str] = ()

    @property
    def folder(self) -> str:
        """Its folder in the repository."""
        return self.listed.folder


@dataclass(frozen=True)
class UnreadEntry:
    """A document of the repository that this version cannot read.

    Attributes:
        folder: Its folder in the repository.
        listed: What the card said of it before, None where it said nothing.
    """

    folder: str
    listed: Mapping[str, Any] | None


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
    last: IndexEntry,
    others: Sequence[IndexedDocument] = (),
    describe: Describe = undescribed,
    unread: Sequence[UnreadEntry] = (),
) -> str:
    """Return the card, with the Hub's YAML front matter, ending in a newline.

    Args:
        repository: Name of the repository, "user/name".
        last: The document that is published with it.
        others: What else it has.
        describe: Says what belongs to the document's policy.
        unread: Its documents that this version cannot read: they stay listed.
    """
    from huggingface_hub import ModelCard

    card = ModelCard(render_card(last.document, last.figures, describe(last.document)))
    listed = sorted([*others, last.listed], key=lambda each: (each.model, each.folder))
    models = sorted({each.model for each in listed})
    foreign = [dict(each.listed) for each in unread if each.listed is not None]
    found_by = {*models, *(str(each.get("model", "")) for each in foreign)}
    card.data["base_model"] = sorted(model for model in found_by if is_hub_id(model)) or None
    index = [*(each.to_dict() for each in listed), *foreign]
    card.data[INDEX_KEY] = sorted(index, key=lambda each: str(each["folder"]))
    sections = (
        f"---\n{card.data.to_yaml()}\n---",
        _introduction(models),
        _use(repository, last, len(listed) + len(unread)),
        _table(listed, unread),
        _in_full(last, card.text),
    )
    return "\n\n".join(sections) + "\n"


def _introduction(models: Sequence[str]) -> str:
    return f"""# Cache schedules for {", ".join(map(escaped, models))}

Policy documents of otcache. They hold no weights and no code. This page is written anew with \
every document that is published."""


def _use(repository: str, last: IndexEntry, documents: int) -> str:
    # A single document needs no folder in its name. The commit that will have this page has no id
    # yet, and a name without a commit would mean another document after the next push.
    policy = HubReference(repository, "COMMIT", last.folder if documents > 1 else None)
    return f"""## Use

```python
import cache_dit
import otcache_plugin
cache_dit.enable_cache(pipe, policy="{policy}")
```

COMMIT stands for the 40 digits of a commit of this repository, which always name the same \
document: `otcache pull {repository}` prints them."""


def _table(listed: Sequence[IndexedDocument], unread: Sequence[UnreadEntry]) -> str:
    return "\n".join(
        [
            "## Documents",
            "",
            "| Model | Revision | Policy | Steps | Calibrated at | Evidence | |",
            "|---|---|---|---:|---|---|---|",
            *map(_row, listed),
            *(
                f"| | | | | | written by a newer version | [document]({each.folder}/{CARD_FILE}) |"
                for each in sorted(unread, key=lambda each: each.folder)
            ),
        ]
    )


def _row(each: IndexedDocument) -> str:
    calibrated = () if each.budgets is None else each.budgets.calibrated
    cells = (
        escaped(each.model),
        escaped(each.revision or "any"),
        escaped(each.policy),
        str(each.num_inference_steps),
        ", ".join(map(str, calibrated)),
        _measured(each),
        f"[document]({each.folder}/{CARD_FILE})",
    )
    return f"| {' | '.join(cells)} |"


def _measured(each: IndexedDocument) -> str:
    evidence = each.evidence
    if evidence is None:
        return "none"
    return (
        f"{escaped(evidence.metric)} {evidence.mean:.4g} ± {evidence.standard_error:.2g} "
        f"at {evidence.budget} steps, {evidence.pairs} pairs"
    )


def _in_full(last: IndexEntry, card: str) -> str:
    """Return a document's card as a part of this one: without its use, and with paths from here."""
    first, *others = _SECTION.split(card.strip())
    _, _, introduction = first.partition("\n")  # Its title is this card's, too.
    kept = [section for section in others if not section.startswith("## Use")]
    text = "".join([f"# {_LAST}\n{introduction}", *kept]).replace(
        f"]({FIGURES_FOLDER}/", f"]({last.folder}/{FIGURES_FOLDER}/"
    )
    return re.sub(r"^(?=#+ )", "#", text, flags=re.MULTILINE).strip()
