"""LPIPS stands in a benchmark's table where its weights are named, and else the script says so."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("alexnet-owt-7be5be79.pth", "vgg16-397923af.pth")


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, in a process whose TORCH_HOME is given back."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("TORCH_HOME", "the user's own")
    monkeypatch.delenv("OTCACHE_LPIPS_HOME", raising=False)
    from benchmarks import metrics

    return metrics


def home_of(metrics: ModuleType, *arguments: str) -> Path | None:
    parser = ArgumentParser()
    metrics.add_lpips_option(parser)
    home: Path | None = parser.parse_args(arguments).lpips_home
    return home


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files of the right names."""
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    for name in FILES:
        (tmp_path / "hub" / "checkpoints" / name).touch()
    return tmp_path


def names(metrics: ModuleType, home: Path | None, *further: str) -> list[str]:
    return [metric.name for metric in metrics.metrics_with(home, *further)]


def test_the_option_or_the_variable_brings_lpips(
    metrics: ModuleType,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = home_of(metrics, "--lpips-home", str(folder))
    expected = ["psnr", "ssim", "latent-l1", "lpips", "lpips-vgg"]
    assert names(metrics, home, "latent-l1") == expected
    assert os.environ["TORCH_HOME"] == str(folder)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("OTCACHE_LPIPS_HOME", str(folder))
    assert home_of(metrics) == folder


def test_without_a_folder_lpips_is_said_to_be_left_out(
    metrics: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert names(metrics, home_of(metrics)) == ["psnr", "ssim"]
    assert "LPIPS is left out" in capsys.readouterr().err
    assert os.environ["TORCH_HOME"] == "the user's own"


@pytest.mark.parametrize("missing", FILES)
def test_a_folder_without_all_weights_is_refused(
    metrics: ModuleType, folder: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "hub" / "checkpoints" / missing).unlink()
    with pytest.raises(SystemExit, match="2"):
        home_of(metrics, "--lpips-home", str(folder))
    said = capsys.readouterr().err
    assert f"there is no {folder}/hub/checkpoints/{missing}" in said
    assert "python tools/lpips_weights.py" in said
