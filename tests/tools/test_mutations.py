"""The changes of which each makes a mutant, by hand."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

TOOLS = Path(__file__).resolve().parents[2] / "tools"

MODULE = '''
"""Texts, annotations and the strictness of a zip are left alone."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import later

WIDTH: int | None = 3


def within(value: int | None, others, *, open: bool = False) -> int | None:
    """Say 1 < 2."""
    if value is None or not others:
        raise ValueError(f"nothing of {len(others) + 1}")
    for low, high in zip(others, others, strict=True):
        value -= low
    return value // high
'''

CHANGES = [
    "9: 3 -> 4",
    "12: False -> True",
    "14: value is None or not others -> not (value is None or not others)",
    "14: value is None or not others -> value is None and (not others)",
    "14: value is None -> value is not None",
    "14: not others -> others",
    "15: raise ValueError(f'nothing of {len(others) + 1}') -> pass",
    "17: value -= low -> pass",
    "17: value -= low -> value += low",
    "18: value // high -> None",
    "18: value // high -> value * high",
]


@pytest.fixture
def mutations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import mutations

    return mutations


def test_each_part_is_changed_in_every_way(mutations: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "within.py"
    path.write_text(MODULE)
    mutants = list(mutations.mutants_of(path))
    found = [str(mutant).removeprefix("within.py:") for mutant in mutants]
    assert sorted(found) == sorted(CHANGES)
    original = ast.unparse(ast.parse(MODULE))
    for mutant in mutants:
        lines = zip(original.splitlines(), mutant.source.splitlines(), strict=True)
        assert len([mine for mine, theirs in lines if mine != theirs]) == 1, str(mutant)
        # A test that runs the function sees the change; outside of it, one that runs the module.
        assert mutant.scope == (range(13, 19) if mutant.line > 12 else range(1, 19))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("a <= b < 1.5", ["a < b < 1.5", "a <= b <= 1.5", "a <= b < 2.5"]),
        ("-a % 2", ["-a * 2", "a % 2", "-a % 3"]),
        ("[a for a in b if a]", ["[a for a in b if not a]"]),
        ("f(a if b else c)", ["pass", "f(a if not b else c)"]),
        ("x = None if a else True", ["x = None if not a else True", "x = None if a else False"]),
    ],
)
def test_changes_of_one_line(
    mutations: ModuleType, tmp_path: Path, code: str, changes: list[str]
) -> None:
    path = tmp_path / "line.py"
    path.write_text(f"{code}\n")
    assert [mutant.source for mutant in mutations.mutants_of(path)] == changes
