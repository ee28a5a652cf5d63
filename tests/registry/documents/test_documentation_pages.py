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
from mkdocs.commands.build import build
from mkdocs.config.base import load_config
from otcache_registry import (
    DocumentError,
    PolicyDocument,
    bundled_policies,
    document,
    find_bundled,
    folder,
    json_schema,
    parts,
    strict_json,
)

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "policy-documents.md").read_text(encoding="utf-8")
HOLDERS_OF_ROWS = ("calibration", "evidence")
"""Fields that the page describes as a whole."""


def block(language: str) -> str:
    """The first fenced block of a language."""
    match = re.search(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert match is not None
    return match[1]


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
    example = json.loads(block("json"))
    read = PolicyDocument.from_json(block("json"))
    assert read.calibrated_budgets == (4, 6, 8)
    example["waypoints"][0] = {"computed_steps": [0, 1, 3, 11], "look_backs": [1, 2, 3]}
    with pytest.raises(DocumentError) as caught:
        PolicyDocument.from_json(json.dumps(example))
    assert str(caught.value) == block("text").strip()


def fields(part: dict[str, Any], path: str = "") -> Iterator[str]:
    """Dotted names of the leaves of a JSON Schema, those of schedules under "…"."""
    for name, value in part["properties"].items():
        inner = value.get("anyOf", [value])[0]
        inner = inner.get("items", inner)
        kind = inner.get("$ref", "").rpartition("/")[2]
        if kind == "ScheduleRecord":
            yield f"{path}{name}"
            yield from fields(json_schema()["$defs"][kind], "….")
        elif kind and name not in HOLDERS_OF_ROWS:
            yield from fields(json_schema()["$defs"][kind], f"{path}{name}.")
        else:
            yield f"{path}{name}"


def test_the_table_lists_every_field_and_no_other() -> None:
    (table,) = re.findall(r"^\| Field \|.*?(?=^$)", PAGE, re.MULTILINE | re.DOTALL)
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:]]
    listed = [name for cell in first_cells for name in re.findall("`([^`]+)`", cell)]
    assert sorted(listed) == sorted(set(fields(json_schema())))


def test_the_limits_are_those_of_the_code() -> None:
    rows = dict(re.findall(r"^\| ([^|]+?) \| ([\d,]+)(?: bytes| each)? \|$", PAGE, re.MULTILINE))
    assert {name: int(value.replace(",", "")) for name, value in rows.items()} == {
        "`policy.json`": strict_json.MAX_DOCUMENT_BYTES,
        "`edges.safetensors`": folder.MAX_EDGES_BYTES,
        "steps of a run": parts.MAX_INFERENCE_STEPS,
        "waypoints": document.MAX_WAYPOINTS,
        "rows of evidence": document.MAX_EVIDENCE,
        "entries of `calibration.history`": parts.MAX_HISTORY,
        "guidance arguments, libraries": parts.MAX_ENTRIES,
        "characters of a text": 1_000,
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
    assert json.loads((site / "policy-v1.schema.json").read_text()) == json_schema()
    text = (site / "gallery" / "index.html").read_text()
    assert text.count("<svg") == len(bundled_policies()) >= 5
    for entry in bundled_policies():
        assert f">{entry.document.model.id}" in text


def test_a_drawing_has_a_row_per_budget_and_a_cell_per_computed_step(pages: ModuleType) -> None:
    policy = find_bundled("Tongyi-MAI/Z-Image", None).otcache_policy()
    drawing = ElementTree.fromstring(pages.figure(policy, "Z-Image"))[0]
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
