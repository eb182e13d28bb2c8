"""Files of torch that would take more memory than they have bytes are refused."""

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from qsam2_deploy.errors import CheckpointError
from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.quant.checkpoints.config_bounds import check_numbers
from qsam2_deploy.quant.checkpoints.plain_file import load_plain, memory_of_file
from tests.support.weights import small_config, write_checkpoint


def _saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def _within_itself() -> list[Any]:
    loop: list[Any] = []
    loop.append(loop)
    return loop


def _many_times(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value] * 8
    return value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.ones(1).expand(1 << 40), "repeats its numbers"),
        ({"a": {"b": torch.ones(1).expand(1 << 20, 1 << 20)}}, "repeats its numbers"),
        (_within_itself(), "nested more than"),
        (_many_times(25), "more memory than its size"),
        ([torch.ones(1000)] * 9, "more memory than its size"),
        (torch.ones(2, 2).to_sparse(), "not dense"),
        (torch.empty(3, device="meta"), "not dense and on the CPU|storage"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_more_memory_than_bytes(tmp_path, content, message, zipped):
    path = _saved(tmp_path / "x.pt", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ValueError, match=message):
        load_plain(path)


def test_a_deflated_archive(tmp_path):
    path, bomb = _saved(tmp_path / "x.pt", torch.zeros(1 << 20)), tmp_path / "bomb.pt"
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    assert bomb.stat().st_size < path.stat().st_size // 100
    with pytest.raises(ValueError, match="deflated"):
        load_plain(bomb)


def test_shared_numbers_are_allowed(tmp_path):
    tensor = torch.arange(1000.0)
    content = {"a": tensor, "b": tensor, "c": tensor[10:20], "d": tensor.reshape(10, 100).T}
    found = load_plain(_saved(tmp_path / "x.pt", content))
    assert torch.equal(found["d"], content["d"])


def test_a_checkpoint_of_such_a_kind_is_told_in_one_sentence(tmp_path):
    path = _saved(tmp_path / "x.pt", {"model": {"w": torch.ones(1).expand(1 << 40)}})
    with pytest.raises(CheckpointError, match="truncated or not a PyTorch checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_layers", 10**9), ("image_size", 1 << 20), ("dim_feedforward", 1 << 40),
     ("rope_theta", float("nan")), ("stages", [1, 1, 10**9, 1])],
)  # fmt: skip
def test_numbers_of_no_model(key, value):
    with pytest.raises(CheckpointError, match=rf"has .* for '{key}', but may have numbers up to"):
        check_numbers({"a": [{key: value}]}, "x")


def test_a_model_that_is_larger_than_its_file_is_not_built(tmp_path):
    config = small_config(64)
    config["model"]["memory_attention"]["layer"]["dim_feedforward"] = 1 << 14
    config["model"]["memory_attention"]["num_layers"] = 200
    path = write_checkpoint(tmp_path / "x.pt", small_config(64))
    content = torch.load(path, weights_only=True)
    content["config"] = config
    with pytest.raises(CheckpointError, match="larger than the file"):
        load_checkpoint(_saved(path, content))


def test_all_official_models_fit_into_the_memory_of_their_files():
    from qsam2_deploy.quant.checkpoints.architecture import official_config

    with memory_of_file(10_000_000):  # packed in 2 bits
        build_model(official_config("sam2.1_hiera_tiny"))
