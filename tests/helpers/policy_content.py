"""What makes two calibrated documents the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any


def content_of(policy: Path) -> dict[str, Any]:
    """All of a policy's folder that does not depend on when and how it was measured."""
    content: dict[str, Any] = {
        str(path.relative_to(policy)): path.read_bytes()
        for path in sorted(policy.rglob("*"))
        if path.is_file()
    }
    document = json.loads(content["policy.json"])
    for name in ("created", "seconds"):
        del document["calibration"][name]
    content["policy.json"] = document
    content["README.md"] = [
        re.sub(r"\d+ seconds on", "seconds on", line)
        for line in content["README.md"].decode().splitlines()
        if not line.startswith("- Created:")
    ]
    return content
