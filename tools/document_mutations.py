"""Seeded damage to policy documents: to values, to text, and to the header of their tables."""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from otcache_registry.documents.strict_json import MAX_DOCUMENT_BYTES

HUGE = "\0huge"
"""Stands for a value that is deeper, or has more entries, than is written quickly by json.dumps."""
DEPTHS = (10, 150, 250, 900, 1100, 20_000, 200_000)
ENTRIES = ("[]", "{}", "1", "1e1", '""', "null", "[{}]", '{"a":1}', '"k%d":1', '"k%d":[]')
LENGTHS = (*(0, 1, 2, 3, 7, 50, 51, 101) * 3, 1_001, 10_001, 200_000)
MOST_TEXT = 2**20

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 49, 50, 51, 10_000, 10_001),
    *(2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**25, 10**400, -(10**4000)),
    *(0.0, -0.0, 0.5, 1.0, 1.5, 5e-324, 1e-300, 1e16, 1e308, -1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *("", " ", "0", "1", "NaN", "null", "otcache", "otcache.policy/v2", "../../etc/passwd"),
    *("\0", "\x1b[2J", "\x7f", "\x9b", "\u2028", "\u202e", "\u2066", "\ud800", "\U0010ffff"),
    *("é" * 1_000, "x" * 1_001, "x" * 300_000, "a" * 64, "=cmd()", "<b>", "| |\n---", HUGE),
    *([], {}, [[]], [{}], [None], [0] * 50, {"": 0}, {"schema": None}, [[0, 1], [2]]),
)
LITERALS = (
    *(b"NaN", b"-Infinity", b"1e999", b"-1e999", b"1e-999", b"01", b"0x10", b"1_000", b"+1"),
    *(b".5", b"5.", b"1" * 4_000, b"1" * 5_000, b"0." + b"3" * 100_000, b"1e" + b"9" * 400),
    *(b"tru", b"nul", b"'a'", b'"\\u12"', b'"\\ud800"', b'"\t"', b"/**/1", b"[,]", b"{,}", b""),
)
DTYPES = ("F16", "F32", "F64", "BF16", "F8_E4M3", "I64", "U8", "BOOL", "F4", "C64", "", None, 7)

Mutation = Callable[[random.Random, Any], Any]


# Mutations of a document's values, and of the header of tables.


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every path into JSON values but the root's; one entry stands for a long list's."""
    if isinstance(value, dict):
        entries = list(value.items())
    elif isinstance(value, list):
        entries = list(enumerate(value[:3]))
    else:
        return
    for key, item in entries:
        yield (*path, key)
        yield from places(item, (*path, key))


def parent_of(content: Any, path: tuple[Any, ...]) -> Any:
    """Return the list or dict that the last part of a path is an index or a key of."""
    for part in path[:-1]:
        content = content[part]
    return content


def replace_value(rng: random.Random, value: Any) -> Any:
    """Return a strange value instead."""
    return rng.choice(STRANGE)


def vary_value(rng: random.Random, value: Any) -> Any:
    """Nearly the same value."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, (int, float)):
        varied = [value + 1, value - 1, value * rng.choice((-1, 2, 10, 10**6))]
        if abs(value) < 2**53:
            varied += [float(value), int(value)]
        return rng.choice(varied)
    if isinstance(value, str):
        at = rng.randint(0, len(value))
        return rng.choice((value[:at], value + value, value[:at] + "\u200b" + value[at:]))
    if isinstance(value, list):
        return rng.choice(
            (value[::-1], value[1:], value + value[-1:], rng.sample(value, len(value)))
        )
    return dict(rng.sample(list(value.items()), rng.randint(0, len(value))))


def stretch_value(rng: random.Random, value: Any) -> Any:
    """Many of it, as far as that does not get much too long to be read."""
    length = min(rng.choice(LENGTHS), MOST_TEXT // len(json.dumps(value)))
    if isinstance(value, dict):
        return {**value, **{f"k{number}": number for number in range(length)}}
    items = value if isinstance(value, list) and value else [value]
    return (items * (length // len(items) + 1))[: max(length, 1)]


VALUE_MUTATIONS: tuple[Mutation, ...] = (replace_value, vary_value, stretch_value)


def mutate_content(rng: random.Random, content: dict[str, Any]) -> None:
    """Change, remove, add, rename or swap something, in place."""
    path = rng.choice(list(places(content)))
    parent, key = parent_of(content, path), path[-1]
    action = rng.choice(("change", "change", "change", "remove", "add", "rename", "swap"))
    if action == "remove":
        del parent[key]
    elif action == "add" and isinstance(parent, dict):
        parent[rng.choice(("extra", "", "schema_", "__class__", "\ud800", "x" * 5_000))] = 1
    elif action == "rename" and isinstance(parent, dict):
        parent[str(key).upper()] = parent.pop(key)
    elif action == "swap":
        other = rng.choice(list(places(content)))
        parent[key] = copy.deepcopy(parent_of(content, other)[other[-1]])
    else:
        parent[key] = rng.choice(VALUE_MUTATIONS)(rng, parent[key])


def dumped(rng: random.Random, content: Any) -> bytes:
    """Return the JSON text, as one of several writers would have it."""
    separators = rng.choice(((",", ":"), (",\n", ": "), None))
    text = json.dumps(content, ensure_ascii=rng.random() < 0.5, separators=separators)
    return text.replace(json.dumps(HUGE), huge_value(rng), 1).encode("utf-8", "surrogatepass")


def huge_value(rng: random.Random) -> str:
    """Return a value that is deep, or so long that a document with it is just about read."""
    if rng.random() < 0.3:
        depth = rng.choice(DEPTHS)
        opening, closing = rng.choice((("[", "]"), ('{"a":', "}")))
        return opening * depth + "1" + closing * rng.choice((depth, 0))
    entry = rng.choice(ENTRIES)
    count = (MAX_DOCUMENT_BYTES - 1_000) // (len(entry) + (6 if "%d" in entry else 1))
    if "%d" in entry:
        return "{" + ",".join(entry % number for number in range(count)) + "}"
    return "[" + ",".join([entry] * count) + "]"


# Mutations of bytes.


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, cut, insert, repeat or overwrite something."""
    start = rng.randrange(len(data) + 1)
    end = min(len(data), start + rng.choice((1, 2, 8, 200)))
    action = rng.randrange(6)
    if action == 0 and data:
        changed = bytearray(data)
        for _ in range(rng.choice((1, 1, 3, 50))):
            changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        return bytes(changed)
    if action == 1:
        return data[:start]
    if action == 2:
        return data[:start] + rng.randbytes(end - start) + data[start:]
    if action == 3:
        return data[:end] + data[start:]
    if action == 4:
        return data[:start] + data[end:]
    return data[:start] + rng.randbytes(end - start) + data[end:]


def mutate_text(rng: random.Random, text: bytes) -> bytes:
    """Repeat a member, put in a strange literal, pad the text, or do what is done to any bytes."""
    action = rng.randrange(6)
    lines = text.splitlines(keepends=True) if len(text) < MOST_TEXT else []
    if action == 0 and len(lines) > 2:
        member = rng.choice([line for line in lines if b": " in line] or lines)
        lines.insert(rng.randrange(1, len(lines)), member)
        return b"".join(lines)
    if action == 1 and b": " in text:
        start = rng.choice([match.end() for match in re.finditer(b": ", text)])
        end = min(
            at for at in (*(text.find(sign, start) for sign in b",\n]}"), len(text)) if at > 0
        )
        return text[:start] + rng.choice(LITERALS) + text[end:]
    if action == 2:
        return rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b" " * 600_000, b"[")) + text
    if action == 3:
        return text + rng.choice((text, b"\0", b"]", b" " * 600_000, b"{}", b"//"))
    return mutate_bytes(rng, text)


def mutate_tables(rng: random.Random, data: bytes) -> bytes:
    """Change the header of a safetensors file, the size that it states, numbers or bytes."""
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    action = rng.randrange(5)
    if action == 0:
        stated = rng.choice((0, 1, size - 1, size + 1, len(data), 2**32, 2**63, 2**64 - 1))
        return stated.to_bytes(8, "little") + data[8:]
    if action == 1:
        return mutate_bytes(rng, data)
    if action == 2:
        start = rng.randrange(len(body) // 4) * 4
        number = rng.choice(
            (b"\0\0\x80\x7f", b"\0\0\xc0\x7f", b"\0\0\x80\xbf", b"\xff\xff\x7f\x7f")
        )
        return data[: 8 + size] + body[:start] + number + body[start + 4 :]
    tensor = header[rng.choice(list(header))]
    if action == 3:
        tensor["dtype"] = rng.choice(DTYPES)
    else:
        mutate_content(rng, header)
    text = dumped(rng, header)
    return len(text).to_bytes(8, "little") + text + rng.choice((body, body[:-4], body + b"\0", b""))
