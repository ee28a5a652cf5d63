"""The tool that makes LPIPS's weights: which archive it takes, what of it, and how it goes on."""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import lpips
import numpy as np
import pytest
import torch
from otcache_policies import FieldError
from torch import nn

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import lpips_weights

    return lpips_weights


class Toy(nn.Module):
    """Eleven convolutions, more than sort by name, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*[nn.Conv2d(2, 2, (3, 1)) for _ in range(11)])
        self.classifier = nn.Linear(4, 5)


def toy_arrays() -> dict[str, Any]:
    """As in the archive: kernels are height × width × in × out, the heads those of lpips."""
    rng = np.random.default_rng(0)
    layers = {
        f"Conv_{number}": {
            "kernel": rng.random((3, 1, 2, 2), dtype=np.float32),
            "bias": np.full(2, number, dtype=np.float32),
        }
        for number in range(11)
    }
    heads_file = Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth"
    heads = torch.load(heads_file, map_location="cpu", weights_only=True)
    return {"Toy_0": layers} | {
        f"NetLinLayer_{number}": {
            "Conv_0": {"kernel": heads[f"lin{number}.model.1.weight"].numpy().transpose(2, 3, 1, 0)}
        }
        for number in range(5)
    }


def packed(arrays: object, folder: Path, monkeypatch: pytest.MonkeyPatch, tool: ModuleType) -> Path:
    """Write an archive with these arrays as a numpy before 2.0 pickled them, and expect it."""
    data = pickle.dumps(arrays, protocol=3).replace(b"numpy._core.", b"numpy.core.")
    archive = folder / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        member = tarfile.TarInfo("toy.ckpt")
        member.size = len(data)
        file.addfile(member, io.BytesIO(data))
    monkeypatch.setattr(tool, "ARCHIVE_DIGEST", tool.sha256(archive))
    return archive


@pytest.fixture
def network(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The toy as the one network, its digest known."""
    toy = replace(tool.NETWORKS[0], member="toy.ckpt", branch="Toy_0", build=Toy)
    toy = replace(toy, digest=tool.digest_of(tool.torchvision_weights(toy, toy_arrays())))
    monkeypatch.setattr(tool, "NETWORKS", (toy,))
    return toy


def made(folder: Path) -> Path:
    return folder / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth"


def test_torchvision_can_load_what_is_made(
    tool: ModuleType, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = toy_arrays()
    tool.make_home(tmp_path, packed(arrays, tmp_path, monkeypatch, tool))
    toy = Toy()
    toy.load_state_dict(torch.load(made(tmp_path)))
    assert not toy.classifier.weight.any()
    assert not toy.classifier.bias.any()
    for number, layer in enumerate(toy.features):
        assert layer.bias.tolist() == [number, number]
        kernel = arrays["Toy_0"][f"Conv_{number}"]["kernel"]
        for height, width, inner, outer in np.ndindex(3, 1, 2, 2):
            assert layer.weight[outer, inner, height, width] == kernel[height, width, inner, outer]


def test_what_is_there_stays(
    tool: ModuleType,
    network: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tool.make_home(tmp_path, packed(toy_arrays(), tmp_path, monkeypatch, tool))
    before = made(tmp_path).stat()
    capsys.readouterr()
    tool.make_home(tmp_path, tmp_path / "no archive is needed")
    assert f"{made(tmp_path)} is there, with the right digest" in capsys.readouterr().out
    assert made(tmp_path).stat() == before


def test_other_weights_are_not_taken_for_the_right_ones(
    tool: ModuleType, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(toy_arrays(), tmp_path, monkeypatch, tool)
    tool.make_home(tmp_path, archive)
    weights = torch.load(made(tmp_path))
    weights["features.3.bias"][1] += 1
    torch.save(weights, made(tmp_path))
    with pytest.raises(FieldError, match=r"--output=.*has other weights.*Delete it"):
        tool.make_home(tmp_path, archive)
    made(tmp_path).write_bytes(b"half of a file")
    with pytest.raises(FieldError, match=r"--output=.*can't be read.*Delete it"):
        tool.make_home(tmp_path, archive)


def test_another_archive_is_not_opened(tool: ModuleType, network: Any, tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(b"anything")
    with pytest.raises(FieldError, match=r"--archive=.*its SHA-256 is .* and not a286e44c"):
        tool.make_home(tmp_path, archive)
    with pytest.raises(FieldError, match=r"--archive=.*is not a file"):
        tool.make_home(tmp_path, tmp_path / "missing.tar.gz")
    assert not made(tmp_path).exists()


def test_heads_of_another_lpips_are_noticed(
    tool: ModuleType, network: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = toy_arrays()
    arrays["NetLinLayer_4"]["Conv_0"]["kernel"] = np.zeros((1, 1, 256, 1), dtype=np.float32)
    with pytest.raises(FieldError, match=r"its lin4.model.1.weight is not the archive's"):
        tool.make_home(tmp_path, packed(arrays, tmp_path, monkeypatch, tool))
    assert not made(tmp_path).exists()


class Command:
    """Runs something when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_a_pickle_may_name_nothing_but_arrays(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(FieldError, match=r"pickle='.*\.print': weights are arrays"):
        tool.read_arrays(io.BytesIO(pickle.dumps({"kernel": Command()}, protocol=3)))
    assert "executed" not in capsys.readouterr().out
