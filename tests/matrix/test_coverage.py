"""The coverage matrix: its quick rows are what the results say, and no pipeline is forgotten."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import cache_dit
import pytest
from tiny_pipelines.building import Row

from matrix.__main__ import try_apart
from matrix.outcomes import COLUMNS, Tried
from matrix.results import PATH, read_results
from matrix.rows import NOT_TRIED, ROWS, class_name, flow_matching_pipelines
from matrix.trial import planned_steps, try_row

# diffusers warns of its own deprecations.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

QUICK = [row for row in ROWS if row.quick]
ROOT = PATH.parents[2]


@pytest.fixture(scope="module")
def results() -> dict[str, Tried]:
    """The committed results."""
    return read_results()


@pytest.mark.parametrize("row", QUICK, ids=str)
def test_a_quick_row_is_as_the_results_say(row: Row, results: dict[str, Tried]) -> None:
    tried = try_row(row)
    assert tried.failures() == ()
    assert tried == results[str(row)]


def test_every_row_has_a_result(results: dict[str, Tried]) -> None:
    assert list(results) == [str(row) for row in ROWS]
    assert len(QUICK) >= 8


def test_no_flow_matching_pipeline_is_forgotten() -> None:
    tried = {class_name(str(row)) for row in ROWS}
    assert {*flow_matching_pipelines()} - tried <= {*NOT_TRIED}
    assert not tried & {*NOT_TRIED}


def test_no_family_that_cache_dit_knows_is_forgotten() -> None:
    _, families = cache_dit.supported_pipelines()
    tried = [class_name(str(row)) for row in ROWS]
    for family in families:
        assert family in NOT_TRIED or any(name.startswith(family) for name in tried), family


def test_a_crash_ends_its_row_alone() -> None:
    def crash() -> None:
        raise SystemExit(3)

    tried = try_apart(Row("FluxPipeline", crash, dict))
    assert tried.failures() == ("the process ended with exit code 3",) * len(COLUMNS)


def test_the_planned_steps_have_both_ends_and_gaps() -> None:
    assert planned_steps(7) == (0, 1, 3, 6)
    assert planned_steps(9) == (0, 1, 3, 6, 8)


@pytest.fixture(scope="module")
def page() -> ModuleType:
    """The hook as a module."""
    path = ROOT / "tools" / "coverage_page.py"
    spec = importlib.util.spec_from_file_location("coverage_page", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_says_what_came_of_a_row(page: ModuleType) -> None:
    served = {"support": "average velocity", "reason": "", "failures": []}
    refused = {"support": "refused", "reason": "no blocks", "failures": ["after all: it ran"]}
    columns = dict(zip(page.COLUMNS, (served, refused, served, refused), strict=True))
    row = {"pipeline": "APipeline", "scheduler": "S", **columns}
    text = page.page({"versions": {"torch": "2"}, "not_tried": {"B": "why"}, "rows": [row, row]})
    cells = "average velocity | refused (1, 2) | average velocity | refused (1, 2)"
    assert text.count(f"| APipeline | S | {cells} |\n") == 2
    assert page.COLUMNS == COLUMNS
    assert "\n1. `no blocks`\n2. `Does not hold: after all: it ran`\n" in text
    assert "- `B`: why" in text
    assert "with torch 2." in text


def test_the_page_is_in_the_documentation() -> None:
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "\n  - tools/coverage_page.py " in settings
    assert "coverage.md" in settings
