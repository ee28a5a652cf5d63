"""`otcache import`: schedules of others, in the forms in which they are published."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cache_dit
import pytest
import torch
import yaml
from otcache_policies import BudgetError
from otcache_registry import read_policy
from tiny_pipelines import FLUX, count_forwards, make_flux

import otcache_plugin

STEPS = 10
COMPUTED = [[0, 1, 4, 9], [0, 1, 2, 4, 6, 9]]
CACHED = [[2, 3, 5, 6, 7, 8], [3, 5, 7, 8]]
MASKS = [[1, 1, 0, 0, 1, 0, 0, 0, 0, 1], [1, 1, 1, 0, 1, 0, 1, 0, 0, 1]]

Schedules = Sequence[Sequence[int]]


def as_text(schedules: Schedules) -> bytes:
    lines = [" ".join(map(str, schedule)) for schedule in schedules]
    return "\n".join(["# published", *lines, ""]).encode()


def as_json(schedules: Schedules) -> bytes:
    return json.dumps({str(number): each for number, each in enumerate(schedules)}).encode()


def as_yaml(schedules: Schedules) -> bytes:
    return yaml.safe_dump({"masks": [list(each) for each in schedules]}).encode()


WRITERS: dict[str, Callable[[Schedules], bytes]] = {
    "txt": as_text,
    "json": as_json,
    "yaml": as_yaml,
}


def imported(main: Any, file: Path, *options: str) -> list[list[int]]:
    """Import a file; return the computed steps of the document's schedules."""
    output = file.parent / "document"
    done = main("import", str(file), "--model", "org/name", "--output", str(output), *options)
    assert (done.code, done.out) == (0, f"{output}\n"), done.err
    parameters = read_policy(output).document.parameters
    return [list(parameters[name]["computed_steps"]) for name in ("anchor", "reference")]


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("schedules", [COMPUTED, CACHED, MASKS], ids=["computed", "cached", "mask"])
def test_forms(main: Any, tmp_path: Path, ending: str, schedules: Schedules) -> None:
    file = tmp_path / f"schedules.{ending}"
    file.write_bytes(WRITERS[ending](schedules))
    assert imported(main, file, "--steps", str(STEPS)) == COMPUTED


def test_json_alone_on_stdout(main: Any, tmp_path: Path) -> None:
    file, output = tmp_path / "schedules.txt", tmp_path / "document"
    file.write_bytes(as_text(COMPUTED))
    options = ("--model", "org/name", "--output", str(output), "--steps", str(STEPS), "--json")
    done = main("import", str(file), *options)
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "policy": str(output),
        "model": "org/name",
        "budgets": [4, 6],
    }


@pytest.mark.parametrize("content", [torch.tensor(MASKS), {"a": CACHED[0], "b": CACHED[1]}])
def test_of_torch_plain_values_only(main: Any, tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "masks.pt")
    assert imported(main, tmp_path / "masks.pt", "--steps", str(STEPS)) == COMPUTED


class Executed:
    """What would write a file if it was unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def test_nothing_of_a_pt_is_executed(main: Any, tmp_path: Path) -> None:
    torch.save(Executed(str(tmp_path / "executed")), tmp_path / "masks.pt")
    refused = main(
        "import", str(tmp_path / "masks.pt"), "--model", "org/name", "--output", str(tmp_path / "x")
    )
    assert (refused.code, refused.out) == (2, "")
    assert "not plain tensors" in refused.err
    assert not (tmp_path / "executed").exists()


def test_it_is_marked_as_published_by_others(main: Any, tmp_path: Path) -> None:
    file = tmp_path / "schedules.json"
    file.write_bytes(as_json(COMPUTED))
    imported(main, file, "--steps", str(STEPS), "--authors", "Somebody", "--source", "there")
    document = read_policy(tmp_path / "document").document
    assert document.published is not None
    assert (document.published.authors, document.published.source) == ("Somebody", "there")
    assert (document.calibration, document.evidence) == (None, ())
    assert (document.model.id, document.model.revision) == ("org/name", None)
    shown = main("predict", str(tmp_path / "document"), "--budget", "4")
    assert shown.out.split() == ["0", "1", "4", "9"]


def test_a_single_schedule(main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a document of its one budget, in a folder named after the model unless one is given."""
    monkeypatch.chdir(tmp_path)
    Path("one.txt").write_text("0 1 4 9\n")
    options = ("--steps", str(STEPS), "--pipeline", "FluxPipeline")
    done = main("import", "one.txt", "--model", "org/name", *options)
    assert (done.code, done.out) == (0, "published-name\n"), done.err
    assert "4, or 10; 4 unless asked for another" in main("show", "published-name").out
    card = Path("published-name", "README.md").read_text()
    assert "The schedule of the budget 4 is theirs" in card
    assert "A single schedule: no other budget is predicted from it." in card
    assert main("predict", "published-name", "--budget", "4").out.split() == ["0", "1", "4", "9"]
    refused = main("predict", "published-name", "--budget", "5")
    assert (refused.code, "Use --budget=4, or 10" in refused.err) == (2, True)

    pipe = make_flux()
    cache_dit.enable_cache(pipe, policy="./published-name")
    with count_forwards(pipe.transformer.x_embedder) as forwards:
        FLUX.run(pipe, num_inference_steps=STEPS)
    assert len(forwards) == 4
    assert otcache_plugin.summary(pipe).computed_steps == (0, 1, 4, 9)
    cache_dit.disable_cache(pipe)
    cache_dit.enable_cache(pipe, policy="./published-name", budget=5)
    with pytest.raises(BudgetError, match="Use budget=4, or 10"):
        FLUX.run(pipe, num_inference_steps=STEPS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0 1 4 9\n0 2 4 9", "two schedules of budget 4"),
        ("0 1 4 12\n0 1", "not steps of a run of 10"),
        ("0 1 1 9\n0 9", "not steps of a run of 10"),
        ("zero one", "something other than steps"),
        ("0 1.5 9", "something other than steps"),
        ("", "no list of steps"),
    ],
)
def test_refused(main: Any, tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "schedules.txt"
    file.write_text(text)
    refused = main(
        *("import", str(file), "--model", "org/name", "--output", str(tmp_path / "x")),
        *("--steps", str(STEPS)),
    )
    assert (refused.code, refused.out) == (2, "")
    assert says in refused.err
    assert not (tmp_path / "x").exists()
