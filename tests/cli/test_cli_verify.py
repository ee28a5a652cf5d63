"""`otcache verify`: damage is found, and evidence is compared with what its pairs give now."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from otcache_policies import Schedule
from otcache_registry import EvidenceRow, ModelReference, StoredPolicy, read_policy, write_policy
from otcache_registry.documents.bundled import BUNDLED_FOLDER
from otcache_registry.store.store import PolicyStore
from stored_policies import meancache_of, otcache_of

from otcache_plugin.evaluation.evaluator import Evaluator
from otcache_plugin.evaluation.metrics import METRICS
from otcache_plugin.models.embedded import FOLDER
from otcache_plugin.models.setups import ModelSetup, load_setup
from otcache_plugin.models.source import ModelSource
from otcache_plugin.prompts.files import Prompts

EXACT = read_policy(BUNDLED_FOLDER / "exact-flow")
PAIRS, BATCH, BUDGET = 4, 2, 8
METRIC = "latent-mse"
COMMIT = "3" * 40
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> PolicyStore:
    """The user's store, empty, with the Hub out of reach."""
    monkeypatch.setenv("OTCACHE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OTCACHE_OFFLINE", "1")
    return PolicyStore()


def measured(setup: ModelSetup) -> dict[str, np.ndarray]:
    """Values of three schedules on the first held-out pairs, run here in batches of two."""
    schedules = {
        "fewer-steps": Schedule.full(BUDGET),
        "meancache": meancache_of(EXACT).schedule(BUDGET),
        "otcache": otcache_of(EXACT).anchor,
    }
    pairs = setup.held_out_pairs(PAIRS)
    arguments = {**setup.call_arguments, "num_inference_steps": 50}
    values: dict[str, list[np.ndarray]] = {name: [] for name in schedules}
    for start in range(0, PAIRS, BATCH):
        evaluator = Evaluator(setup.pipe, pairs[start : start + BATCH], arguments, BATCH)
        for name, schedule in schedules.items():
            values[name] += evaluator.values(schedule, METRICS[METRIC])
    return {name: np.concatenate(parts) for name, parts in values.items()}


def document_with(setup: ModelSetup, values: dict[str, np.ndarray], **changes: Any) -> StoredPolicy:
    """The exact flow's document with these values as its evidence."""
    evidence = tuple(
        EvidenceRow(
            policy=name,
            budget=BUDGET,
            metric=METRIC,
            mean=float(each.mean()),
            standard_error=float(each.std(ddof=1) / math.sqrt(PAIRS)),
            pairs=PAIRS,
        )
        for name, each in values.items()
    )
    assert EXACT.document.calibration is not None
    calibration = EXACT.document.calibration.model_copy(
        update={"batch_size": BATCH, "held_out_digest": setup.held_out_digest}
    )
    update = {"evidence": evidence, "calibration": calibration, **changes}
    return replace(EXACT, document=EXACT.document.model_copy(update=update))


@pytest.fixture(scope="module")
def values(exact_flow: ModelSetup) -> dict[str, np.ndarray]:
    return measured(exact_flow)


@pytest.fixture
def write(
    exact_flow: ModelSetup, values: dict[str, np.ndarray], tmp_path: Path
) -> Callable[..., str]:
    """Write the document, its otcache row's mean made so many times as large."""

    def written(factor: float = 1.0, **changes: Any) -> str:
        stored = document_with(exact_flow, values, **changes)
        rows = [
            row.model_copy(update={"mean": row.mean * factor}) if row.policy == "otcache" else row
            for row in stored.document.evidence
        ]
        document = stored.document.model_copy(update={"evidence": tuple(rows)})
        write_policy(tmp_path / "policy", document, stored.tables, "# A card\n")
        return str(tmp_path / "policy")

    return written


def test_whole_documents(main: Any) -> None:
    digest = EXACT.document.tables_sha256
    assert digest is not None
    shown = main("verify", "bundled:exact-flow")
    assert (shown.code, shown.err) == (0, "")
    assert [" ".join(line.split()) for line in shown.out.splitlines()] == [
        "ok document valid by otcache.policy/v1",
        f"ok tables SHA-256 {digest[:12]}…, as in the document",
        "ok policy otcache takes its parameters",
    ]
    published = json.loads(main("verify", "bundled:z-image", "--json").out)
    assert published["ok"] is True
    assert [check["subject"] for check in published["checks"]] == ["document", "policy"]
    assert published["replay"] is None


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("tables.safetensors", "tables.safetensors has the digest"),
        ("policy.json", "not JSON"),
    ],
)
def test_damaged_files(main: Any, write: Any, file: str, words: str) -> None:
    folder = write()
    path = Path(folder, file)
    path.write_bytes(path.read_bytes()[:-2])
    shown = main("verify", folder)
    assert (shown.code, shown.err) == (1, "")
    assert shown.out.startswith("no  document")
    assert words in shown.out
    data = json.loads(main("verify", folder, "--json", "--replay", "2").out)
    assert (data["ok"], data["replay"]) == (False, None)


def test_pulled_files_are_hashed(main: Any, store: PolicyStore) -> None:
    folder = "any/otcache/50-steps-00000000"
    document = (BUNDLED_FOLDER / "z-image" / "policy.json").read_bytes()
    contents = {"policy.json": document, "README.md": b"# A card\n"}
    store.add("alice/policies", COMMIT, folder, contents, NOON)
    policy = f"hub:alice/policies@{COMMIT}#{folder}"
    shown = main("verify", "hub:alice/policies")
    assert shown.code == 0
    checked = " ".join(shown.out.splitlines()[0].split())
    assert checked == f"ok files {policy}: all 2 have the SHA-256 of when they were pulled"
    # What reading the document would not notice.
    (card,) = (blob for blob in (store.folder / "blobs").iterdir() if blob.stat().st_size == 9)
    card.write_bytes(b"# A bard\n")
    damaged = main("verify", policy)
    assert damaged.code == 1
    words = " ".join(damaged.out.split())
    assert words == f"no files {policy}: README.md damaged. Run: otcache pull '{policy}'"


def test_replay_of_all_pairs(main: Any, write: Any, values: dict[str, np.ndarray]) -> None:
    shown = main("verify", write(), "--replay", str(PAIRS), "--json", "--quiet")
    assert shown.code == 0, shown.err
    data = json.loads(shown.out)
    replay = data["replay"]
    assert (data["ok"], replay["pairs"], replay["stated_pairs"]) == (True, PAIRS, PAIRS)
    for row in replay["rows"]:
        mean = values[row["policy"]].mean()
        assert row["replayed"] == pytest.approx(mean, rel=1e-9)
        assert row["tolerance"] == pytest.approx(1e-3 * mean, rel=1e-9)
        assert (row["budget"], row["metric"], row["agrees"]) == (BUDGET, METRIC, True)
    assert {row["policy"] for row in replay["rows"]} == set(values)


@pytest.mark.parametrize(("factor", "code"), [(1.0005, 0), (1.002, 1), (0.998, 1)])
def test_all_pairs_agree_to_a_thousandth(main: Any, write: Any, factor: float, code: int) -> None:
    shown = main("verify", write(factor), "--replay", str(PAIRS))
    assert shown.code == code
    marks = {line.split()[2]: line.split()[0] for line in shown.out.splitlines() if METRIC in line}
    assert marks == {
        "fewer-steps": "ok",
        "meancache": "ok",
        "otcache": "no" if code else "ok",
    }
    agreeing = 3 - code
    assert f"{agreeing} of 3 means agree, of all 4 pairs, to a thousandth." in shown.out
    assert "replaying held-out pairs" in shown.err


def test_part_of_the_pairs(main: Any, write: Any, values: dict[str, np.ndarray]) -> None:
    """Two of four: a mean of theirs differs by a standard error sqrt(4/2 - 1), so by one."""
    shown = main("verify", write(), "--replay", "2", "--json", "--quiet")
    assert shown.code == 0
    for row in json.loads(shown.out)["replay"]["rows"]:
        each = values[row["policy"]]
        assert row["replayed"] == pytest.approx(each[:2].mean(), rel=1e-9)
        standard_error = each.std(ddof=1) / 2
        assert row["tolerance"] == pytest.approx(4 * standard_error + 1e-3 * each.mean(), rel=1e-9)
    wrong = main("verify", write(100.0), "--replay", "2", "--quiet")
    assert wrong.code == 1
    words = " ".join(wrong.out.split())
    assert "2 of 3 means agree, of the first 2 out of 4 pairs" in words
    assert "a replay of a part finds gross errors only" in words


@pytest.mark.parametrize(("asked", "run"), [(3, 4), (100, 4)])
def test_replays_are_of_whole_batches(main: Any, write: Any, asked: int, run: int) -> None:
    shown = main("verify", write(), "--replay", str(asked), "--json", "--quiet")
    assert json.loads(shown.out)["replay"]["pairs"] == run


@pytest.mark.parametrize(
    ("policy", "arguments", "words"),
    [
        ("bundled:z-image", ["--replay", "2"], ["evidence=()", "has no held-out figures"]),
        (None, ["--replay", "1"], ["--replay=1", "Use 2 or more"]),
        (
            None,
            ["--replay", "2", "--evaluation-prompts", "p.txt"],
            ["--evaluation-prompts='p.txt'", "exact-flow ships with"],
        ),
        (None, ["--replay", "2", "--call", "{}x"], ["--call='{}x'", "exact-flow ships with"]),
        (None, ["--replay", "2", "--model", "none"], ["--evaluation-prompts=None", "SHA-256"]),
    ],
)
def test_refused_replays(
    main: Any, write: Any, policy: str | None, arguments: list[str], words: list[str]
) -> None:
    refused = main("verify", policy or write(), *arguments)
    assert (refused.code, refused.out) == (2, "")
    for each in words:
        assert each in refused.err


def test_another_model_is_not_taken_for_the_documents(main: Any, write: Any) -> None:
    folder = write(model=ModelReference(id="exact-flow", revision="another"))
    refused = main("verify", folder, "--replay", "2")
    assert (refused.code, refused.out) == (2, "")
    assert "exact-flow at another" in refused.err
    assert "the model that is here is exact-flow at scenes4000" in refused.err


def test_evidence_that_no_calibration_writes(main: Any, write: Any) -> None:
    row = EvidenceRow(
        policy="dream", budget=BUDGET, metric=METRIC, mean=0.0, standard_error=0.0, pairs=PAIRS
    )
    refused = main("verify", write(evidence=(row,)), "--replay", "2")
    assert refused.code == 2
    assert "evidence.policy='dream'" in refused.err
    assert "only fewer-steps, uniform, meancache, otcache can be replayed" in refused.err


def test_differences_of_the_machine_are_said(main: Any, write: Any) -> None:
    assert EXACT.document.calibration is not None
    libraries = {**EXACT.document.calibration.libraries, "torch": "2.0.0"}
    calibration = EXACT.document.calibration.model_copy(
        update={"libraries": libraries, "device": "cuda", "batch_size": BATCH}
    )
    shown = main("verify", write(calibration=calibration), "--replay", "4", "--quiet")
    assert shown.code == 0
    assert "Not as in the calibration, so results may differ: " in shown.err
    assert "torch 2.0.0 then" in shown.err
    assert "device cuda then, cpu now" in shown.err


def test_model_in_a_folder(main: Any, tmp_path: Path) -> None:
    """The embedded weights as somebody's model, with held-out prompts of their own."""
    captions = load_setup("embedded").held_out_prompts[:6]
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\n".join(captions))
    call = {"max_sequence_length": 8, "negative_prompt": ""}
    sampling = {"height": 32, "width": 32, "true_cfg_scale": 4.0}
    source = ModelSource(
        str(FOLDER), "r1", evaluation_prompts=prompts, call=json.dumps({**sampling, **call})
    )
    setup = source.load()
    assert setup.held_out_digest == Prompts(captions).digest
    stored = document_with(
        setup,
        measured(setup),
        model=ModelReference(id="org/scenes", revision="r1"),
        sampling=EXACT.document.sampling.model_copy(update={"guidance": {"true_cfg_scale": 4.0}}),
    )
    folder = tmp_path / "policy"
    write_policy(folder, stored.document, stored.tables, "# A card\n")
    arguments = ("verify", str(folder), "--replay", "4", "--model", str(FOLDER), "--quiet")
    given = ("--evaluation-prompts", str(prompts), "--call", json.dumps(call))
    shown = main(*arguments, *given)
    assert shown.code == 0, shown.out + shown.err
    assert "3 of 3 means agree, of all 4 pairs" in shown.out
    prompts.write_text("another prompt\n")
    refused = main(*arguments, *given)
    assert (refused.code, refused.out) == (2, "")
    assert f"--evaluation-prompts='{prompts}'" in refused.err
    assert "Pass the file of held-out prompts that the calibration was given" in refused.err
