"""Two steps of a tiny recipe, from files to a file: on a processor, and on an NVIDIA GPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qsam2_deploy.quant.checkpoints.checkpoint import load_checkpoint
from qsam2_deploy.training.recipe import read_recipe
from qsam2_deploy.training.run.log import read_log
from qsam2_deploy.training.train import TrainJob, train_model
from tests.training.jobs import validate_little
from tests.training.small import SIZE
from tests.training.test_qat import write_float, write_quantized

RECIPE = f"""
warmup_steps: 1
precision: bfloat16
checkpoint_activations: true
log_every: 1
save_every: 1
data: {{generated: {{textures: 4}}}}
quantizers: {{observe_first: 1, freeze: 0.0, lower: [[0.5, 8]]}}
stages:
  - {{name: s, steps: 2, frames: 2, clips: 2, image_size: {SIZE}, learning_rate: [5.0e-4, 5.0e-4],
     prompts: {{points: 0.5, corrections: 1}}, distill: {{features: 1, masks: 1, scores: 1}}}}
"""


def job_of(kind, folder, device):
    start = write_float(folder / "float.pt")
    quantized = write_quantized(folder / "q4.pt", source=start) if kind == "quantized" else None
    (folder / "recipe.yaml").write_text(RECIPE)
    return TrainJob(
        recipe=read_recipe(folder / "recipe.yaml"), output=folder / "new.pt", device=device,
        init=None if quantized else start, quantized=quantized,
        teacher=start if quantized else None, quiet=True,
    )  # fmt: skip


GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.gpu,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
    ],
)


@pytest.mark.parametrize(
    ("kind", "device"),
    [
        *(pytest.param(kind, "cpu", marks=pytest.mark.slow) for kind in ("quantized", "float")),
        *(pytest.param(kind, *GPU.values, marks=GPU.marks) for kind in ("float", "quantized")),
    ],
)
def test_two_steps(tmp_path, monkeypatch, kind, device):
    validate_little(monkeypatch)
    job = job_of(kind, tmp_path, device)
    assert train_model(job) == job.output
    lines = read_log(tmp_path / "new.log.jsonl")
    losses = [line["losses"] for line in lines if "losses" in line]
    assert len(losses) == 2
    assert all(np.isfinite(list(found.values())).all() for found in losses)
    assert ("features" in losses[0]) == (kind == "quantized")
    assert any("scores" in line for line in lines)
    assert not any("skipped" in line.get("note", "") for line in lines)
    content = torch.load(job.output, weights_only=True)["model"]  # no map_location
    start = torch.load(tmp_path / "float.pt", weights_only=True)["model"]
    assert {tensor.device.type for tensor in content.values()} == {"cpu"}
    moved = [name for name in start if not torch.equal(content[name], start[name])]
    assert len(moved) > 0.5 * len(start)
    assert (load_checkpoint(job.output).quantization is None) == (kind == "float")
    if device == "cuda":
        assert torch.cuda.max_memory_allocated() > 0
    # The run is finished: what is resumed only writes the same weights again.
    train_model(replace(job, resume=True))
    again = torch.load(job.output, weights_only=True)["model"]
    assert all(torch.equal(again[name], content[name]) for name in content)
