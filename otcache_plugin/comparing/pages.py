"""Pages of results: one HTML file each that needs nothing else, no network and no other files.

Pictures are in it as PNG data.
"""

from __future__ import annotations

import os
from base64 import b64encode
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from otcache_policies import FieldError
from PIL import Image

if TYPE_CHECKING:
    import torch


SMALL = 128
"""Pixels of a side up to which a picture is shown with its pixels as squares."""


def render(template: str, **values: Any) -> str:
    """Return the HTML that a template of this folder makes of values."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def save_picture(path: Path, picture: torch.Tensor) -> None:
    """Write a `(3, H, W)` picture in [0, 1] as a PNG file; missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    as_image(picture).save(path)


def as_image(picture: torch.Tensor) -> Image.Image:
    """Return a `(3, H, W)` picture in [0, 1] as an image."""
    from diffusers.image_processor import VaeImageProcessor

    image: Image.Image
    (image,) = VaeImageProcessor.numpy_to_pil(picture.permute(1, 2, 0).numpy())
    return image


def picture_file_uri(path: Path, side: int) -> str:
    """Return a picture file as a data URI: as it is, or scaled down to a side in pixels."""
    with Image.open(path) as picture:
        if max(picture.size) <= side:
            return f"data:image/png;base64,{b64encode(path.read_bytes()).decode()}"
        picture.thumbnail((side, side))
        buffer = BytesIO()
        picture.save(buffer, format="WEBP", quality=90)
    return f"data:image/webp;base64,{b64encode(buffer.getvalue()).decode()}"


def picture_uri(picture: torch.Tensor) -> str:
    """Return a `(3, H, W)` picture in [0, 1] as a PNG data URI."""
    image = as_image(picture)
    buffer = BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"


def require_writable(path: Path) -> None:
    """Refuses, before any work, a file that could not be written; leaves nothing behind.

    Raises:
        FieldError: it is a folder, or nothing can be written there.
    """
    if path.is_dir():
        raise _not_writable(path, "a folder", f"Name a file in it, such as {path / 'report.html'}")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        with TemporaryFile(dir=folder):
            return
    except OSError as error:
        raise _not_writable(path, f"{folder}: {error.strerror}") from None


def write_page(path: Path, html: str) -> None:
    """Write the file, all of it or nothing; missing folders are made.

    Raises:
        FieldError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(html, encoding="utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise _not_writable(path, str(error.strerror)) from None
    finally:
        unfinished.unlink(missing_ok=True)


def _not_writable(path: Path, problem: str, remedy: str = "Name another file") -> FieldError:
    return FieldError("output", str(path), f"cannot be written ({problem})", remedy)
