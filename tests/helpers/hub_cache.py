"""A cache of the Hub's client on disk, filled without the Hub: blobs, snapshots of links, refs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any


def put_snapshot(cache: Path, model: str, sha: str, pipe: Any, **saving: Any) -> Path:
    """Put what `pipe.save_pretrained` writes into a cache, as main; return the snapshot.

    Args:
        cache: the client's `cache_dir`.
        model: Hub id.
        sha: commit.
        pipe: a pipeline, or one of its models.
        saving: arguments of `save_pretrained`.
    """
    repository = cache / f"models--{model.replace('/', '--')}"
    snapshot = repository / "snapshots" / sha
    with tempfile.TemporaryDirectory() as folder:
        pipe.save_pretrained(folder, **saving)
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                _link(file, snapshot / file.relative_to(folder), repository / "blobs")
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(sha)
    return snapshot


def _link(file: Path, link: Path, blobs: Path) -> None:
    content = file.read_bytes()
    blob = blobs / hashlib.sha256(content).hexdigest()
    blobs.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(blob, link.parent))
