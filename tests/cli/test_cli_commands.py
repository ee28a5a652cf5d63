"""The commands as their users run them: what they print, where, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from built_in import BUILT_IN_POLICIES
from otcache_registry import read_policy, render_card
from stored_policies import HOST

import otcache_plugin
from otcache_plugin.plugins.host import LoadedPlugin, PluginHost, plugin_host

HEAVY = ["torch", "diffusers", "transformers", "cache_dit", "optuna", "scipy", "matplotlib"]
METRICS = [
    *("clip-score", "image-reward", "latent-l1", "latent-mse"),
    *("lpips", "lpips-vgg", "mse", "psnr", "ssim"),
]


def test_the_command_line_is_light() -> None:
    code = "import sys, otcache_plugin.cli.main\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "otcache_plugin.cli.main" in loaded
    assert [name for name in HEAVY if name in loaded] == []


@pytest.mark.parametrize("command", ["--help", "plugins"])
def test_so_are_help_and_lists(command: str) -> None:
    code = (
        "import sys\nfrom otcache_plugin.cli.main import main\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command], capture_output=True, text=True, check=True
    )
    loaded = done.stderr.split()
    assert "otcache_plugin.cli.plugins" in loaded
    assert [name for name in HEAVY if name in loaded] == []


REFUSED_AT_ONCE = (
    ("demo", "--model", "flux"),
    ("demo", "--pairs", "1"),
    ("demo", "--output", "."),
    ("try", "embedded", "--prompt", "a fox", "--budget", "0"),
    ("compare", "embedded", "--budgets", "x"),
    ("compare", "embedded", "--pairs", "1"),
    ("calibrate", "embedded", "--output", "policy", "--effort", "slow"),
    ("show", "nothing"),
)
"""What needs neither torch nor a model to be refused."""


def test_what_can_be_refused_at_once_is(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom otcache_plugin.cli.main import main\n"
        f"for arguments in {REFUSED_AT_ONCE!r}:\n"
        "    sys.argv = ['otcache', *arguments]\n"
        "    try:\n        main()\n    except SystemExit as end:\n        print(end.code)\n"
        "print(*sys.modules)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    *codes, loaded = done.stdout.splitlines()
    assert codes == ["2"] * len(REFUSED_AT_ONCE)
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["error"] * len(codes)
    assert not {"torch", "diffusers"} & set(loaded.split())
    assert list(tmp_path.iterdir()) == []


def test_help_names_the_commands(otcache: Any, main: Any) -> None:
    shown = otcache("--help")
    assert (shown.code, shown.err) == (0, "")
    for command in ("demo", "calibrate", "plugins", "doctor"):
        assert f"  {command} " in shown.out
        assert "Options:" in main(command, "--help").out


def test_version(otcache: Any) -> None:
    shown = otcache("--version")
    assert (shown.code, shown.out, shown.err) == (0, f"{otcache_plugin.__version__}\n", "")


@pytest.mark.parametrize("arguments", [(), ("caliber",), ("calibrate",), ("calibrate", "embedded")])
def test_wrong_usage_goes_to_stderr(otcache: Any, arguments: tuple[str, ...]) -> None:
    refused = otcache(*arguments)
    assert refused.code == 2
    assert refused.out == ""
    assert "Usage: otcache" in refused.err


def test_plugins_as_text(otcache: Any) -> None:
    shown = otcache("plugins")
    assert (shown.code, shown.err) == (0, "")
    rows = [line.split() for line in shown.out.splitlines()]
    assert [row[:2] for row in rows if row[0] in ("policy", "executor", "metric")] == [
        *(["policy", name] for name in BUILT_IN_POLICIES),
        ["executor", "blocks"],
        ["executor", "probe"],
        ["executor", "velocity"],
        *(["metric", name] for name in METRICS),
    ]
    assert ["builtin", "otcache-plugin", "loaded"] in rows


def test_plugins_as_json(otcache: Any) -> None:
    shown = otcache("plugins", "--json", OTCACHE_PLUGINS="")
    assert (shown.code, shown.err) == (0, "")
    data = json.loads(shown.out)
    assert sorted(data) == ["executors", "metrics", "plugins", "policies"]
    assert sorted(data["policies"]) == list(BUILT_IN_POLICIES)
    assert sorted(data["executors"]) == ["blocks", "probe", "velocity"]
    assert sorted(data["metrics"]) == METRICS
    assert all(data["policies"].values())
    assert all(data["metrics"].values())
    builtin = data["plugins"][0]
    assert (builtin["name"], builtin["distribution"]) == ("builtin", "otcache-plugin")
    assert builtin["policies"] == list(BUILT_IN_POLICIES)
    assert builtin["executors"] == ["blocks", "probe", "velocity"]
    assert builtin["metrics"] == METRICS
    assert (builtin["error"], builtin["skipped"]) == ("", False)


def test_plugins_shows_errors_as_they_are(main: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets in a stranger's message are no markup."""
    error = "ValueError: not one of [red, bold], see [/docs]"
    host = plugin_host()
    broken = LoadedPlugin("odd", "odd-plugin 1.0", error=error)
    monkeypatch.setattr(
        "otcache_plugin.cli.plugins.plugin_host",
        lambda: PluginHost(host.policies, host.executors, host.metrics, (broken,)),
    )
    shown = main("plugins")
    assert shown.code == 0
    assert error in shown.out


PAPER = ["--effort", "paper"]
SMALL = ["--steps", "8", "--budget-anchor", "3", "--budget-reference", "5"]
SMALL += ["--pairs", "2", "--held-out-pairs", "2", "--trials", "6", "--seed", "1"]
SMALL += ["--effort", "paper", "--search", "joint"]


@pytest.mark.slow
def test_calibrate_writes_a_document(otcache: Any, tmp_path: Path) -> None:
    folder = tmp_path / ("a long name " * 8) / "[red]policy"
    done = otcache("calibrate", "exact-flow", "--output", str(folder), *SMALL)
    assert done.code == 0
    assert done.out == f"wrote {folder}\n"
    for stage in ("recording", "tuning", "searching", "choosing", "evidence"):
        assert stage in done.err
    stored = read_policy(folder)
    document = stored.document
    assert (document.num_inference_steps, document.default_budget) == (8, 3)
    assert document.calibrated_budgets[0] == 3
    assert document.calibrated_budgets[-1] == 5
    calibration = document.calibration
    assert (calibration.pairs, calibration.seed) == (2, 1)
    assert calibration.settings["trials"] == 6
    figures = [path.name for path in (folder / "figures").iterdir()]
    assert "quality.png" in figures
    card = render_card(document, figures, HOST.describe(document))
    assert (folder / "README.md").read_text(encoding="utf-8") == card


def calibrate(main: Any, folder: Path, *arguments: str, model: str = "exact-flow") -> Any:
    return main("calibrate", model, "--output", str(folder), *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--metric", "beauty"], ["--metric='beauty'", "lpips-vgg, mse, psnr, ssim"]),
        (
            ["--budget-anchor", "20"],
            ["--budget-anchor=20", "below the reference's 20", "Use 2 <= --budget-anchor < "],
        ),
        (["--budget-anchor", "1"], ["--budget-anchor=1", "Use 2 <="]),
        (["--budget-reference", "50"], ["--budget-reference=50", "below the 50 steps", "Use"]),
        (["--steps", "12"], ["--budget-reference=20", "below the 12 steps", "Use"]),
        (["--pairs", "0"], ["--pairs=0", "Use 1 or more"]),
        ([*PAPER, "--trials", "-1"], ["--trials=-1", "Use 0 or more"]),
        ([*PAPER, "--patience", "0"], ["--patience=0", "Use 1 or more"]),
        (["--seed", "-1"], ["--seed=-1", "Use 0 or more"]),
    ],
)
def test_calibrate_refuses_values(
    main: Any, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    refused = calibrate(main, tmp_path / "policy", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("error: ")
    for each in words:
        assert each in refused.err
    assert list(tmp_path.iterdir()) == []


def test_calibrate_refuses_an_unknown_model(main: Any, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("one\ntwo\nthree\n")
    arguments = ["--prompts", str(prompts), "--revision", "r1"]
    refused = calibrate(main, tmp_path / "policy", *arguments, model=str(tmp_path))
    assert (refused.code, refused.out) == (2, "")
    assert last_line(refused.err).startswith(f"error: MODEL={str(tmp_path)!r}: it cannot be loaded")
    assert "Pass embedded, exact-flow, a Hub id such as org/name" in refused.err
    assert not (tmp_path / "policy").exists()


def last_line(text: str) -> str:
    """What remains when what was being done has been said: it is about the end."""
    *before, last = text.splitlines()
    assert [line.split(" [")[0] for line in before] == [
        "importing torch and diffusers",
        "loading the model",
    ]
    return last


def nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_setup(name: str) -> None:
        pytest.fail(f"began to work on {name}")

    monkeypatch.setattr("otcache_plugin.models.setups.load_setup", load_setup)


def test_calibrate_refuses_a_foreign_folder_at_once(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_done(monkeypatch)
    (tmp_path / "thesis.tex").write_text("precious")
    refused = calibrate(main, tmp_path)
    assert (refused.code, refused.out) == (2, "")
    assert f"--output={str(tmp_path)!r}: not empty" in refused.err
    assert "Give a new or empty folder" in refused.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_calibrate_refuses_a_folder_it_cannot_make_at_once(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing_is_done(monkeypatch)
    file = tmp_path / "file"
    file.write_text("")
    for folder, words in ((file, "not a folder"), (file / "policy", "cannot be written")):
        refused = calibrate(main, folder)
        assert (refused.code, refused.out) == (2, "")
        assert words in refused.err
        assert "Give a" in refused.err


def test_an_interruption_is_no_traceback(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("otcache_plugin.models.setups.load_setup", interrupted)
    ended = calibrate(main, tmp_path / "policy")
    assert (ended.code, ended.out) == (130, "")
    assert last_line(ended.err).startswith("error: interrupted; what was finished is kept")
    assert "Start the same command again to go on." in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_full_disk_is_no_traceback() -> None:
    command = Path(sys.executable).with_name("otcache")
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [command, "store", "path"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: the output cannot be written (No space left on device). Free some space, then "
        "start the same command again.\n"
    )


def test_failures_that_are_no_wrong_usage_exit_with_1(
    main: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from otcache_plugin.errors import ExecutionError

    def failing(name: str) -> None:
        raise ExecutionError("a [bold] run went wrong. Run it again.")

    monkeypatch.setattr("otcache_plugin.models.setups.load_setup", failing)
    ended = calibrate(main, tmp_path / "policy")
    assert (ended.code, ended.out) == (1, "")
    assert last_line(ended.err) == "error: a [bold] run went wrong. Run it again."
