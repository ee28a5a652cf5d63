"""What is wrong with a page is found by the browser that shows it, and nothing with a sound one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_site.py"
SOUND = '<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><h1 id="top">Page</h1>'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not any(map(which, ("chromium", "chromium-browser", "google-chrome"))),
        reason="no browser is installed",
    ),
]


def checked(folder: Path) -> tuple[int, list[str]]:
    ended = subprocess.run(
        [sys.executable, str(TOOL), str(folder)], capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    return ended.returncode, ended.stdout.splitlines()


def test_a_sound_folder_passes(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(SOUND + '<a href="other/page.html#top">other</a>')
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "page.html").write_text(SOUND + '<a href="../">home</a>')
    assert checked(tmp_path) == (0, ["2 pages, 0 faults"])


def test_each_fault_is_named(tmp_path: Path) -> None:
    faults = {
        "anchor": '<a href="#nowhere">there</a>',
        "link": '<a href="gone.html">there</a>',
        "image": '<img src="gone.png">',
        "console": "<script>throw new Error('broken')</script>",
        "wide": '<style>body { margin: 0 }</style><div style="width: 700px">wide</div>',
    }
    for name, fault in faults.items():
        (tmp_path / f"{name}.html").write_text(SOUND + fault)
    status, said = checked(tmp_path)
    assert status == 1
    assert "anchor.html: #nowhere has no such anchor" in said
    assert "link.html: gone.html is not there" in said
    assert "/gone.png is asked for, and is not there" in said
    assert "wide.html: 700 pixels wide in 390" in said
    assert [line for line in said if "Error: broken" in line]
    assert not [line for line in said if line.startswith("wide.html") and "1280" in line]
