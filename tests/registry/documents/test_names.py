"""Names of folders in a policy repository: plain, different for what differs, and read back."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
from hub_world import EXACT, REVISION, document_of
from hypothesis import given
from hypothesis import strategies as st
from otcache_registry import PolicyIdentity, Sampling
from otcache_registry.documents.names import (
    FilePlace,
    default_name,
    document_folder,
    is_hub_id,
    parse_path,
    revision_segment,
    sampling_key,
)
from otcache_registry.store import lock_record as lockfile
from pydantic import TypeAdapter

PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")
texts = st.text(min_size=1, max_size=200).filter(lambda text: text.isprintable())
lookalikes = st.text("any_.-/%61", min_size=1, max_size=6)
revisions = st.one_of(st.none(), texts, lookalikes, st.sampled_from(["any", "_61ny", "x" * 999]))


def sampling(**changes: Any) -> Sampling:
    fields: dict[str, Any] = {
        "pipeline": "QwenImagePipeline",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "num_inference_steps": 4,
        "sigmas": (1.0, 0.75, 0.5, 0.25, 0.0),
        "height": 1024,
        "width": 1328,
        "guidance": {"true_cfg_scale": 4.0},
    }
    return Sampling(**{**fields, **changes})


@given(revisions)
def test_revisions_become_plain_names(revision: str | None) -> None:
    segment = revision_segment(revision)
    assert PLAIN.fullmatch(segment)
    assert segment == revision_segment(revision)


@given(revisions, revisions)
def test_different_revisions_have_different_names(first: str | None, second: str | None) -> None:
    assert (revision_segment(first) == revision_segment(second)) == (first == second)


@pytest.mark.parametrize(
    ("revision", "segment"),
    [
        (None, "any"),
        ("any", "_61ny"),
        (REVISION, REVISION),
        ("v1.0-rc", "v1.0-rc"),
        ("a_b", "a_5fb"),
        ("../é", "_2e._2f_c3_a9"),
        ("-rf", "_2drf"),
        ("x" * 81, "x" * 62 + "__" + hashlib.sha256(b"x" * 81).hexdigest()[:16]),
    ],
)
def test_revisions_by_hand(revision: str | None, segment: str) -> None:
    assert revision_segment(revision) == segment


def test_sampling_key_by_hand() -> None:
    facts = {
        "guidance": {"true_cfg_scale": 4.0},
        "height": 1024,
        "pipeline": "QwenImagePipeline",
        "scheduler": "FlowMatchEulerDiscreteScheduler",
        "sigmas": [1_000_000, 750_000, 500_000, 250_000, 0],
        "steps": 4,
        "width": 1328,
    }
    digest = hashlib.sha256(json.dumps(facts).replace(" ", "").encode()).hexdigest()[:8]
    assert sampling_key(sampling()) == f"4-steps-1328x1024-{digest}"


CHANGES: list[dict[str, Any]] = [
    {"pipeline": "FluxPipeline"},
    {"scheduler": "DDIMScheduler"},
    {"num_inference_steps": 3, "sigmas": (1.0, 0.75, 0.5, 0.0)},
    {"sigmas": (1.0, 0.75, 0.5, 0.250002, 0.0)},
    {"sigmas": None},
    {"height": 512},
    {"width": None},
    {"height": None, "width": None},
    {"guidance": {"true_cfg_scale": 4.5}},
    {"guidance": {"guidance_scale": 4.0}},
    {"guidance": {}},
]


def test_each_part_of_a_set_up_counts() -> None:
    keys = [sampling_key(sampling(**changes)) for changes in [{}, *CHANGES]]
    assert len(set(keys)) == 1 + len(CHANGES)
    assert re.fullmatch(r"4-steps-[0-9a-f]{8}", sampling_key(sampling(width=None)))


def test_noise_in_sigmas_does_not_count() -> None:
    noisy = sampling(sigmas=(1.0, 0.75 + 1e-7, 0.5 - 1e-7, 0.25, 0.0))
    assert sampling_key(noisy) == sampling_key(sampling())


def test_order_of_guidance_does_not_count() -> None:
    one = sampling(guidance={"a": 1.0, "b": 2.0})
    other = sampling(guidance={"b": 2.0, "a": 1.0})
    assert sampling_key(one) == sampling_key(other)


@given(revisions, st.sampled_from(CHANGES))
def test_folders_are_read_back_and_may_be_kept(
    revision: str | None, changes: dict[str, Any]
) -> None:
    document = document_of(revision=revision, sampling=sampling(**changes))
    folder = document_folder(document)
    for name in ("policy.json", "tables.safetensors", "README.md", "figures/gaps.png"):
        assert parse_path(f"{folder}/{name}") == FilePlace(folder, name)
    # What the store takes as a folder, too.
    assert TypeAdapter(lockfile.Folder).validate_python(folder) == folder


FOLDER = "rev/otcache/50-steps-32x32-01234567"


@pytest.mark.parametrize(
    "path",
    [
        "README.md",
        "policy.json",
        ".gitattributes",
        f"{FOLDER}/model.pkl",
        f"{FOLDER}/policy.json/x",
        f"{FOLDER}/policy.json\n",
        f"{FOLDER}/figures/x.svg",
        f"{FOLDER}/figures/.png",
        f"{FOLDER}/figures/a/b.png",
        f"{FOLDER}/deeper/policy.json",
        f"up/{FOLDER}/policy.json",
        f"../{FOLDER.partition('/')[2]}/policy.json",
        ".git/otcache/50-steps-01234567/policy.json",
        "rev/50-steps-01234567/policy.json",
        "rev/no-name/50-steps-01234567/policy.json",
        "rev/größe/50-steps-01234567/policy.json",
        f"rev/{'x' * 101}/50-steps-01234567/policy.json",
        "rev/otcache/50-steps/policy.json",
        "rev/otcache/50-steps-0123456/policy.json",
        "rev/otcache/-steps-01234567/policy.json",
        "rev/otcache/٣-steps-01234567/policy.json",
    ],
)
def test_other_files_have_no_place(path: str) -> None:
    assert parse_path(f"{FOLDER}/policy.json") is not None
    assert parse_path(path) is None


def test_a_document_has_one_folder() -> None:
    document = EXACT.document
    key = sampling_key(document.sampling)
    revision = revision_segment(document.model.revision)
    assert document_folder(document) == f"{revision}/otcache/{key}"
    assert document_folder(document_of(revision=None)).startswith("any/otcache/50-steps-32x32-")


def test_documents_of_two_policies_lie_side_by_side() -> None:
    other = document_of(policy=PolicyIdentity(name="strata", distribution=None))
    assert document_folder(other) != document_folder(document_of())
    assert document_folder(other) == document_folder(document_of()).replace("otcache", "strata")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen-Image", "otcache-Qwen-Image"),
        ("black-forest-labs/FLUX.1-dev", "otcache-FLUX.1-dev"),
        ("embedded", "otcache-embedded"),
        ("/home/me/my model..v2/", "otcache-model"),
        ("lab/my model..v2", "otcache-my-model-v2"),
        ("é", "otcache-model"),
        ("a/" + "x" * 96, "otcache-" + "x" * 80),
    ],
)
def test_names_of_repositories(model: str, name: str) -> None:
    assert default_name(model) == name
    assert is_hub_id(f"user/{name}")


@given(texts)
def test_every_model_gives_a_name_that_the_hub_takes(model: str) -> None:
    assert is_hub_id(f"user/{default_name(model)}")


@pytest.mark.parametrize("name", ["", "name", "a/b/c", "/x", "a/", "../x", "a/-b", "a/b--c", "é/x"])
def test_what_is_no_repository(name: str) -> None:
    assert not is_hub_id(name)
