"""Valid files that torch makes: ``python -m tests.fuzz.torch_samples FOLDER``."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qsam2_deploy.export import onnx_from_checkpoint
from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint
from qsam2_deploy.quant.checkpoints.entry import float_state, make_entry, packed_weight_names
from qsam2_deploy.quant.checkpoints.packed import packed_weight, unpack_weight
from qsam2_deploy.quant.layers.modules import quantized_layers
from qsam2_deploy.training.run.state import TrainingState
from tests.fuzz.samples import tiny_config
from tests.support.quantized_model import quantize_model
from tests.support.weights import load_written, write_checkpoint

KINDS: tuple[dict[str, Any], ...] = (
    {},
    {"bits": (8, 8), "attention": True},
    {"bits": (2, 2), "packed": True},
)


def write_all(folder: Path) -> None:
    """Write checkpoints, models and a training state into ``folder``."""
    for number, kind in enumerate(KINDS):
        _write_model(folder / f"{number}.pt", **kind)
    model, average, optimizer = training_modules()
    model(torch.randn(4, 4)).square().sum().backward()
    optimizer.step()
    TrainingState(model, average, optimizer, "d", 3, 1.5).save(folder / "s.state")


def training_modules() -> tuple[nn.Module, nn.Module, torch.optim.Optimizer]:
    """Return what a training state is of."""
    torch.manual_seed(0)
    model, average = nn.Linear(4, 3), nn.Linear(3, 2)
    return model, average, torch.optim.AdamW(model.parameters())


def _write_model(
    path: Path,
    bits: tuple[int, int] | None = None,
    *,
    attention: bool = False,
    packed: bool = False,
) -> None:
    write_checkpoint(path, tiny_config())
    loaded = load_written(path)
    entry, state = None, loaded.model.state_dict()
    if bits is not None:
        loaded = quantize_model(loaded, bits[0], activation_bits=bits[1], attention=attention)
        if packed:
            _round_weights(loaded.model)
        entry = make_entry(
            loaded.model, recipe={"method": "lsc"}, scope="all", weight_bits=bits[0],
            activation_bits=bits[1], packed=packed,
        )  # fmt: skip
        left_out = packed_weight_names(entry)
        state = {k: v for k, v in float_state(loaded.model).items() if k not in left_out}
    onnx_from_checkpoint(loaded, path.with_suffix(".onnx"), show_progress=False)
    save_checkpoint(path, state, config=loaded.config, quantization=entry)


@torch.no_grad()
def _round_weights(model: nn.Module) -> None:
    """Bring the weights onto their grids, as ``qsam2-pack`` wants them."""
    for layer in quantized_layers(model).values():
        unpack_weight(layer, packed_weight(layer))


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_all(Path(sys.argv[1]))
