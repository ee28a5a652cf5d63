"""Small changes to the code of a module, one at a time, by its syntax tree.

Texts are left alone, and so are annotations, which nothing runs, and the `strict` of `zip`, which
tells of a mistake that is none.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Mutant", "mutants_of"]

SWAPPED: dict[type[ast.AST], Any] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
}

Changeable = ast.expr | ast.stmt


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Attributes:
        module: Its file's name.
        line: Where the change is.
        change: What was there, and what is there now.
        scope: Lines of the function around it; of the module outside of functions.
        source: Of the changed module.
    """

    module: str
    line: int
    change: str
    scope: range
    source: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.change}"


def mutants_of(path: Path) -> Iterator[Mutant]:
    """Go through all mutants of a module, in the order of its text."""
    text = path.read_text()
    tree = ast.parse(text)
    for node, scope in list(_parts(tree, range(1, text.count("\n") + 1))):
        for old, new in _changes(node):
            _Replacing(old, new).visit(tree)
            source = ast.unparse(ast.fix_missing_locations(tree))
            _Replacing(new, old).visit(tree)
            yield Mutant(path.name, old.lineno, f"{_told(old)} -> {_told(new)}", scope, source)


def _parts(node: ast.AST, scope: range) -> Iterator[tuple[ast.AST, range]]:
    """Go through what may be changed, with the lines of the innermost function around it."""
    yield node, scope
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        inner = scope
        if name == "body" and isinstance(node, ast.FunctionDef):
            inner = range(node.body[0].lineno, (node.end_lineno or 0) + 1)
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _left_alone(child):
                yield from _parts(child, inner)


def _left_alone(node: ast.AST) -> bool:
    match node:
        case ast.JoinedStr() | ast.keyword(arg="strict"):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
    return False


def _changes(node: ast.AST) -> Iterator[tuple[Changeable, Changeable]]:
    """Go through the changes of one part: what is replaced, and by what."""
    match node:
        case ast.Compare(ops=ops):
            for place, each in enumerate(ops):
                swapped = [*ops[:place], SWAPPED[type(each)](), *ops[place + 1 :]]
                yield node, ast.Compare(node.left, swapped, node.comparators)
        case ast.BinOp(op=op) if type(op) in SWAPPED:
            yield node, ast.BinOp(node.left, SWAPPED[type(op)](), node.right)
        case ast.BoolOp(op=op):
            yield node, ast.BoolOp(SWAPPED[type(op)](), node.values)
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node, node.operand
        case ast.Constant(value=bool() as value):
            yield node, ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield node, ast.Constant(value + 1)
        case ast.Return(value=ast.expr() as value) if not _is_none(value):
            yield value, ast.Constant(None)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            yield from _negated(test)
        case ast.comprehension(ifs=tests):
            for test in tests:
                yield from _negated(test)
        case ast.AugAssign(op=op):
            yield node, ast.Pass()
            if type(op) in SWAPPED:
                yield node, ast.AugAssign(node.target, SWAPPED[type(op)](), node.value)
        case ast.Expr(value=ast.Call()) | ast.Raise():
            yield node, ast.Pass()
        case ast.Break():
            yield node, ast.Continue()
        case ast.Continue():
            yield node, ast.Break()


def _negated(test: ast.expr) -> Iterator[tuple[ast.expr, ast.expr]]:
    # What begins with "not" loses it as any expression does.
    if not isinstance(test, ast.UnaryOp):
        yield test, ast.UnaryOp(ast.Not(), test)


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _told(node: ast.AST) -> str:
    """Return a part's own text, the first line of it."""
    return ast.unparse(node).partition("\n")[0][:80]


class _Replacing(ast.NodeTransformer):
    """Puts one part of a tree in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        """Return what stands in a part's place."""
        return self.new if node is self.old else self.generic_visit(node)
