"""Valid files, from which the others are made: as small as a model with every part can be."""

import functools
import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.support.small_config import small_config


def tiny_config() -> dict[str, Any]:
    """Return a configuration of 64 pixels with one block in each stage."""
    config = small_config(64, d_model=32, memory_dim=8, embed_dim=8)
    trunk = config["model"]["image_encoder"]["trunk"]
    trunk.update(stages=[1, 1, 1, 1], global_att_blocks=[2])
    config["model"]["memory_attention"]["num_layers"] = 1
    return config


def model_files() -> tuple[bytes, ...]:
    """Return exported models."""
    return _torch_files()["onnx"]


def checkpoints() -> tuple[bytes, ...]:
    """Return float, quantized and packed checkpoints, which hold their configuration."""
    return _torch_files()["pt"]


def transformers_small_config() -> dict[str, Any]:
    """Return the smallest configuration that transformers can have, too: its memories are wide."""
    from tests.support.transformers_layout import D_MODEL, MEMORY_DIM, WIDTH

    return small_config(64, d_model=D_MODEL, memory_dim=MEMORY_DIM, embed_dim=WIDTH)


def transformers_config() -> dict[str, Any]:
    """Return the same as a ``config.json``."""
    from tests.support import transformers_layout

    return transformers_layout.transformers_config(64)


@functools.cache
def safetensors_files() -> tuple[bytes, ...]:
    """Return one model as safetensors, under its official names and those of transformers."""
    from qsam2_deploy.quant.checkpoints.architecture import build_model
    from tests.support.transformers_layout import safetensors_bytes, transformers_state

    state = build_model(transformers_small_config()).state_dict()
    return safetensors_bytes(state), safetensors_bytes(transformers_state(state))


def training_state() -> bytes:
    """Return the state of a training run."""
    return _torch_files()["state"][0]


@functools.cache
def _torch_files() -> dict[str, tuple[bytes, ...]]:
    """Return all files that torch makes, by the ends of their names.

    Another process makes them: this one is the smaller for it, and so are its copies.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.fuzz.torch_samples", folder]
        subprocess.run(command, check=True, cwd=Path(__file__).parents[2])
        paths = sorted(Path(folder).iterdir())
        return {
            kind: tuple(p.read_bytes() for p in paths if p.suffix == f".{kind}")
            for kind in ("onnx", "pt", "state")
        }


@functools.cache
def engine_file() -> bytes:
    """Return an engine file with plans that are stored in both ways."""
    from qsam2_deploy.engines.tensorrt.engine_file import write_engine
    from qsam2_deploy.spec import COMPONENTS
    from tests.engines.tensorrt.test_engine_file import header

    plans = {name: name.encode() * 400 for name in COMPONENTS}
    plans[COMPONENTS[0]] = hashlib.sha512(b"x").digest()
    with tempfile.TemporaryDirectory() as name:
        write_engine(Path(name, "m.engine"), header(), plans)
        return Path(name, "m.engine").read_bytes()


PREAMBLE = struct.Struct("<8sQ32s")


def engine_parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header of an engine file and what follows it."""
    _, length, _ = PREAMBLE.unpack_from(data)
    end = PREAMBLE.size + length
    return json.loads(data[PREAMBLE.size : end]), data[end:]


PROMPTS: list[Any] = [
    {"frame": 0, "object": 1, "points": [[320, 240], [10.5, 3]], "labels": [1, 0]},
    {"frame": 15, "object": 2, "box": [100, 80, 300, 240]},
    {"frame": 20, "object": 3, "mask": "mask.png"},
]
PLAN: dict[str, str] = {"image_encoder.trunk.blocks.*.mlp.*": "w2a4", "memory_encoder.*": "float"}
LOG: list[Any] = [
    {"step": 1, "stage": "a", "seconds": 1.0, "losses": {"focal": 1.0}, "learning_rate": 0.1},
    {"step": 2, "stage": "a", "seconds": 2.0, "scores": {"J": 50.0}},
    {"step": 3, "stage": "a", "seconds": 3.0, "note": "done"},
]
