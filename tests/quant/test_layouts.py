"""Checkpoints as trainers and other programs write them: wrapped, prefixed, as safetensors."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qsam2_deploy.errors import CheckpointError, MissingDependencyError
from qsam2_deploy.quant.checkpoints import safetensors_file
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, read_tensors
from tests.support.transformers_layout import parts_of, safetensors_bytes, with_header

State = dict[str, torch.Tensor]
NEEDS_SAFETENSORS = "needs safetensors; run: pip install 'qsam2-deploy[export]'"


@pytest.fixture(scope="module")
def state(float_checkpoint: Path) -> State:
    content: State = torch.load(float_checkpoint, weights_only=True)["model"]
    return content


def _before(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: tensor for name, tensor in state.items()}


def _compiled_inside(state: State) -> State:
    new = ("image_encoder.", "image_encoder._orig_mod.")
    return {name.replace(*new): tensor for name, tensor in state.items()}


PREFIXED: dict[str, Callable[[State], Any]] = {
    "as it is": lambda state: state,
    "DDP": _before("module."),
    "compiled": _before("_orig_mod."),
    "compiled DDP": _before("_orig_mod.module."),
    "DDP of compiled": _before("module._orig_mod."),
    "Lightning": _before("model."),
    "compiled Lightning": _before("model._orig_mod."),
    "an attribute": _before("net.sam2."),
    "one part compiled": _compiled_inside,
}
WRAPPED: dict[str, Callable[[State], Any]] = {
    "raw": lambda state: state,
    "official": lambda state: {"model": state},
    "trainer": lambda state: {"model": state, "optimizer": {"state": {}}, "epoch": 3},
    "state_dict": lambda state: {"state_dict": state},
    "model_state_dict": lambda state: {"model_state_dict": state, "loss": 0.5},
    "DeepSpeed": lambda state: {"module": state, "ds_version": "0.15"},
    "EMA": lambda state: {"ema": state},
    "twice": lambda state: {"state_dict": {"model": state}},
    "Lightning": lambda state: {
        "state_dict": _before("model.")(state), "pytorch-lightning_version": "2.4", "epoch": 1,
        "optimizer_states": [{"state": {}}], "hyper_parameters": {"lr": 1e-4, "config": "x"},
        "config": 3,
    },
}  # fmt: skip


def _same(path: Path, float_checkpoint: Path, state: State) -> None:
    loaded = load_checkpoint(path, config=float_checkpoint.with_suffix(".yaml")).model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped(kind, float_checkpoint, state, tmp_path):
    torch.save(WRAPPED[kind](state), tmp_path / "x.pt")
    _same(tmp_path / "x.pt", float_checkpoint, state)


@pytest.mark.parametrize("kind", PREFIXED)
def test_prefixed(kind, state, tmp_path):
    torch.save({"model": PREFIXED[kind](state)}, tmp_path / "x.pt")
    found, quantized = read_tensors(tmp_path / "x.pt")
    assert not quantized
    assert found.keys() == state.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors(suffix, prefix, float_checkpoint, state, tmp_path):
    pytest.importorskip("safetensors", reason=NEEDS_SAFETENSORS)
    path = tmp_path / f"x{suffix}"
    path.write_bytes(safetensors_bytes(_before(prefix)(state)))
    _same(path, float_checkpoint, state)


def test_half_precision_in_safetensors(float_checkpoint, state, tmp_path):
    pytest.importorskip("safetensors", reason=NEEDS_SAFETENSORS)
    halves = {name: tensor.bfloat16() for name, tensor in state.items()}
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(halves))
    expected = {name: tensor.float() for name, tensor in halves.items()}
    _same(tmp_path / "x.safetensors", float_checkpoint, expected)


def _half(file: bytes) -> bytes:
    return file[: len(file) // 2]


def _with_entry(**changes: Any) -> Callable[[bytes], bytes]:
    def change(file: bytes) -> bytes:
        header, data = parts_of(file)
        name = next(name for name in header if name != "__metadata__")
        header[name] |= changes
        return with_header(header, data)

    return change


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "half": _half,
    "empty": lambda _: b"",
    "no header": lambda file: file[:8],
    "a header without end": lambda file: struct.pack("<Q", 1 << 62) + file[8:],
    "a header of 64 MB": lambda file: struct.pack("<Q", 64 << 20) + b"{" + bytes(64 << 20),
    "more bytes": lambda file: file + bytes(8),
    "offsets beyond the end": _with_entry(data_offsets=[0, 1 << 50]),
    "offsets backwards": _with_entry(data_offsets=[8, 0]),
    "offsets of others": _with_entry(data_offsets=[4, 8]),
    "a giant shape": _with_entry(shape=[1 << 40, 1 << 40]),
    "another type": _with_entry(dtype="F8_E4M3"),
    "no such type": _with_entry(dtype="F99"),
    "text": lambda _: b"a file of text",
    "no JSON": lambda _: struct.pack("<Q", 8) + b"{{{{{{{{",
    "an archive": lambda _: b"PK\x03\x04" + bytes(100),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_safetensors_give_one_sentence(kind, state, tmp_path):
    pytest.importorskip("safetensors", reason=NEEDS_SAFETENSORS)
    path = tmp_path / "x.safetensors"
    path.write_bytes(DAMAGED[kind](safetensors_bytes(state)))
    with pytest.raises(CheckpointError, match="truncated or not a") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_tensors_are_read_after_their_shapes(state, float_checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("safetensors", reason=NEEDS_SAFETENSORS)
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes({**state, "no_obj_ptr": torch.zeros(1000, 1000)}))

    def never(_: Path) -> State:
        raise AssertionError("tensors were read")

    monkeypatch.setattr(safetensors_file, "read_tensors", never)
    with pytest.raises(CheckpointError, match=r"no_obj_ptr .* shape \(1, 64\), but got \(1000"):
        load_checkpoint(path, config=float_checkpoint.with_suffix(".yaml"))


def test_without_safetensors_the_extra_is_named(state, tmp_path, monkeypatch):
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes(state))
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qsam2-deploy\[export\]'"):
        load_checkpoint(path)


def _some_with(prefix: str) -> Callable[[State], State]:
    return lambda state: {
        (prefix + name if number % 2 else name): tensor
        for number, (name, tensor) in enumerate(state.items())
    }


REFUSED: dict[str, tuple[Callable[[State], Any], str]] = {
    "some with a prefix": (_some_with("module."), "begin otherwise than those of"),
    "some with another": (_some_with("model."), "begin otherwise than those of|several models"),
    "both": (lambda s: {**s, **_before("module.")(s)}, "begin otherwise than"),
    "both inside": (lambda s: {**s, **_compiled_inside(s)}, "tensors twice"),
    "student and teacher": (
        lambda s: {**_before("student.")(s), **_before("teacher.")(s)},
        r"several models, whose names begin with student\., teacher\.",
    ),
    "two wrappers": (
        lambda s: {"model": s, "ema": s},
        "several sets of weights, in the entries 'model' and 'ema'",
    ),
    "optimizer": (
        lambda _: {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": [{"lr": 0.1}]},
        "state of an optimizer and no weights",
    ),
    "trainer without a model": (
        lambda _: {"optimizer": {"state": {}}, "epoch": 3},
        "state of an optimizer and no weights",
    ),
    "adapter": (
        lambda _: {"base_model.model.x.attn.qkv.lora_A.weight": torch.ones(2, 2)},
        r"adapter \(LoRA\); merge it",
    ),
    "adapter in a model": (
        lambda s: {**s, "image_encoder.trunk.x.lora_B.default.weight": torch.ones(1)},
        r"adapter \(LoRA\); merge it",
    ),
    "decoder alone": (
        lambda s: {k: v for k, v in s.items() if k.startswith("sam_mask_decoder.")},
        r"a part of a SAM 2 alone, \d+ tensors of sam_mask_decoder; save the state_dict",
    ),
    "no memory": (
        lambda s: {k: v for k, v in s.items() if not k.startswith(("memory_", "obj_ptr"))},
        "weights for video, such as memory_attention, are missing",
    ),
    "another size": (
        _before("module."),
        r"nearest to sam2\.1_hiera_tiny in upstream's names behind module",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_in_one_sentence(kind, state, tmp_path):
    make, message = REFUSED[kind]
    torch.save(make(state), tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "x.pt") in str(caught.value)


OTHERS = {
    "SAM 1": ("image_encoder.blocks.0.attn.rel_pos_h", "vision_encoder.layers.0.attn.rel_pos_w"),
    "SAM 3": (
        "detector.backbone.vision_backbone.trunk.blocks.0.attn.qkv.weight",
        "tracker_model.mask_decoder.iou_token.weight", "detr_encoder.layers.0.x.weight",
    ),
    "EdgeTAM": (
        "image_encoder.trunk.body.stages_0.blocks.0.x.weight", "spatial_perceiver.latents_2d",
        "vision_encoder.backbone.timm_model.stem.x.weight",
    ),
    "EfficientTAM": ("image_encoder.neck.convs.0.conv_1x1.weight",),
    "MobileSAM": ("image_encoder.patch_embed.seq.0.c.weight",),
    "HQ-SAM": ("mask_decoder.hf_token.weight",),
}  # fmt: skip


@pytest.mark.parametrize("family", OTHERS)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_models_that_are_no_sam_2_are_named(family, prefix, tmp_path):
    for name in OTHERS[family]:
        if prefix and name.startswith(("detector", "tracker")):
            continue  # said of the whole name
        content = {prefix + name: torch.ones(1), prefix + "mask_decoder.x": torch.ones(1)}
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(CheckpointError, match=f"is a checkpoint of {family}; only those of"):
            load_checkpoint(tmp_path / "x.pt")


def test_a_message_names_size_names_and_prefix(float_checkpoint, state, tmp_path):
    few = dict(list(state.items())[3:])
    torch.save(_before("module.")(few), tmp_path / "x.pt")
    with pytest.raises(
        CheckpointError,
        match=r"nearest to sam2\.1_hiera_tiny in upstream's names behind module\., but does not "
        r"fit .*: 3 tensors are missing \(maskmem_tpos_enc, .*; save the state_dict of the whole",
    ):
        load_checkpoint(tmp_path / "x.pt", config=float_checkpoint.with_suffix(".yaml"))


def _folder_with(*names: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"{}")

    return make


FOLDERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "empty": (_folder_with(), "is a folder without weights; expected model.safetensors"),
    "configuration alone": (_folder_with("config.json"), "is a folder without weights"),
    "several": (_folder_with("a.pt", "b.pt"), r"a folder with 2 checkpoints \(a.pt, b.pt\)"),
    "shards": (_folder_with("model.safetensors.index.json"), "are in several files"),
    "adapter": (_folder_with("adapter_config.json", "adapter_model.safetensors"), "LoRA"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FOLDERS)
def test_folders_without_one_model(kind, tmp_path):
    make, message = FOLDERS[kind]
    make(tmp_path / "folder")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "folder")


def test_a_folder_with_one_checkpoint(float_checkpoint, state, tmp_path):
    torch.save({"model": state}, tmp_path / "pytorch_model.bin")
    _same(tmp_path, float_checkpoint, state)
    (tmp_path / "pytorch_model.bin").rename(tmp_path / "mine.pth")
    _same(tmp_path, float_checkpoint, state)


@pytest.mark.parametrize("name", ["x.bin", "x.safetensors", "x.ckpt"])
def test_code_never_runs_whatever_the_file_is_called(name, tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    torch.save({"state_dict": Bomb()}, tmp_path / name)
    with pytest.raises(CheckpointError, match="Python objects other than tensors"):
        load_checkpoint(tmp_path / name)
    assert not (tmp_path / "exploded").exists()


def test_a_configuration_of_other_trainers_is_not_ours(float_checkpoint, state, tmp_path):
    torch.save({"state_dict": state, "config": json.dumps({"lr": 1})}, tmp_path / "x.pt")
    _same(tmp_path / "x.pt", float_checkpoint, state)
