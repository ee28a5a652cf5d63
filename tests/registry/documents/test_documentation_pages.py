"""The page about documents says what the code does, and the gallery draws what is bundled."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from example_documents import unknown_of
from mkdocs.commands.build import build
from mkdocs.config.base import load_config
from otcache_registry import (
    DocumentError,
    PolicyDocument,
    StoredPolicy,
    bundled_policies,
    find_bundled,
    json_schema,
)
from otcache_registry.documents import document, files, strict_json, tables, values
from otcache_registry.documents import fields as document_fields
from otcache_registry.documents.tables import NO_TABLES
from pydantic import BaseModel
from stored_policies import HOST, otcache_of

from otcache_plugin.errors import UnknownNameError
from otcache_plugin.parameters import otcache, otcache_details
from otcache_plugin.parameters.meancache import MeanCacheParameters
from otcache_plugin.parameters.otcache import OTCacheParameters

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policy-documents.md").read_text(encoding="utf-8")
HOLDERS_OF_ROWS = ("calibration", "evidence")
"""Fields that the page describes as a whole."""


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    """The hook as a module."""
    spec = importlib.util.spec_from_file_location("docs_pages", ROOT / "tools" / "docs_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_is_a_document_and_the_refusal_is_real() -> None:
    (text,), (not_installed, refusal) = blocks("json"), blocks("text")
    example, read = json.loads(text), PolicyDocument.from_json(text)
    assert read.calibrated_budgets == (4, 6, 8)
    assert list(example["parameters"]) == sorted(example["parameters"])
    policy = otcache_of(StoredPolicy(read, NO_TABLES, "here"))
    assert [schedule.budget for schedule in policy.calibrated] == [4, 6, 8]
    example["parameters"]["waypoints"][0] = {
        "computed_steps": [0, 1, 3, 11],
        "look_backs": [1, 2, 3],
    }
    wrong = PolicyDocument.from_json(json.dumps(example))
    with pytest.raises(DocumentError) as caught:
        HOST.policy_of(StoredPolicy(wrong, NO_TABLES, "here"))
    assert str(caught.value) == refusal.strip()
    with pytest.raises(UnknownNameError) as unknown:
        HOST.policy_of(StoredPolicy(unknown_of(), NO_TABLES, "here"))
    assert str(unknown.value) == not_installed.strip()


def fields(
    schema: dict[str, Any], part: dict[str, Any] | None = None, path: str = ""
) -> Iterator[str]:
    """Dotted names of the leaves of a JSON Schema, those of schedules under "…"."""
    for name, value in (schema if part is None else part)["properties"].items():
        inner = value.get("anyOf", [value])[0]
        inner = inner.get("items", inner)
        kind = inner.get("$ref", "").rpartition("/")[2]
        if kind == "ScheduleRecord":
            yield f"{path}{name}"
            yield from fields(schema, schema["$defs"][kind], "….")
        elif kind and name not in HOLDERS_OF_ROWS:
            yield from fields(schema, schema["$defs"][kind], f"{path}{name}.")
        else:
            yield f"{path}{name}"


@pytest.mark.parametrize(
    ("heading", "part"), [("Field", PolicyDocument), ("Parameter", OTCacheParameters)]
)
def test_the_tables_list_every_field_and_no_other(heading: str, part: type[BaseModel]) -> None:
    (table,) = re.findall(rf"^\| {heading} \|.*?(?=^$)", PAGE, re.MULTILINE | re.DOTALL)
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    listed = [name for cell in first_cells for name in re.findall("`([^`]+)`", cell)]
    assert sorted(listed) == sorted(set(fields(json_schema(part))))


def test_the_limits_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([\d,]+)(?: bytes| each)? \|$", PAGE, re.MULTILINE))
    assert {name: int(value.replace(",", "")) for name, value in rows.items()} == {
        "`policy.json`": strict_json.MAX_DOCUMENT_BYTES,
        "`tables.safetensors`": files.MAX_TABLES_BYTES,
        "arrays in it": tables.MAX_TABLES,
        "objects and arrays within each other, in `parameters` and `calibration.settings`": (
            values.MAX_DEPTH
        ),
        "steps of a run": values.MAX_INFERENCE_STEPS,
        "waypoints of `otcache`": otcache.MAX_WAYPOINTS,
        "entries of its search's history": otcache_details.MAX_HISTORY,
        "rows of evidence": document.MAX_EVIDENCE,
        "guidance arguments, libraries": document_fields.MAX_ENTRIES,
        "characters of a text": values.MAX_TEXT,
    }


def test_a_build_has_the_gallery_and_the_schema(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for name in ("policy-documents.md", "how-it-works.md"):
        shutil.copy(ROOT / "docs" / name, tmp_path / "docs")
    hook = ROOT / "tools" / "docs_pages.py"
    assert f"- {hook.relative_to(ROOT)} " in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    settings = tmp_path / "mkdocs.yml"
    settings.write_text(f"site_name: pages\nplugins: []\nhooks: [{hook}]\n", encoding="utf-8")
    build(load_config(str(settings)))
    site = tmp_path / "site"
    for name, part in (
        ("policy-v1.schema.json", PolicyDocument),
        ("otcache-parameters-v1.schema.json", OTCacheParameters),
        ("meancache-parameters-v1.schema.json", MeanCacheParameters),
    ):
        assert json.loads((site / name).read_text()) == json_schema(part), name
    text = (site / "gallery" / "index.html").read_text()
    assert text.count("<svg") == len(bundled_policies()) >= 5
    for entry in bundled_policies():
        assert f">{entry.document.model.id}" in text


def test_a_drawing_has_a_row_per_budget_and_a_cell_per_computed_step(pages: ModuleType) -> None:
    stored = find_bundled("otcache", "Tongyi-MAI/Z-Image", None)
    policy = otcache_of(stored)
    drawing = ElementTree.fromstring(pages.figure(policy, stored.document))[0]
    texts = [each for each in drawing if each.tag == "text"]
    paths = [each for each in drawing if each.tag == "path"]
    assert [each.text for each in texts[:5]] == ["0", "10", "20", "30", "40"]
    assert [each.text for each in texts[5:]] == [str(budget) for budget in range(13, 26)]
    assert len(paths) == 2 * 13
    bold = [each.text for each in texts if each.get("font-weight") == "bold"]
    assert bold == ["13", "15", "17", "20", "25"]
    for budget, everything, computed in zip(range(13, 26), paths[::2], paths[1::2], strict=True):
        columns = re.findall(r"M(\d+) ", everything.get("d", ""))
        assert columns == [str(40 + 12 * step) for step in range(50)]
        filled = re.findall(r"M(\d+) ", computed.get("d", ""))
        steps = [columns.index(column) for column in filled]
        assert steps == list(policy.schedule(budget).computed_steps)
        assert ("style" in computed.attrib) == (str(budget) in bold)


def test_sections_say_whose_schedules_these_are(pages: ModuleType) -> None:
    kinds = {}
    for entry in bundled_policies():
        section = pages.section(entry)
        kinds[entry.name] = "**Published** by [the MeanCache authors" in section
        assert ("No evidence" in section) == kinds[entry.name]
        assert ("**Calibrated** for revision" in section) != kinds[entry.name]
        assert section.count("█") == sum(entry.document.calibrated_budgets)
    assert [name for name, published in kinds.items() if published] == [
        "qwen-image",
        "qwen-image-2512",
        "z-image",
    ]
