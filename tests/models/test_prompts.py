"""Prompts of the package are apart and spread; files of one's own are read or refused, no third."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otcache_plugin.errors import ArgumentError
from otcache_plugin.prompts import files
from otcache_plugin.prompts.files import (
    FOLDER,
    Prompts,
    calibration_prompts,
    evaluation_prompts,
    read_prompts,
    require_disjoint,
)

CATEGORIES = [
    "attributes",
    "spatial-relations",
    "actions-and-motion",
    "object-interactions",
    "counting",
]


def of_package(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


@pytest.mark.parametrize("name", ["calibration.jsonl", "evaluation.jsonl"])
def test_the_package_has_ten_prompts_per_category_in_turn(name: str) -> None:
    entries = of_package(name)
    assert [entry["category"] for entry in entries] == 10 * CATEGORIES
    assert all(8 <= len(entry["prompt"].split()) <= 25 for entry in entries)


def test_the_packages_prompts_are_read_in_their_order() -> None:
    for prompts, name in (
        (calibration_prompts(), "calibration.jsonl"),
        (evaluation_prompts(), "evaluation.jsonl"),
    ):
        assert prompts.texts == tuple(entry["prompt"] for entry in of_package(name))


def test_the_packages_prompts_are_of_different_scenes() -> None:
    require_disjoint(calibration_prompts(), evaluation_prompts())
    # Rewording would leave most words as they are; the bound is on words of content.
    seen = [_content(text) for text in calibration_prompts().texts]
    for text in evaluation_prompts().texts:
        words = _content(text)
        assert max(len(words & other) for other in seen) <= len(words) / 3, text


def _content(text: str) -> set[str]:
    return {word for word in text.lower().strip(".").replace(",", "").split() if len(word) > 3}


def test_the_digests_are_fixed() -> None:
    """Documents carry them: another wording is another calibration."""
    assert calibration_prompts().digest.startswith("efcb720113347950")
    assert evaluation_prompts().digest.startswith("f4d37c39cefa3aff")


def test_the_digest_is_of_the_lines() -> None:
    assert Prompts(("a", "é")).digest == hashlib.sha256(b"a\n\xc3\xa9").hexdigest()


TEXTS = ("A cat on a mat.", 'A "quoted", listed dog', "Ein Bär läuft 走る")


def as_txt(texts: tuple[str, ...]) -> str:
    return "\n".join(texts) + "\n\n"


def as_jsonl(texts: tuple[str, ...]) -> str:
    values = [{"prompt": text, "id": 1} if index % 2 else text for index, text in enumerate(texts)]
    return "\n".join(json.dumps(value) for value in values)


def as_csv(texts: tuple[str, ...]) -> str:
    file = io.StringIO()
    csv.writer(file).writerows([["id", "prompt"], *enumerate(texts)])
    return file.getvalue()


WRITERS = {"txt": as_txt, "jsonl": as_jsonl, "csv": as_csv}


@pytest.mark.parametrize("ending", WRITERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_files_are_read_by_their_ending(tmp_path: Path, ending: str, encoding: str) -> None:
    file = tmp_path / f"prompts.{ending.upper()}"
    file.write_text(WRITERS[ending](TEXTS), encoding=encoding)
    assert read_prompts(file, "prompts") == Prompts(TEXTS)


def test_line_ends_of_other_systems_and_space_around_prompts_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b" one \r\n\r\ntwo\t\rthree")
    (tmp_path / "a.csv").write_bytes(b' prompt \r\n"one "\r\ntwo\r\n\r\nthree\r\n')
    for name in ("a.txt", "a.csv"):
        assert read_prompts(tmp_path / name, "prompts").texts == ("one", "two", "three")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.md", b"one", "its name does not say.*Use a file in .txt, .jsonl, .csv"),
        ("a", b"one", "its name does not say"),
        ("a.txt", b"", "there is no prompt in it"),
        ("a.txt", b" \n\n", "there is no prompt in it"),
        ("a.csv", b"prompt\n", "there is no prompt in it"),
        ("a.jsonl", b"\n", "there is no prompt in it"),
        ("a.jsonl", b'"one"\n" "\n', "line 2: the prompt is empty"),
        ("a.csv", b"prompt,x\none,1\n ,2\n", "line 3: the prompt is empty"),
        ("a.jsonl", b'{"prompt": 3}', "line 1: 3 is not a string"),
        ("a.jsonl", b'\n["a"]', r"line 2: \['a'\] is not a string"),
        ("a.jsonl", b"null", "line 1: None is not a string"),
        ("a.jsonl", b'{"text": "one"}', 'line 1: the object has no "prompt"'),
        ("a.jsonl", b'"one"\n{"prompt"', "line 2: it is not JSON"),
        ("a.jsonl", 10**5 * b"[", "line 1: it is not JSON"),
        ("a.jsonl", 10**5 * b"1", "line 1: it is not JSON"),
        ("a.jsonl", rb'"\ud800"', r"line 1: .* half of a surrogate pair, U\+D800"),
        ("a.jsonl", rb'"a\u2028b"', r"line 1: .* a line separator, U\+2028"),
        ("a.csv", b'prompt\n"a\nb"\n', r"line 3: .* a control character, U\+000A"),
        ("a.txt", b"one\na\x00b", r"line 2: .* a control character, U\+0000"),
        ("a.csv", b"text\none\n", "line 1: 0 columns are called prompt"),
        ("a.csv", b"prompt,prompt\na,b\n", "line 1: 2 columns are called prompt"),
        ("a.csv", b"", "line 1: 0 columns are called prompt"),
        ("a.csv", b"prompt\na cat, a dog\n", "line 2: 2 fields under a header of 1.*quotes"),
        ("a.csv", b'prompt\n"a" b\n', "line 2: it is not CSV"),
        ("a.txt", b"one\ntwo\n one ", "line 3: the prompt 'one' is in line 1 already"),
        ("a.txt", b"one\n" + 5001 * b"x", "line 2: the prompt has 5,001 characters.*5,000 at most"),
        ("a.txt", b"one\ntwo\nthr\xe9e", "line 3: it is not UTF-8.*Save it as UTF-8"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes, problem: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ArgumentError, match=f"evaluation_prompts='.*{name}': {problem}"):
        read_prompts(tmp_path / name, "evaluation_prompts")


def test_an_error_is_short_whatever_the_file_holds(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    long = "x" * 4000
    for line in (json.dumps([long] * 1000), "[" * 900 + "]" * 900, f'"{long}"\n"{long}"'):
        file.write_text(line)
        with pytest.raises(ArgumentError) as caught:
            read_prompts(file, "prompts")
        assert len(caught.value.problem) < 300


def test_the_longest_prompt_and_file_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.txt"
    file.write_text(5000 * "x")
    assert len(read_prompts(file, "prompts").texts[0]) == 5000
    monkeypatch.setattr(files, "LARGEST_FILE", 5000)
    assert read_prompts(file, "prompts")
    monkeypatch.setattr(files, "LARGEST_FILE", 4999)
    with pytest.raises(ArgumentError, match="larger than 4,999 bytes"):
        read_prompts(file, "prompts")


@pytest.mark.parametrize("name", ["missing.txt", "folder.txt", "null\0.txt"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(ArgumentError, match="it cannot be read"):
        read_prompts(tmp_path / name, "prompts")


@pytest.mark.parametrize("other", ["a red  CAR", " A Red Car ", "a red car"])
def test_a_prompt_on_both_sides_is_refused(other: str) -> None:
    with pytest.raises(
        ArgumentError, match=r"prompt='.*among the calibration.*leave it out of one"
    ):
        require_disjoint(Prompts(("x", "A red car")), Prompts(("y", other)))
    require_disjoint(Prompts(("A red car",)), Prompts(("A red cart", "red car")))


in_one_folder = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ENDINGS = st.sampled_from(["txt", "jsonl", "csv"])
BYTES = st.one_of(
    st.binary(max_size=200),
    st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.sampled_from(['"', ",", "\n", "\r", "prompt", "a", "{", "}", ":", " "])).map(
        lambda parts: "".join(parts).encode()
    ),
    st.lists(
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner) | st.dictionaries(st.just("prompt") | st.text(), inner),
        )
    ).map(lambda values: "\n".join(map(json.dumps, values)).encode()),
)


@in_one_folder
@given(ending=ENDINGS, content=BYTES)
def test_any_file_is_read_or_refused(tmp_path: Path, ending: str, content: bytes) -> None:
    file = tmp_path / f"any.{ending}"
    file.write_bytes(content)
    try:
        prompts = read_prompts(file, "prompts")
    except ArgumentError:
        return
    assert len(set(prompts.texts)) == len(prompts.texts) > 0
    assert all(text == text.strip() != "" and "\n" not in text for text in prompts.texts)
    assert len(prompts.digest) == 64


PRINTABLE = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20)


@in_one_folder
@given(
    ending=ENDINGS,
    texts=st.lists(
        PRINTABLE.map(str.strip).filter(lambda text: text not in ("", "\ufeff")),
        min_size=1,
        unique=True,
    ),
)
def test_any_prompts_are_read_as_they_were_written(
    tmp_path: Path, ending: str, texts: list[str]
) -> None:
    file = tmp_path / f"any.{ending}"
    file.write_bytes(b"\xef\xbb\xbf" + WRITERS[ending](tuple(texts)).encode())
    assert read_prompts(file, "prompts").texts == tuple(texts)
