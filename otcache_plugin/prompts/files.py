"""Reading prompts from files: text, JSON lines or CSV, or those that ship with the package."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from otcache_plugin.errors import ArgumentError

FOLDER = Path(__file__).parent
LARGEST_FILE = 10 * 10**6
"""Bytes."""
LONGEST_PROMPT = 5000
"""Characters."""

UNPRINTABLE = {
    "Cc": "a control character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line separator",
    "Zp": "a paragraph separator",
}
"""Unicode categories of what no prompt holds; texts are joined by line feeds to be digested."""


@dataclass(frozen=True)
class Prompts:
    """Prompts in a fixed order; there is one at least, and none stands in it twice."""

    texts: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 of the texts, one per line."""
        return hashlib.sha256("\n".join(self.texts).encode()).hexdigest()


class _RefusedError(Exception):
    """What is wrong with a file, and what to do about it; at a line unless that is 0."""

    def __init__(self, line: int, problem: str, remedy: str) -> None:
        super().__init__(line, problem, remedy)
        self.problem = f"line {line}: {problem}" if line else problem
        self.remedy = remedy


def calibration_prompts() -> Prompts:
    """Return the package's prompts to calibrate on; any first few spread over its categories."""
    return read_prompts(FOLDER / "calibration.jsonl", "prompts")


def evaluation_prompts() -> Prompts:
    """Return the package's prompts for evidence, of other scenes; spread likewise."""
    return read_prompts(FOLDER / "evaluation.jsonl", "evaluation_prompts")


def require_disjoint(calibration: Prompts, evaluation: Prompts) -> None:
    """Refuse a prompt that is in both, whatever its case and spacing.

    Raises:
        ArgumentError: there is one.
    """
    seen = {_normal(text) for text in calibration.texts}
    for text in evaluation.texts:
        if _normal(text) in seen:
            raise ArgumentError(
                "prompt",
                text,
                "it is among the calibration prompts and among the evaluation prompts",
                "Evidence needs prompts that no calibration has seen: leave it out of one of them",
            )


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def read_prompts(path: Path, given_as: str) -> Prompts:
    """Return the prompts of a file, in its order, without the white space around them.

    A `.txt` file has one per line; a `.jsonl` file a string or an object with `"prompt"` per
    line; a `.csv` file a column `prompt`. Empty lines are passed over.

    Args:
        path: the file, in UTF-8.
        given_as: name of the argument that it is, for errors.

    Raises:
        ArgumentError: the file cannot be read, or one of its prompts not be used; the message
            names its line.
    """
    try:
        read = READERS.get(path.suffix.lower())
        if read is None:
            raise _RefusedError(
                0, "its name does not say what is in it", f"Use a file in {', '.join(READERS)}"
            )
        texts: dict[str, int] = {}
        for line, value in read(_text(path)):
            text = _checked(value, line)
            if text in texts:
                raise _RefusedError(
                    line,
                    f"the prompt {_short(text)} is in line {texts[text]} already",
                    "Leave one of them out",
                )
            texts[text] = line
        if not texts:
            raise _RefusedError(0, "there is no prompt in it", "Write one per line into it")
    except _RefusedError as refused:
        raise ArgumentError(given_as, str(path), refused.problem, refused.remedy) from None
    return Prompts(tuple(texts))


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    # A path with a null character is a ValueError.
    except (OSError, ValueError) as error:
        raise _RefusedError(0, f"it cannot be read ({error})", "Pass a file that can be") from error
    if len(content) > LARGEST_FILE:
        raise _RefusedError(0, f"it is larger than {LARGEST_FILE:,} bytes", "Use fewer prompts")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _RefusedError(line, f"it is not UTF-8 ({error})", "Save it as UTF-8") from error


def _checked(value: object, line: int) -> str:
    if not isinstance(value, str):
        raise _RefusedError(line, f"{_short(value)} is not a string", "Put the prompt in quotes")
    text = value.strip()
    if not text:
        raise _RefusedError(line, "the prompt is empty", "Write one, or leave the line out")
    if len(text) > LONGEST_PROMPT:
        raise _RefusedError(
            line, f"the prompt has {len(text):,} characters", f"Use {LONGEST_PROMPT:,} at most"
        )
    for character in text:
        kind = UNPRINTABLE.get(unicodedata.category(character))
        if kind is not None:
            raise _RefusedError(
                line,
                f"the prompt holds {kind}, U+{ord(character):04X}",
                "Write a space in its place; a prompt is one line of text",
            )
    return text


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(io.StringIO(text, newline=None), start=1):
        if line.strip():
            yield number, line


def _json_lines(text: str) -> Iterator[tuple[int, object]]:
    for number, line in _lines(text):
        try:
            value = json.loads(line)
        # Too many digits are a ValueError as well, too many brackets a RecursionError.
        except (ValueError, RecursionError) as error:
            raise _RefusedError(
                number, f"it is not JSON ({error})", """Write such as {"prompt": "a cat"}"""
            ) from error
        if isinstance(value, dict):
            if "prompt" not in value:
                raise _RefusedError(
                    number, 'the object has no "prompt"', """Write such as {"prompt": "a cat"}"""
                )
            value = value["prompt"]
        yield number, value


def _csv_column(text: str) -> Iterator[tuple[int, str]]:
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [name.strip() for name in next(rows, [])]
        if header.count("prompt") != 1:
            raise _RefusedError(
                1, f"{header.count('prompt')} columns are called prompt", "Call one of them prompt"
            )
        for row in rows:
            if row and len(row) != len(header):
                raise _RefusedError(
                    rows.line_num,
                    f"{len(row)} fields under a header of {len(header)}",
                    "Put a prompt with commas in double quotes",
                )
            if row:
                yield rows.line_num, row[header.index("prompt")]
    except csv.Error as error:
        raise _RefusedError(
            rows.line_num, f"it is not CSV ({error})", "Put every prompt in double quotes"
        ) from error


READERS: dict[str, Callable[[str], Iterator[tuple[int, object]]]] = {
    ".txt": _lines,
    ".jsonl": _json_lines,
    ".csv": _csv_column,
}
"""What reads the files of a name's ending: it yields values with the lines they are in."""
