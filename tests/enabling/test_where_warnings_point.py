"""A warning points to the line that enabled the policy, or that called the pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cache_dit
import pytest
from otcache_registry.finding.resolving import OtherRevisionWarning
from tiny_documents import MODEL, REVISION, write_document
from tiny_pipelines import flux_arguments, make_flux

import otcache_plugin
from otcache_plugin.enabling.documents import OtherModelWarning
from otcache_plugin.runs.notices import RunWarning


def place(given: pytest.WarningsRecorder) -> tuple[str, str]:
    """The file of the only warning, and what stands in its line."""
    (warning,) = given
    lines = Path(warning.filename).read_text(encoding="utf-8").splitlines()
    return warning.filename, lines[warning.lineno - 1].strip()


def test_a_warning_of_a_run_points_to_the_pipelines_call() -> None:
    pipe = make_flux()
    otcache_plugin.enable_cache(pipe, policy="uniform")
    with pytest.warns(RunWarning, match="of 8 steps are computed") as given:
        pipe(**flux_arguments(), num_inference_steps=8, output_type="latent")
    assert place(given) == (
        __file__,
        'pipe(**flux_arguments(), num_inference_steps=8, output_type="latent")',
    )


@pytest.mark.parametrize("enable", [cache_dit.enable_cache, otcache_plugin.enable_cache])
def test_a_warning_of_a_document_points_to_enabling(enable: Any, tmp_path: Path) -> None:
    write_document(tmp_path)
    others = {"model": "example/another", "revision": REVISION, "allow_other_model": True}
    with pytest.warns(OtherModelWarning) as given:
        enable(make_flux(), policy=tmp_path, **others)
    assert place(given) == (__file__, "enable(make_flux(), policy=tmp_path, **others)")
    other = {"model": MODEL, "revision": "v2", "allow_other_revision": True}
    with pytest.warns(OtherRevisionWarning) as given:
        enable(make_flux(), policy=tmp_path, **other)
    assert place(given) == (__file__, "enable(make_flux(), policy=tmp_path, **other)")
