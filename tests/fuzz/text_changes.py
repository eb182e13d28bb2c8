"""Changes of bytes, JSON values and YAML texts."""

import copy
import json
import random
from typing import Any

DEPTHS = (70, 500, 2_000, 100_000)

ODD_NUMBERS: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, -(2**63), 10**30,
    0.5, -0.0, 1e-320, 1e38, 1e300, float("inf"), float("-inf"), float("nan"),
)  # fmt: skip

ODD_TEXTS = (
    "", "x", "\0", "\n", "\ud800", "\u202e", "../../etc/passwd", "/dev/zero", "a" * 5000, "%s%n",
    "1e999", "w4a8", "w99a99", "float", "é" * 50, "None", "-1",
)  # fmt: skip


def odd_value(rng: random.Random) -> Any:
    """Return a value that nobody expects."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice(ODD_NUMBERS)
    if kind < 5:
        return rng.choice(ODD_TEXTS)
    odd: tuple[Any, ...] = (
        None, True, False, [], {}, [[]], [1, 2], {"a": {"b": [None]}}, [None] * 100, [[0, 0]] * 5,
        {"": ""}, [1e999, "x"],
    )  # fmt: skip
    return copy.deepcopy(rng.choice(odd))


def changed_value(value: Any, rng: random.Random, odd: Any = odd_value) -> Any:
    """Return a copy of plain values in which one to three places are others."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _change(value, rng, odd)
    return value


def _change(root: Any, rng: random.Random, odd: Any) -> Any:
    holder, key, node = None, None, root
    while isinstance(node, (dict, list)) and node and (holder is None or rng.random() < 0.8):
        holder = node
        key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
        node = holder[key]
    if holder is None:
        return odd(rng)
    kind = rng.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder[:] = holder * rng.choice((2, 50))
    elif kind == 2 and isinstance(holder, dict):
        holder[str(rng.choice(ODD_TEXTS))] = holder.pop(key)
    elif kind == 3 and isinstance(node, (int, float)) and not isinstance(node, bool):
        holder[key] = node * rng.choice((-1, 2, 1000, 0)) + rng.choice((0, 1, -1))
    else:
        holder[key] = odd(rng)
    return root


def changed_json(value: Any, rng: random.Random) -> bytes:
    """Return JSON of changed values, or of something that only looks like it."""
    text = json.dumps(changed_value(value, rng), ensure_ascii=rng.random() < 0.5)
    data = text.encode("utf-8", "surrogatepass")
    kind = rng.randrange(12)
    if kind == 0:
        return changed_bytes(data, rng)
    if kind == 1:
        return nested(rng, b"[", b"]")
    if kind == 2:
        return data[:-1] + b', "deep": ' + nested(rng, b'{"a":', b"}", b"1") + data[-1:]
    if kind == 3:
        return data.replace(b"1", b"9" * rng.choice((20, 5000)), 1)
    return data


def nested(rng: random.Random, begin: bytes, end: bytes, core: bytes = b"") -> bytes:
    """Return brackets within brackets."""
    depth = rng.choice(DEPTHS)
    return begin * depth + core + (end * depth if rng.random() < 0.8 else b"")


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return other bytes: flipped, cut, repeated, overwritten or put in."""
    for _ in range(rng.choice((1, 1, 2, 8))):
        at = rng.randrange(len(data) + 1)
        length = rng.choice((1, 2, 4, 8, 100))
        piece = rng.choice((b"\xff", b"\0", b"\x80", rng.randbytes(1))) * length
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + piece + data[at:]
        elif kind == 2:
            data = data[:at] + piece + data[at + length :]
        elif kind == 3:
            data = data[:at] + data[at + length :]
        elif kind == 4:
            data = data[:at] + data[at : at + 64] * 3 + data[at:]
        elif data:
            at %= len(data)
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    return data


_LAUGHS = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
)
_MERGES = "\n".join(
    ["m0: &m0 {k: v}"]
    + [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 10)}]}}" for i in range(1, 10)]
)
BOMBS = {
    "aliases": _LAUGHS,
    "merges": _MERGES,
    "itself": "self: &s [*s]",
    "itself as a value": "self: &s {a: *s}",
    "depth": "[" * 300 + "]" * 300,
}
"""Texts that stand for more than they have letters."""

_ITEMS = (
    *BOMBS.values(), "? [1, 2]\n: x", "date: 2001-99-99",
    "n: !!int 'x'", "b: !!binary '%%%'", "f: !!float x", "s: !!set {1, [2]}", "t: !!timestamp x",
    "o: !!python/object/apply:os.system ['true']", "x: ${oc.env:HOME}", "y: ${y}", "n: 0o99",
    "n: 1:99:99:99", "u: *nothing", "%YAML 9.9\n---\nx: 1", "--- a\n--- b", "x: !<tag> y",
    "\ttab: 1", "n: 1_000_000_000_000", "n: .nan", "z: &z\n  <<: *z", "<<: 1", "<<: [1, 2]",
)  # fmt: skip


def changed_yaml(value: Any, rng: random.Random) -> bytes:
    """Return YAML of changed values, of what YAML alone has, or bytes that only look like it."""
    import yaml

    kind = rng.randrange(8)
    if kind == 0:
        return nested(rng, b"[", b"]")
    if kind == 1:
        depth = rng.choice((40, 300, 1000))
        return b"".join(b" " * i + b"a:\n" for i in range(depth))
    text: str = yaml.safe_dump(value if kind < 5 else changed_value(value, rng))
    data = text.encode("utf-8", "surrogatepass")
    if kind in (2, 3):
        data += rng.choice(_ITEMS).encode() + b"\n"
    elif kind == 4:
        data = changed_bytes(data, rng)
    return data
