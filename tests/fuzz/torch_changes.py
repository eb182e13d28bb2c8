"""Changes of what ``torch.save`` writes: of its values, its tensors and its archive."""

import io
import random
import zipfile
from typing import Any

import torch

from tests.fuzz.text_changes import changed_bytes, changed_value, odd_value


def changed_torch_file(data: bytes, rng: random.Random) -> bytes:
    """Return another file."""
    kind = rng.randrange(10)
    if kind == 0:
        return changed_bytes(data, rng)
    if kind == 1:
        return _other_archive(data, rng)
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if kind == 2:
        content = _within_itself(content, rng)
    elif kind < 6:
        # A few thousand tensors hide the rest, so that is changed alone.
        keys = [key for key in content if key not in ("model", "average")]
        key = rng.choice(keys or list(content))
        content[key] = changed_value(content[key], rng, _odd)
    else:
        content = changed_value(content, rng, _odd)
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=kind != 9)
    return stream.getvalue()


def _odd(rng: random.Random) -> Any:
    return odd_value(rng) if rng.random() < 0.5 else odd_tensor(rng)


def odd_tensor(rng: random.Random) -> torch.Tensor:
    """Return a tensor that no model has."""
    one = torch.ones(1)
    tensors = (
        one.expand(1 << 40), one.expand(1 << 20, 1 << 20), torch.ones(3, dtype=torch.complex64),
        torch.ones(2, 2).to_sparse(), torch.tensor(float("nan")), torch.ones(0), torch.ones(1, 3),
        torch.ones(5, dtype=torch.int64), torch.tensor(True), torch.full((4,), 1e38),
        torch.ones(4).half(), torch.zeros(2, dtype=torch.uint8), torch.ones([1] * 20),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), -torch.ones(64),
        torch.empty(3, device="meta"),
    )  # fmt: skip
    return rng.choice(tensors)


def _within_itself(content: Any, rng: random.Random) -> Any:
    """Values that hold themselves, or that hold each other many times."""
    kind = rng.randrange(3)
    if kind == 0:
        loop: list[Any] = []
        loop.append(loop)
        odd: Any = loop
    elif kind == 1:
        odd = "x"
        for _ in range(25):
            odd = [odd] * 8
    else:
        odd = []
        for _ in range(rng.choice((40, 400))):
            odd = [odd]
    content[rng.choice(list(content))] = odd
    return content


def _other_archive(data: bytes, rng: random.Random) -> bytes:
    """The same entries deflated, fewer, or with other content."""
    stream = io.BytesIO()
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(stream, "w", method) as new:
        entries = old.infolist()
        chosen = rng.randrange(len(entries))
        for i, entry in enumerate(entries):
            content = old.read(entry)
            if i == chosen or (entry.filename.endswith("data.pkl") and rng.random() < 0.5):
                kind = rng.randrange(4)
                if kind == 0:
                    continue
                if kind == 1:
                    content = bytes(1 << 26) if method == zipfile.ZIP_DEFLATED else b""
                else:
                    content = changed_bytes(content, rng)
            new.writestr(entry.filename, content)
    return stream.getvalue()
