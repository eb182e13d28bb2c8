"""Changes of a ``model.onnx``: of its graph, its metadata and its bytes; sealed again."""

import json
import random
from contextlib import suppress

import onnx

from qsam2_deploy._common.seal import TAIL_LENGTH, seal
from qsam2_deploy.spec import SPEC_KEY
from tests.fuzz.graph_changes import CHANGES, DEEP
from tests.fuzz.text_changes import changed_bytes, changed_json


def changed_model(data: bytes, rng: random.Random) -> bytes:
    """Return another file: one to three changes, and nearly always a digest that agrees."""
    body, kind = data[:-TAIL_LENGTH], rng.randrange(20)
    if kind == 0:
        body = changed_bytes(body, rng)
    elif kind == 1:
        body = _other_text(body, rng)
    elif kind in (2, 3):
        body = _other_metadata(body, rng)
    else:
        body = _other_graph(body, rng)
    if kind == 4:
        return changed_bytes(body + seal(body), rng)
    return body + seal(body)


def _other_graph(body: bytes, rng: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(body)
    changes = rng.choice((CHANGES, DEEP))
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        with suppress(IndexError, ValueError):  # an earlier change has left nothing to change
            rng.choice(changes)(model, rng)
    return bytes(model.SerializeToString())


def _other_text(body: bytes, rng: random.Random) -> bytes:
    """Put bytes that are no UTF-8 into names, of the same length."""
    names = (b"image_encoder/", b"mask_decoder/", b"MatMul", b"axis", b"qsam2.spec", b"sam2",
             b"ie.", b"QuantizeLinear", b"perm", b"memory_encoder/memory")  # fmt: skip
    name = rng.choice(names)
    at = rng.randrange(len(name))
    other = name[:at] + rng.choice((b"\xff", b"\x80", b"\0", b"\xc3", b"\n")) + name[at + 1 :]
    return body.replace(name, other, rng.choice((1, 2, -1)))


def _other_metadata(body: bytes, rng: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(body)
    entry = next(e for e in model.metadata_props if e.key == SPEC_KEY)
    kind = rng.randrange(10)
    if kind == 0:
        entry.key = rng.choice(("", "x", "qsam2.sha256"))
    elif kind == 1:
        model.metadata_props.add().key = rng.choice(("", SPEC_KEY, "x"))
    elif kind == 2:
        for i in range(rng.choice((20, 1000))):
            model.metadata_props.add().key = str(i)
    else:
        text = changed_json(json.loads(entry.value), rng)
        entry.value = text.decode("utf-8", "replace")
    return bytes(model.SerializeToString())
