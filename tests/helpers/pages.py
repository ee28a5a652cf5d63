"""The pages of the documentation, and the fenced blocks in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
SITE = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
"""What users read: the README and the pages of the site."""

PAGES = sorted({*ROOT.glob("*.md"), *SITE})
"""Those, and the others at the top of the repository."""


def page(name: str) -> str:
    """The text of a file of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shell_lines(text: str) -> list[list[str]]:
    """The words of every line of the shell blocks, comments left out; a broken line is one."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]
