"""Reading and writing checkpoints, the damaged ones first of all."""

import hashlib
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from qsam2_deploy.errors import CheckpointError, InputError
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from tests.support.external_data import DATA, needs_data
from tests.support.small_config import small_config

NANO = DATA / "checkpoints" / "nano128.pt"


def _content(path: Path) -> dict[str, Any]:
    return dict(torch.load(path, weights_only=True))


def test_a_checkpoint_with_its_configuration_file(float_checkpoint):
    yaml = float_checkpoint.with_suffix(".yaml")
    checkpoint = load_checkpoint(float_checkpoint, config=yaml)
    assert checkpoint.name == "small"
    assert checkpoint.sha256 == hashlib.sha256(float_checkpoint.read_bytes()).hexdigest()
    assert checkpoint.quantization is None
    assert checkpoint.config["model"]["fill_hole_area"] == 0
    state = _content(float_checkpoint)["model"]
    loaded = checkpoint.model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[k], state[k]) for k in state)


def test_a_configuration_inside_the_file_needs_no_flag(float_checkpoint, tmp_path):
    path = tmp_path / "own.pt"
    save_checkpoint(path, _content(float_checkpoint)["model"], config=small_config())
    assert set(_content(path)) == {"model", "config"}
    assert load_checkpoint(path).model.image_size == 128
    assert load_checkpoint(path, image_size=64).model.image_size == 64


def test_an_explicit_configuration_wins(float_checkpoint, tmp_path):
    path = tmp_path / "own.pt"
    save_checkpoint(path, _content(float_checkpoint)["model"], config=small_config(128))
    assert load_checkpoint(path, config=small_config(256)).model.image_size == 256


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_become_float32(float_checkpoint, tmp_path, dtype):
    state = {k: v.to(dtype) for k, v in _content(float_checkpoint)["model"].items()}
    save_checkpoint(tmp_path / "half.pt", state, config=small_config())
    model = load_checkpoint(tmp_path / "half.pt").model
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, state[name].float())


@needs_data(NANO)
def test_a_trained_half_precision_checkpoint(tmp_path):
    checkpoint = load_checkpoint(NANO, config=NANO.with_suffix(".yaml"))
    save_checkpoint(tmp_path / "nano.pt", checkpoint.model.state_dict(), config=checkpoint.config)
    image = torch.zeros(1, 3, 128, 128)
    again = load_checkpoint(tmp_path / "nano.pt")
    with torch.no_grad():
        features = checkpoint.model.image_encoder(image)["vision_features"]
        assert torch.equal(features, again.model.image_encoder(image)["vision_features"])
    assert features.std() > 0.1


def _write(path: Path, content: object) -> None:
    torch.save(content, path)


def _truncated(path: Path) -> None:
    torch.save({"model": {"a": torch.ones(1000)}}, path)
    path.write_bytes(path.read_bytes()[:-500])


DAMAGED = {
    "missing": (lambda path: None, "there is no checkpoint"),
    "folder": (Path.mkdir, "is a folder"),
    "empty": (Path.touch, "truncated or not a PyTorch checkpoint"),
    "text": (lambda path: path.write_text("hello " * 99), "truncated or not a PyTorch checkpoint"),
    "truncated": (_truncated, "truncated or not a PyTorch checkpoint"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "truncated or not a PyTorch"),
    "objects": (
        lambda path: _write(path, {"model": torch.nn.Linear(2, 2)}),
        "Python objects other than tensors",
    ),
    "list": (lambda path: _write(path, [1, 2]), "entry 'model', but got list"),
    "flat": (lambda path: _write(path, {"a": torch.ones(1)}), "are not those of a SAM 2"),
    "keys": (lambda path: _write(path, {"a": 1, "b": 2}), "'model', but got the keys a, b"),
    "no tensors": (lambda path: _write(path, {"model": {"a": 1}}), "not a dictionary of named"),
    "no names": (lambda path: _write(path, {"model": {1: torch.ones(1)}}), "not a dictionary of"),
    "no entries": (lambda path: _write(path, {"model": {}}), "not a dictionary of named"),
    "unknown": (
        lambda path: _write(path, {"model": {"a": torch.ones(1)}}),
        r"the 1 tensors of .* \(a\) are not those of a SAM 2",
    ),
    "bad config": (
        lambda path: _write(path, {"model": {"a": torch.ones(1)}, "config": 3}),
        "no mapping 'model'",
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_give_one_sentence(tmp_path, kind):
    make, message = DAMAGED[kind]
    path = tmp_path / "model.pt"
    make(path)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_code_in_a_pickle_never_runs(tmp_path):
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "exploded"),))

    for protocol in (0, 2, 4):
        (tmp_path / "bomb.pt").write_bytes(pickle.dumps({"model": Bomb()}, protocol))
        with pytest.raises(CheckpointError):
            load_checkpoint(tmp_path / "bomb.pt")
    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    with pytest.raises(CheckpointError, match="Python objects"):
        load_checkpoint(tmp_path / "bomb.pt")
    assert not (tmp_path / "exploded").exists()


def _changed(float_checkpoint: Path, tmp_path: Path, change: Any) -> Path:
    state = _content(float_checkpoint)["model"]
    change(state)
    save_checkpoint(tmp_path / "changed.pt", state, config=small_config())
    return tmp_path / "changed.pt"


def test_missing_and_unexpected_tensors(float_checkpoint, tmp_path):
    def change(state: dict[str, torch.Tensor]) -> None:
        for key in list(state)[:5]:
            del state[key]
        state["surprise"] = torch.ones(1)

    path = _changed(float_checkpoint, tmp_path, change)
    with pytest.raises(
        CheckpointError,
        match=r"5 tensors are missing \(maskmem_tpos_enc, .*, \.\.\.\) and 1 tensors are unexpected"
        r" \(surprise\)",
    ):
        load_checkpoint(path)


def test_wrong_shapes(float_checkpoint, tmp_path):
    def change(state: dict[str, torch.Tensor]) -> None:
        state["no_obj_ptr"] = torch.ones(1, 3)

    path = _changed(float_checkpoint, tmp_path, change)
    with pytest.raises(CheckpointError, match=r"no_obj_ptr .* shape \(1, 64\), but got \(1, 3\)"):
        load_checkpoint(path)


def test_numbers_that_are_not_finite(float_checkpoint, tmp_path):
    def change(state: dict[str, torch.Tensor]) -> None:
        state["no_obj_ptr"][0, 0] = torch.nan

    path = _changed(float_checkpoint, tmp_path, change)
    with pytest.raises(CheckpointError, match=r"no_obj_ptr .* not finite"):
        load_checkpoint(path)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "old.pt"
    path.write_text("old")
    with pytest.raises((AttributeError, pickle.PicklingError)):
        save_checkpoint(path, {"a": torch.ones(1)}, config={"f": lambda: 0})
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(InputError, match="folder does not exist"):
        save_checkpoint(tmp_path / "no" / "x.pt", {"a": torch.ones(1)})
