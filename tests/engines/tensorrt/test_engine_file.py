"""The engine file: what was written is read, and what was damaged is refused."""

import errno
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qsam2_deploy.engines.tensorrt import engine_file
from qsam2_deploy.engines.tensorrt.engine_file import (
    EngineHeader,
    Target,
    Variant,
    read_engine,
    write_engine,
)
from qsam2_deploy.engines.tensorrt.library import Library
from qsam2_deploy.engines.tensorrt.options import Limits
from qsam2_deploy.engines.tensorrt.profiles import component_profiles
from qsam2_deploy.errors import EngineError, InputError, ModelFileError
from qsam2_deploy.spec import COMPONENTS, ModelSpec

PLANS = {name: name.encode() * (i + 3) for i, name in enumerate(COMPONENTS)}
PLANS[COMPONENTS[1]] = np.random.default_rng(0).bytes(900)  # does not shrink, so it stays as it is


def header(**other: object) -> EngineHeader:
    spec = ModelSpec("tiny", 64, constants={"no_mem_embed": np.arange(4, dtype=np.float32)})
    profiles = {name: component_profiles(spec, name, Limits()) for name in COMPONENTS}
    target = Target("Orin", ("8.7",))
    variants = {name: Variant("int8") for name in COMPONENTS}
    variants[COMPONENTS[1]] = Variant("fp16", fused_attention=False)
    made = EngineHeader(spec, "ab" * 32, "mixed", "tensorrt", "10.3.0", target, profiles, variants)
    return replace(made, **other)


@pytest.fixture
def path(tmp_path) -> Path:
    file = tmp_path / "model.engine"
    assert write_engine(file, header(), PLANS) == file.stat().st_size
    return file


def rewrite_header(path: Path, change: dict[str, object], *, plans: bytes | None = None) -> None:
    """Change entries of the header, with a digest that fits."""
    data = path.read_bytes()
    _, length, _ = engine_file._PREAMBLE.unpack_from(data)
    start = engine_file._PREAMBLE.size
    values = json.loads(data[start : start + length]) | change
    text = json.dumps({k: v for k, v in values.items() if v is not None}).encode()
    preamble = engine_file._PREAMBLE.pack(
        engine_file.MAGIC, len(text), hashlib.sha256(text).digest()
    )
    path.write_bytes(preamble + text + (data[start + length :] if plans is None else plans))


def test_it_holds_what_was_written(path):
    found, wanted = read_engine(path), header()
    assert found.path == path
    assert {name: bytes(plan) for name, plan in found.plans.items()} == PLANS
    assert found.header.spec.to_json() == wanted.spec.to_json()
    assert dict(found.header.profiles) == dict(wanted.profiles)
    assert replace(found.header, spec=wanted.spec, profiles=wanted.profiles) == wanted


def test_every_cut_is_refused(path):
    data = path.read_bytes()
    for length in [*range(60), *range(60, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ModelFileError, match=r"truncated|not an engine file") as caught:
            read_engine(path)
        assert "\n" not in str(caught.value)
        if length >= 8:
            assert f"it has {length} of" in str(caught.value)


def test_every_changed_byte_is_refused(path):
    data = path.read_bytes()
    for place in [*range(60), *range(60, len(data), 41), len(data) - 1]:
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            read_engine(path)


def test_the_plan_with_a_wrong_digest_is_named(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match="the plan of memory_encoder"):
        read_engine(path)
    path.write_bytes(bytes(data).replace(PLANS[COMPONENTS[1]], PLANS[COMPONENTS[1]][::-1]))
    with pytest.raises(ModelFileError, match="plan of memory_attention does not match its SHA-256"):
        read_engine(path)


def test_a_file_of_version_1_is_still_read(path):
    """It had plans as they are, and one precision for all."""
    plans = [
        {"component": name, "bytes": len(plan), "sha256": hashlib.sha256(plan).hexdigest(),
         "profiles": []}
        for name, plan in PLANS.items()
    ]  # fmt: skip
    rewrite_header(
        path,
        {"schema_version": 1, "precision": "int4", "plans": plans},
        plans=b"".join(PLANS.values()),
    )
    found = read_engine(path)
    assert {name: bytes(plan) for name, plan in found.plans.items()} == PLANS
    assert {found.header.variant(name) for name in COMPONENTS} == {Variant("int4")}


@pytest.mark.parametrize("blocks", [[], [5, 5], [-900], [1 << 40], ["x"]])
def test_blocks_that_cannot_be_are_refused(path, blocks):
    data = path.read_bytes()
    _, length, _ = engine_file._PREAMBLE.unpack_from(data)
    start = engine_file._PREAMBLE.size
    plans = json.loads(data[start : start + length])["plans"]
    plans[1]["blocks"] = blocks
    rewrite_header(path, {"plans": plans})
    with pytest.raises(ModelFileError):
        read_engine(path)


def test_more_bytes_than_the_header_says_are_refused(path):
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ModelFileError, match="4 bytes after its last plan"):
        read_engine(path)


def test_a_newer_schema_is_told_before_all_else(path):
    rewrite_header(path, {"schema_version": 3, "plans": None}, plans=b"in another way")
    with pytest.raises(ModelFileError, match=r"schema version 3.*up to 2; upgrade"):
        read_engine(path)


@pytest.mark.parametrize(
    "change",
    [{"plans": None}, {"plans": []}, {"target": {}}, {"spec": {}}, {"builder": "tensorrt"},
     {"schema_version": "x"}, {"plans": [{"component": "x", "bytes": "y", "sha256": ""}]},
     {"plans": [{"component": "x", "bytes": 0, "sha256": "", "profiles": [{"dimensions": 3}]}]}],
)  # fmt: skip
def test_a_header_without_what_it_needs_is_refused(path, change):
    rewrite_header(path, change)
    with pytest.raises(ModelFileError):
        read_engine(path)


def test_what_is_no_engine_file_is_refused(tmp_path):
    file = tmp_path / "model.engine"
    with pytest.raises(ModelFileError, match="No such file"):
        read_engine(file)
    with pytest.raises(ModelFileError, match="it is a folder"):
        read_engine(tmp_path)
    file.write_bytes(b"\x08\x0aan ONNX model, say")
    with pytest.raises(ModelFileError, match=r"not an engine file; expected one of qsam2-build"):
        read_engine(file)


def test_a_file_that_cannot_be_written_leaves_the_older_one(path, monkeypatch):
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match="the disk is full"):
        write_engine(path, header(precision="fp16"), PLANS)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(InputError, match="the folder does not exist"):
        write_engine(path.parent / "none" / "x.engine", header(), PLANS)


@pytest.mark.parametrize(
    ("name", "version", "compatible", "fits"),
    [
        ("tensorrt", "10.3.0", False, True),
        ("tensorrt", "10.3.0.30", False, True),
        ("tensorrt", "10.3.1", False, False),
        ("tensorrt", "10.13.3", False, False),
        ("tensorrt", "10.13.3", True, True),
        ("tensorrt", "11.4.0", True, False),
        ("tensorrt", "10.2.0", True, False),
        ("tensorrt-rtx", "10.3.0", False, False),
    ],
)
def test_another_version_of_the_library_is_refused(name, version, compatible, fits):
    made = header(target=Target("Orin", ("8.7",), version_compatible=compatible))
    library = Library(name, version, None)
    if fits:
        made.check_library(library, Path("m.engine"))
        return
    with pytest.raises(EngineError, match=r"built by tensorrt 10\.3\.0, but this is") as caught:
        made.check_library(library, Path("m.engine"))
    assert "build it again" in str(caught.value)


@pytest.mark.parametrize(
    ("target", "gpu", "capability", "fits"),
    [
        (Target("Orin", ("8.7",)), "Orin", "8.7", True),
        (Target("Orin", ("8.7",)), "Orin NX", "8.7", False),
        (Target("Orin", ("8.7",)), "Thor", "11.0", False),
        (Target("RTX", ("8.9",), "same_compute_capability"), "L4", "8.9", True),
        (Target("RTX", ("8.9",), "same_compute_capability"), "A10", "8.6", False),
        (Target("A10", ("8.6",), "ampere_plus"), "L4", "8.9", True),
        (Target("A10", ("8.6",), "ampere_plus"), "T4", "7.5", False),
        (Target(hardware_compatibility="ampere_plus"), "RTX", "12.0", True),
        (Target(hardware_compatibility="ampere_plus"), "T4", "7.5", False),
        (Target("", ("8.6", "8.9")), "L4", "8.9", True),
        (Target("", ("8.6", "8.9")), "RTX", "12.0", False),
        (Target(), "anything", "9.0", True),
    ],
)
def test_another_gpu_is_refused(target, gpu, capability, fits):
    made = header(target=target)
    if fits:
        made.check_gpu(gpu, capability, Path("m.engine"))
        return
    with pytest.raises(EngineError, match=f"but this is {gpu} of {capability}; build it again"):
        made.check_gpu(gpu, capability, Path("m.engine"))
