"""A folder with everything that a training run needs, for the tests of whole runs."""

import functools
from pathlib import Path

import yaml

from qsam2_deploy.training import train
from tests.data.datasets import moving, write_davis
from tests.training.small import tiny_config

RECIPE = {
    "model": "tiny.yaml",
    "from_scratch": True,
    "warmup_steps": 1,
    "log_every": 1,
    "save_every": 1,
    "data": {"generated": {"textures": 4}, "videos": {"short_side": 48}},
    "stages": [
        {"name": "images", "steps": 2, "frames": 1, "clips": 1, "image_size": 32,
         "data": {"generated": 1, "pasted": 1}, "mask_loss": "balanced",
         "learning_rate": ["5e-4", "5e-5"], "losses": {"affinity": 1.0}},
        {"name": "clips", "steps": 2, "frames": 2, "clips": 1, "image_size": 64,
         "data": {"generated": 1, "videos": 1}, "prompts": {"corrections": 1}},
    ],
}  # fmt: skip


def write_job(folder: Path, **changes) -> Path:
    """Write ``davis``, ``tiny.yaml`` and ``recipe.yaml``; return the path of the recipe."""
    if not (folder / "davis").exists():
        write_davis(folder / "davis", {"a": moving(4), "b": moving(4), "c": moving(3)})
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_config(128)))
    recipe = {key: value for key, value in {**RECIPE, **changes}.items() if value is not None}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return folder / "recipe.yaml"


def validate_little(monkeypatch) -> None:
    """One generated clip of three frames, instead of eight of twelve."""
    short = functools.partial(train.generated_validation, count=1, frames=3)
    monkeypatch.setattr(train, "generated_validation", short)
