"""A training that was interrupted ends with the weights of one that was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
STEPS = 300
Loss = Callable[[torch.nn.Linear, torch.Generator], torch.Tensor]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import resumable_training

    monkeypatch.setattr(resumable_training, "SAVED_EVERY", 50)
    return resumable_training


def loss(model: torch.nn.Linear, generator: torch.Generator) -> torch.Tensor:
    """Zero when the model adds up its three inputs."""
    x = torch.randn(8, 3, generator=generator)
    return (model(x) - x.sum(1, keepdim=True)).square().mean()


def interrupting(at: int) -> Loss:
    """The same loss, whose `at`-th batch Ctrl-C falls into."""
    calls = 0

    def interrupted(model: torch.nn.Linear, generator: torch.Generator) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return loss(model, generator)

    return interrupted


def trained(module: ModuleType, folder: Path, loss_of: Loss) -> torch.Tensor:
    torch.manual_seed(0)
    training = module.Training("sum", STEPS, 0.05, 0.0, warm_up=50, cool_down=100)
    model: torch.nn.Linear = module.train(torch.nn.Linear(3, 1), loss_of, training, folder, seed=1)
    return torch.cat([model.weight.flatten(), model.bias])


def test_it_learns_and_prints_that_it_does(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = trained(module, tmp_path, loss)
    torch.testing.assert_close(weights, torch.tensor([1.0, 1.0, 1.0, 0.0]), atol=1e-2, rtol=0.0)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    losses = [float(line.split("loss ")[1].split(",")[0]) for line in lines]
    assert losses[-1] < 0.5 * losses[0]


def test_interrupted_or_not_the_weights_are_the_same(
    module: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at_once, in_two = tmp_path / "at_once", tmp_path / "in_two"
    at_once.mkdir()
    in_two.mkdir()
    expected = trained(module, at_once, loss)
    with pytest.raises(KeyboardInterrupt):
        trained(module, in_two, interrupting(at=277))
    capsys.readouterr()
    assert torch.equal(trained(module, in_two, loss), expected)
    assert capsys.readouterr().out.startswith("sum: goes on at step 250\n")
    # Once all is done, nothing is trained any more.
    assert torch.equal(trained(module, in_two, interrupting(at=1)), expected)


def test_the_rate_rises_and_falls_in_straight_lines(module: ModuleType) -> None:
    training = module.Training("x", 100, 1.0, 0.0, warm_up=20, cool_down=40)
    assert training.rate(0) == 1 / 20
    assert training.rate(19) == 1.0
    assert training.rate(60) == 1.0
    assert training.rate(80) == 0.5
    assert training.rate(99) == 1 / 40
