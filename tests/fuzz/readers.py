"""Every reader of files: a valid file changed at random, and what is done with it."""

import functools
import hashlib
import json
import random
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import samples
from tests.fuzz.model_changes import changed_model
from tests.fuzz.text_changes import changed_bytes, changed_json, changed_value, changed_yaml


@dataclass(frozen=True)
class Reader:
    """One reader of files.

    Attributes:
        make: returns a file for some random numbers.
        read: reads it, as the program would; gets the path and random numbers.
    """

    make: Callable[[random.Random], bytes]
    read: Callable[[Path, random.Random], Any]


# ------------------------------------------------------------------ model.onnx
def _make_model(rng: random.Random) -> bytes:
    return changed_model(rng.choice(samples.model_files()), rng)


def _read_model(path: Path, rng: random.Random) -> None:
    """Open the model in ONNX Runtime; of some, segment a frame and track one."""
    from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
    from qsam2_deploy.predictors.segmenter import VideoSegmenter
    from qsam2_deploy.tracking.results import Prompt

    with OrtBackend(path, 1, kernels=False) as backend:
        if rng.random() < 0.2:
            with VideoSegmenter(backend) as segmenter:
                frame = np.zeros((48, 64, 3), np.uint8)
                segmenter.track(frame, [Prompt(points=((20.0, 20.0),), labels=(1,))])
                segmenter.track(frame)


def _inspect_model(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.inspection.report import inspect_model

    inspect_model(path, show_progress=False).to_json()


# ------------------------------------------------------------------ saved objects
@functools.cache
def _objects() -> tuple[Any, bytes]:
    """Return the metadata of a model, and the file of an object that it has seen on two frames."""
    import tempfile

    from qsam2_deploy.tracking.memory import HostMemories, MemoryBank, MemoryEntry
    from qsam2_deploy.tracking.object_file import write_objects
    from tests.predictors.fake_backend import fake_spec

    spec = fake_spec()
    side, mask = spec.feature_size, spec.mask_size

    def entry(fill: float) -> MemoryEntry:
        memory = np.full((spec.memory_dim, side, side), 0x3F80, np.uint16)
        logits = np.full((mask, mask), fill, np.float32)
        return MemoryEntry(logits, np.full(spec.d_model, fill, np.float32), fill, memory)

    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "objects")
        bank = MemoryBank({0: entry(1.0)}, {1: entry(2.0)})
        write_objects(path, {7: bank}, 1, spec, HostMemories())
        return spec, path.read_bytes()


def _make_objects(rng: random.Random) -> bytes:
    from tests.support.transformers_layout import parts_of, with_header

    data = _objects()[1]
    if rng.random() < 0.3:
        return changed_bytes(data, rng)
    header, tensors = parts_of(data)
    name = rng.choice(list(header))
    header[name] = changed_value(header[name], rng)
    return with_header(header, tensors)


def _read_objects(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.tracking.memory import HostMemories
    from qsam2_deploy.tracking.object_file import read_objects

    read_objects(path, rng.randrange(-1, 100), _objects()[0], HostMemories())


# ------------------------------------------------------------------ lowered graphs
@functools.cache
def _lowered() -> tuple[str, str, bytes]:
    """Return a model's digest, the name of a component, and what is kept of it."""
    import tempfile

    from qsam2_deploy.engines.onnxruntime.cpu import lower_here, ort_cache
    from qsam2_deploy.model_file.bundle import read_bundle
    from qsam2_deploy.model_file.lowered_cache import lowered_model

    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "m.onnx")
        path.write_bytes(samples.model_files()[0])
        bundle = read_bundle(path)
        cache = ort_cache(name, bundle.digest)
        lowered_model(bundle.components["mask_decoder"], lower_here, cache)
        return bundle.digest, "mask_decoder", cache.path("mask_decoder").read_bytes()


def _make_lowered(rng: random.Random) -> bytes:
    return changed_bytes(_lowered()[2], rng)


def _read_lowered(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.engines.onnxruntime.cpu import ort_cache

    digest, component, _ = _lowered()
    cache = ort_cache(path.parent, digest)
    shutil.copy(path, cache.path(component))
    cache.load(component)


# ------------------------------------------------------------------ files of torch
def _make_checkpoint(rng: random.Random) -> bytes:
    from tests.fuzz.torch_changes import changed_torch_file

    return changed_torch_file(rng.choice(samples.checkpoints()), rng)


def _read_checkpoint(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint

    load_checkpoint(path)


def _make_safetensors(rng: random.Random) -> bytes:
    """A file of safetensors with another header or other bytes; in upstream's names or others'."""
    from tests.support.transformers_layout import parts_of, with_header

    data = rng.choice(samples.safetensors_files())
    kind = rng.randrange(8)
    if kind == 0:
        return changed_bytes(data, rng)
    header, tensors = parts_of(data)
    if kind == 1:
        return with_header(header, changed_bytes(tensors, rng))
    name = rng.choice([name for name in header if name != "__metadata__"])
    if kind < 6:  # what is said of one tensor, which a few hundred others would hide
        header[name] = changed_value(header[name], rng)
    elif kind == 6:
        header[rng.choice(("module.", "model.", "x.", "\n")) + name] = header.pop(name)
    else:
        header = changed_value(header, rng)
    return with_header(header, tensors)


def _read_safetensors(path: Path, rng: random.Random) -> None:
    """Load it beside the right configuration; some by its names alone."""
    from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint

    if rng.random() < 0.8:
        path.with_name("config.json").write_text(json.dumps(samples.transformers_config()))
    ours = samples.transformers_small_config() if rng.random() < 0.5 else None
    load_checkpoint(path.rename(path.with_name("model.safetensors")), config=ours)


def _read_transformers_config(path: Path, rng: random.Random) -> None:
    """Load a folder of transformers whose configuration is another one."""
    from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint

    folder = path.with_name("folder")
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(samples.safetensors_files()[1])
    shutil.copy(path, folder / "config.json")
    load_checkpoint(folder)


def _make_state(rng: random.Random) -> bytes:
    from tests.fuzz.torch_changes import changed_torch_file

    return changed_torch_file(samples.training_state(), rng)


def _read_state(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.training.run.state import TrainingState
    from tests.fuzz.torch_samples import training_modules

    TrainingState(*training_modules(), "d").load(path)


# ------------------------------------------------------------------ engines
def _make_engine(rng: random.Random) -> bytes:
    data = samples.engine_file()
    if rng.random() < 0.2:
        return changed_bytes(data, rng)
    values, plans = samples.engine_parts(data)
    kind = rng.randrange(6)
    if kind == 0:
        block = zlib.compress(bytes(1 << rng.choice((10, 20, 24))), 9)
        count = rng.choice((1, 3, 200))
        entry = values["plans"][0]
        plans = block * count + plans
        entry["blocks"], entry["bytes"] = [len(block)] * count, count << 20
    elif kind == 1:
        plans = changed_bytes(plans, rng)
    if kind in (2, 3):
        text = changed_json(values, rng)
    else:
        part = rng.choice(("plans", "target", "spec", "builder", "none"))
        if part in values:
            values[part] = changed_value(values[part], rng)
        text = json.dumps(values).encode("utf-8", "surrogatepass")
    preamble = samples.PREAMBLE.pack(b"QSAM2ENG", len(text), hashlib.sha256(text).digest())
    return preamble + text + plans


def _read_engine(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.engines.tensorrt.engine_file import read_engine

    read_engine(path)


# ------------------------------------------------------------------ texts
def _read_prompts(path: Path, rng: random.Random) -> None:
    from PIL import Image

    from qsam2_deploy.media.prompting.prompt_file import prompts_from_file

    Image.new("L", (8, 8), 255).save(path.with_name("mask.png"))
    prompts_from_file(path)


def _make_manifest(rng: random.Random) -> bytes:
    entry = {"video": "a.mp4", "prompts": samples.PROMPTS, "name": "b", "start": 1, "max_frames": 2}
    lines = [changed_json(entry, rng), json.dumps({**entry, "name": "c"}).encode()]
    return changed_bytes(b"\n".join(lines), rng) if rng.random() < 0.2 else b"\n".join(lines)


def _read_manifest(path: Path, rng: random.Random) -> None:
    from PIL import Image

    from qsam2_deploy.batch.jobs import jobs_from_manifest

    Image.new("L", (8, 8), 255).save(path.with_name("mask.png"))
    for job in jobs_from_manifest(path):
        job.prompts.read()


def _read_plan(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.calibration.plan import plan_layers, read_plan

    overrides = read_plan(path)
    names = ["image_encoder.trunk.blocks.0.mlp.layers.0", "memory_encoder.x"]
    plan_layers(names, bits="w8a8", method="lsc", overrides=overrides)


def _read_recipe(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.training.recipe import read_recipe

    read_recipe(path)


@functools.cache
def _recipe() -> Any:
    import yaml

    from qsam2_deploy.training.recipe import default_qat_recipe

    return yaml.safe_load(default_qat_recipe().read_text())


def _read_config(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.quant.checkpoints.architecture import build_model, read_config
    from qsam2_deploy.quant.checkpoints.plain_file import memory_of_file

    config = read_config(path)
    with memory_of_file(1 << 20):
        build_model(config)


def _read_scores(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.evaluation.score_file import read_scores

    read_scores(path)


@functools.cache
def _scores() -> Any:
    from tests.evaluation.test_score_file import RESULT

    return json.loads(RESULT.to_json())


def _make_log(rng: random.Random) -> bytes:
    lines = [json.dumps(line).encode() for line in samples.LOG]
    at = rng.randrange(len(lines))
    lines[at] = changed_json(samples.LOG[at], rng)
    return b"\n".join(lines) + b"\n"


def _read_log(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.training.run.log import read_log

    read_log(path)


def _read_choice(path: Path, rng: random.Random) -> None:
    from qsam2_deploy.engines.choose import _RememberedChoice
    from qsam2_deploy.engines.options import BackendOptions

    remembered = _RememberedChoice("ab", ["ort"], BackendOptions(cache=path.parent))
    shutil.copy(path, remembered._path)
    remembered.recall()


@functools.cache
def _choice() -> Any:
    from qsam2_deploy.engines.choose import _RememberedChoice
    from qsam2_deploy.engines.options import BackendOptions

    remembered = _RememberedChoice("ab", ["ort"], BackendOptions())
    return {"engine": "ort", "milliseconds": {"ort": 1.5}, "about": remembered._about}


READERS: dict[str, Reader] = {
    "model": Reader(_make_model, _read_model),
    "inspect": Reader(_make_model, _inspect_model),
    "checkpoint": Reader(_make_checkpoint, _read_checkpoint),
    "safetensors": Reader(_make_safetensors, _read_safetensors),
    "transformers-configuration": Reader(
        lambda rng: changed_json(samples.transformers_config(), rng), _read_transformers_config
    ),
    "training-state": Reader(_make_state, _read_state),
    "engine": Reader(_make_engine, _read_engine),
    "objects": Reader(_make_objects, _read_objects),
    "lowered": Reader(_make_lowered, _read_lowered),
    "prompts": Reader(lambda rng: changed_json(samples.PROMPTS, rng), _read_prompts),
    "manifest": Reader(_make_manifest, _read_manifest),
    "plan": Reader(lambda rng: changed_yaml(samples.PLAN, rng), _read_plan),
    "recipe": Reader(lambda rng: changed_yaml(_recipe(), rng), _read_recipe),
    "configuration": Reader(lambda rng: changed_yaml(samples.tiny_config(), rng), _read_config),
    "scores": Reader(lambda rng: changed_json(_scores(), rng), _read_scores),
    "log": Reader(_make_log, _read_log),
    "choice": Reader(lambda rng: changed_json(_choice(), rng), _read_choice),
}
