"""A small SAM2 with random weights: it runs through the whole pipeline, but it cannot segment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from qsam2_deploy.quant.checkpoints.architecture import build_model, official_config
from qsam2_deploy.quant.checkpoints.checkpoint import save_checkpoint

IMAGE_SIZE = 128
_VISIBLE = 4.0


def small_config() -> dict[str, Any]:
    """Return the configuration of SAM2.1 tiny, with fewer and narrower blocks, at 128 pixels."""
    config = official_config("sam2.1_hiera_tiny")
    model = config["model"]
    model["image_size"] = IMAGE_SIZE
    encoder = model["image_encoder"]
    encoder["trunk"].update(embed_dim=32, stages=[1, 1, 2, 1], global_att_blocks=[3])
    encoder["neck"]["backbone_channel_list"] = [256, 128, 64, 32]
    model["memory_attention"]["num_layers"] = 2
    return config


def write_random_checkpoint(path: Path, seed: int = 0) -> None:
    """Write a checkpoint with PyTorch's initial weights, made so that masks come out.

    The object score is always positive, because an object that the model believes to be absent
    has no mask at all. The weights of the mask head are enlarged, because its logits would all be
    nearer to 0 than 0.4, where quantization has more of a say than in any trained model.

    Args:
        path: the ``.pt`` file; it names its own configuration.
        seed: of the weights.
    """
    config = small_config()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = build_model(config).state_dict()
    for name, tensor in state.items():
        if name.endswith("pred_obj_score_head.layers.2.bias"):
            tensor.fill_(_VISIBLE)
        elif "output_hypernetworks_mlps" in name and name.endswith("weight"):
            tensor.mul_(3.0)
    save_checkpoint(path, state, config=config)


if __name__ == "__main__":
    write_random_checkpoint(Path(sys.argv[1]))
