"""Damaged documents are taken or refused, and the tool that damages them finds what is neither."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from otcache_registry import DocumentError

TOOL = Path(__file__).parents[3] / "tools" / "fuzz_documents.py"


@pytest.fixture(scope="module")
def fuzzing() -> Iterator[ModuleType]:
    """The tool as a module, which imports its neighbour."""
    spec = importlib.util.spec_from_file_location("fuzz_documents", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TOOL.parent)
        spec.loader.exec_module(module)
        yield module


@pytest.mark.slow
def test_five_hundred_documents_are_taken_or_refused() -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "--count", "500", "--seed", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.match(r"500 documents: (\d+) valid, (\d+) refused, 0 failures", done.stdout)
    assert found is not None
    valid, refused = int(found[1]), int(found[2])
    assert valid + refused == 500
    assert valid >= 5
    assert refused >= 400


def test_undamaged_documents_are_valid(fuzzing: ModuleType, tmp_path: Path) -> None:
    origins = fuzzing.origins()
    assert len(origins) >= 5
    assert {case.tables is None for case in origins} == {True, False}
    for case in origins:
        assert fuzzing.read(case, tmp_path)


def test_a_number_gives_the_same_document_again(fuzzing: ModuleType) -> None:
    origin = fuzzing.origins()[0]
    cases = [fuzzing.make_case(random.Random(f"0/{number}"), origin) for number in range(40)]
    again = [fuzzing.make_case(random.Random(f"0/{number}"), origin) for number in range(40)]
    assert cases == again
    assert all(case != origin for case in cases[:10])
    assert len({case.document for case in cases}) > 25


def test_whatever_is_neither_taken_nor_refused_is_a_failure(
    fuzzing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicError(BaseException):
        """As Rust code raises it."""

    def fail(error: BaseException) -> bool:
        raise error

    def spin() -> bool:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        return True

    def verdict(reader: Callable[[], bool]) -> str:
        found: str = fuzzing.examine(reader, fuzzing.peak()).verdict
        return found

    assert verdict(lambda: fail(KeyError("name"))) == "KeyError: 'name'"
    assert verdict(lambda: fail(PanicError("index"))) == "PanicError: index"
    # Outside of the reading of a document, even the right kind of error is one too many.
    refusal = DocumentError("rho", 0, "problem", "Remedy")
    assert verdict(lambda: fail(refusal)).startswith("DocumentError: rho=0")
    monkeypatch.setattr(fuzzing, "MOST_SECONDS", 0.01)
    assert re.fullmatch(r"valid after \d+\.\d s", verdict(spin))


def test_the_document_that_raises_the_peak_too_far_is_a_failure(
    fuzzing: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Before and after each of three documents, in MB. The first stays within 256 of the start.
    peaks = iter([size * 2**20 for size in (150, 356, 356, 357, 357, 357)])
    monkeypatch.setattr(fuzzing, "peak", lambda: next(peaks))
    verdicts = [fuzzing.examine(lambda: False, start=100 * 2**20).verdict for _ in range(3)]
    assert verdicts == ["refused", "refused with 257 MB more", "refused"]
