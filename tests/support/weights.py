"""Random weights with the outliers of the real model, for tests that need no trained checkpoint.

Freshly built SAM2 models are useless for tests: position embeddings are zero, ConvNeXt gains are
1e-6, and no weight has the heavy tails that make quantization hard. Here every tensor is drawn
from a heavy-tailed distribution with the mean, standard deviation, minimum and maximum of the same
tensor of the real SAM 2.1 base+ checkpoint, which ``weight_statistics.csv`` lists; the few
parameters that are no layer's, which it lacks, have typical values.

Random directions do not line up as trained ones do, so signals fade: with the measured scales
alone, masks hardly depend on the memory, and a test of the memory would pass whatever it does.
``_GAINS`` raises some scales (which keeps the ratio of peak to deviation) until clicks, memories,
pointers and their times each move the masks by much more than the tolerances of the tests, while
rounding errors still do not grow from frame to frame.
"""

import csv
import functools
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import yaml

from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.quant.checkpoints.checkpoint import Checkpoint, load_checkpoint
from tests.support.small_config import small_config

__all__ = ["random_state_dict", "small_config", "write_checkpoint"]

STATISTICS = Path(__file__).with_name("weight_statistics.csv")
"""Name, count, mean, deviation, minimum and maximum of every tensor of a real layer."""

REAL_TRUNK_BLOCKS = 24
"""Blocks in the trunk of the model that the statistics were measured on."""

VISIBLE_BIAS = 4.0
"""Bias of the object score, so that objects of a random model are visible."""


@dataclass(frozen=True)
class Statistics:
    """Moments and range of one tensor; ``numel`` is 0 where it is not known."""

    mean: float
    std: float
    low: float
    high: float
    numel: int = 0


# What the statistics do not list: pattern -> (mean, std, peak / std).
_TYPICAL: tuple[tuple[str, tuple[float, float, float]], ...] = (
    (r"pos_embed(_window)?$", (0.0, 0.5, 5.0)),
    (r"maskmem_tpos_enc$", (0.0, 0.4, 4.0)),
    (r"no_(mem_embed|mem_pos_enc|obj_ptr|obj_embed_spatial)$", (0.0, 0.2, 4.0)),
    (r"\.gamma$", (0.3, 0.2, 4.0)),
)

_GAINS: tuple[tuple[str, float], ...] = (
    (r"patch_embed\.proj\.weight$", 3.0),
    (r"trunk.*(qkv|proj|layers\.\d)\.weight$", 1.5),
    (r"neck.*weight$", 3.0),
    (r"memory_attention.*cross_attn.*(q|k)_proj\.weight$", 3.0),
    (r"memory_attention.*(v|out)_proj\.weight$", 2.0),
    (r"memory_attention.*self_attn.*(q|k)_proj\.weight$", 2.0),
    (r"memory_encoder\.out_proj\.weight$", 2.0),
    (r"mask_downsampler\.encoder\.12\.weight$", 6.0),
    (r"fuser.*norm\.weight$", 3.0),
    (r"obj_ptr_proj.*weight$", 2.0),
    (r"obj_ptr_tpos_proj\.weight$", 3.0),
    (r"maskmem_tpos_enc$", 4.0),
    (r"point_embeddings", 8.0),
    (r"sam_mask_decoder\.transformer.*(q|k|v|out)_proj\.weight$", 2.0),
    (r"hypernetworks.*weight$", 3.0),
    (r"_tokens?\.weight$", 3.0),
    (r"pred_obj_score_head.*weight$", 2.5),
)


def random_state_dict(model: torch.nn.Module, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a state dict for ``model`` with realistic random weights, float32.

    The same model and seed give the same numbers on every machine. Objects are visible, because
    the last bias of the object score head is :data:`VISIBLE_BIAS`.
    """
    blocks = _count_trunk_blocks(model)
    state = {}
    for index, (name, tensor) in enumerate(model.state_dict().items()):
        rng = np.random.default_rng((seed, index))
        if name.endswith("positional_encoding_gaussian_matrix"):
            values = rng.standard_normal(tuple(tensor.shape))
        else:
            shape = tuple(tensor.shape)
            values = _sample(_statistics_for(name, shape, blocks), shape, rng) * _gain(name)
        state[name] = torch.from_numpy(values.astype(np.float32))
    _make_visible(state, VISIBLE_BIAS)
    return state


def write_checkpoint(
    path: str | Path,
    config: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    object_score_bias: float | None = None,
) -> Path:
    """Write an official-format checkpoint with random weights, and its YAML beside it.

    Args:
        path: the ``.pt`` file; the configuration goes to the same name with ``.yaml``.
        config: what to build; default :func:`small_config`.
        seed: of the weights.
        object_score_bias: last bias of the object score head, default :data:`VISIBLE_BIAS`;
            very negative makes every object invisible.
    """
    path = Path(path)
    config = config or small_config()
    state = random_state_dict(build_model(config), seed)
    if object_score_bias is not None:
        _make_visible(state, object_score_bias)
    torch.save({"model": state}, path)
    path.with_suffix(".yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def load_written(path: Path) -> Checkpoint:
    """Load what :func:`write_checkpoint` has written."""
    return load_checkpoint(path, config=path.with_suffix(".yaml"))


def _gain(name: str) -> float:
    return math.prod(gain for pattern, gain in _GAINS if re.search(pattern, name))


def _make_visible(state: dict[str, torch.Tensor], bias: float) -> None:
    for name in ("pred_obj_score_head.layers.2.bias", "pred_obj_score_head.bias"):
        full = f"sam_mask_decoder.{name}"
        if full in state:
            state[full].fill_(bias)


def _count_trunk_blocks(model: torch.nn.Module) -> int:
    found = [re.search(r"trunk\.blocks\.(\d+)\.", name) for name in model.state_dict()]
    return 1 + max((int(match[1]) for match in found if match), default=0)


def _sample(
    statistics: Statistics, shape: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw a tensor with the wanted mean and deviation that reaches its minimum and maximum."""
    count = math.prod(shape)
    if count == 1 or statistics.std == 0:
        return np.full(shape, statistics.mean)
    values = rng.standard_t(4.0, count)
    values = (values - values.mean()) / values.std() * statistics.std + statistics.mean
    # One extreme value may hold at most a quarter of the variance, which matters for few values.
    reach = statistics.std * math.sqrt(count / 4)
    low = max(statistics.low, statistics.mean - reach)
    high = min(statistics.high, statistics.mean + reach)
    values[values.argmin()], values[values.argmax()] = low, high
    return values.clip(low, high).reshape(shape)


def _statistics_for(name: str, shape: tuple[int, ...], blocks: int) -> Statistics:
    measured = _measured()
    block = re.search(r"trunk\.blocks\.(\d+)\.", name)
    if block:
        depth = int(block[1]) / max(1, blocks - 1) * (REAL_TRUNK_BLOCKS - 1)
        found = _nearest_block(name, depth)
    else:
        found = measured.get(name)
    if found is None:
        return _typical(name)
    return _scaled(found, shape) if len(shape) > 1 and found.numel else found


def _nearest_block(name: str, depth: float) -> Statistics | None:
    """Return the tensor of the same role in the real block that is nearest in depth."""
    candidates = _trunk_roles().get(_role(name))
    if not candidates:
        return None
    return min(candidates, key=lambda item: abs(item[0] - depth))[1]


def _scaled(statistics: Statistics, shape: tuple[int, ...]) -> Statistics:
    # Fan-in scales with the root of the number of weights; keep fan_in * std**2.
    factor = (statistics.numel / math.prod(shape)) ** 0.25
    return Statistics(
        statistics.mean,
        statistics.std * factor,
        statistics.mean + (statistics.low - statistics.mean) * factor,
        statistics.mean + (statistics.high - statistics.mean) * factor,
    )


def _typical(name: str) -> Statistics:
    for pattern, (mean, std, peak) in _TYPICAL:
        if re.search(pattern, name):
            return Statistics(mean, std, mean - peak * std, mean + peak * std)
    raise KeyError(f"there are no statistics for {name}")


def _role(name: str) -> str:
    return re.sub(r"trunk\.blocks\.\d+\.", "trunk.blocks.#.", name)


@functools.cache
def _measured() -> dict[str, Statistics]:
    with STATISTICS.open(newline="") as stream:
        return {
            row["name"]: Statistics(
                float(row["mean"]),
                float(row["std"]),
                float(row["min"]),
                float(row["max"]),
                int(row["numel"]),
            )
            for row in csv.DictReader(stream)
        }


@functools.cache
def _trunk_roles() -> dict[str, list[tuple[int, Statistics]]]:
    roles: dict[str, list[tuple[int, Statistics]]] = {}
    for name, statistics in _measured().items():
        block = re.search(r"trunk\.blocks\.(\d+)\.", name)
        if block:
            roles.setdefault(_role(name), []).append((int(block[1]), statistics))
    return roles
