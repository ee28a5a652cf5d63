"""A page is written whole or not at all, and where that can't be it is said before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
from otcache_policies import FieldError

from otcache_plugin.comparing import pages
from otcache_plugin.comparing.pages import require_writable, write_page


def test_writing_makes_folders_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "report.html"
    require_writable(path)
    assert list(tmp_path.iterdir()) == []
    for text in ("old", "new ✓"):
        write_page(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")

    def full(self: Path, *arguments: object, **keywords: object) -> int:
        self.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(FieldError, match=r"output=.*No space left on device.*Name another file"):
        write_page(path, "new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FieldError, match=r"a folder.*report\.html"):
        require_writable(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FieldError, match=r"cannot be written \(.*Not a directory"):
        require_writable(tmp_path / "file" / "report.html")

    def read_only(*, dir: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pages, "TemporaryFile", read_only)
    with pytest.raises(FieldError, match="Permission denied"):
        require_writable(tmp_path / "report.html")
