"""Evaluating a model on a dataset, from files to files: the library call of ``qsam2-eval``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .._common.checkpoint_files import is_checkpoint
from .._common.files import atomic_open, check_output
from .._common.hub import hub_name
from ..data.datasets.manifest import read_manifest
from ..data.sample import VideoSequence
from ..errors import InputError, ModelFileError, PromptError
from ..media.writing.overwriting import check_free
from .model import Model
from .prompts import PROMPT_KINDS, PromptKind
from .results import Evaluation
from .rules import DAVIS, IMAGES, SA_V, Rule
from .scoring import Observer, evaluate

DatasetKind = Literal["davis", "sa-v", "images", "manifest"]
CheckpointOpener = Callable[["EvaluationConfig", bool], AbstractContextManager[Model]]
"""Makes a ``Model`` of a PyTorch checkpoint; the second argument says whether masks exclude
each other. It is handed in, because this package does not know torch."""

RULES: dict[DatasetKind, Rule] = {
    "davis": DAVIS,
    "sa-v": SA_V,
    "images": IMAGES,
    "manifest": DAVIS,
}

_OF_DATASETS = ("Annotations", "JPEGImages")
"""How folders of DAVIS and SA-V begin."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to evaluate, on what, and what to write.

    Attributes:
        model: a ``model.onnx``, a ``model.engine``, a checkpoint (``.pt``, ``.safetensors``, a
            folder of transformers, a name on the hub), or a folder of PNG results.
        dataset: layout of the dataset, and with it the rule.
        root: folder of the dataset, or the file of a manifest.
        sequences: names of sequences or images, or of a split of DAVIS; None for all.
        prompt: what the model is told; None for masks on videos and clicks on images.
        resolution: the folder below DAVIS's ``JPEGImages``.
        backend: inference engine of a ``model.onnx``; a ``model.engine`` has its own.
        threads: of the engine; None for its own choice.
        precision: of an exported model, ``exact`` or ``fast``.
        memory_frames: how many memories an exported model attends to on a frame; None for its own
            number.
        model_config: YAML file of a checkpoint's architecture, where it is no official one.
        json_path: where to write the results.
        masks_dir: where to write the masks, a PNG per frame.
        plot_path: where to write a picture of the worst frames.
        show_progress: a progress bar; None for only where standard error is a terminal.

    Raises:
        InputError: ``memory_frames`` is given for what is no exported model.
        PromptError: masks are asked for as prompts on images, or the prompt is unknown.
    """

    model: Path
    dataset: DatasetKind
    root: Path
    sequences: str | tuple[str, ...] | None = None
    prompt: PromptKind | None = None
    resolution: str = "480p"
    backend: str = "auto"
    threads: int | None = None
    precision: str = "exact"
    memory_frames: int | None = None
    model_config: Path | None = None
    json_path: Path | None = None
    masks_dir: Path | None = None
    plot_path: Path | None = None
    show_progress: bool | None = None

    def __post_init__(self) -> None:
        exported = not is_checkpoint(self.model) and not self.model.is_dir()
        if self.memory_frames is not None and not exported:
            raise InputError(
                f"memory_frames is for exported models, such as a model.onnx, but got {self.model}"
            )
        if self.prompt is not None and self.prompt not in PROMPT_KINDS:
            raise PromptError(
                f"the prompt must be one of {', '.join(PROMPT_KINDS)}, but got {self.prompt!r}"
            )
        if self.dataset == "images" and self.prompt == "mask":
            raise PromptError("images are prompted with a click or a box, not with a mask")

    @property
    def chosen_prompt(self) -> PromptKind:
        """The prompt, with its default."""
        return self.prompt or ("click" if self.dataset == "images" else "mask")


def run_evaluation(
    config: EvaluationConfig, open_checkpoint: CheckpointOpener | None = None
) -> Evaluation:
    """Evaluate a model and write what was asked for; every file is written whole or not at all.

    Args:
        config: what to do.
        open_checkpoint: opens a PyTorch checkpoint, for models that are one by their names.

    Raises:
        VideoError: the dataset or the results cannot be read.
        ModelFileError: the model cannot be used.
        CheckpointError: the checkpoint cannot be used.
        InputError: an output cannot be written.
        MissingDependencyError: the engine is not installed.
    """
    rule = RULES[config.dataset]
    sequences = _open_dataset(config)
    _check_outputs(config)
    observers: list[Observer] = []
    worst = None
    with _open_model(config, rule, open_checkpoint) as model:
        if config.plot_path is not None:
            from .worst_frames import WorstFrames

            worst = WorstFrames(config.plot_path)
            observers.append(worst)
        if config.masks_dir is not None:
            from .save_masks import MaskSaver

            observers.append(MaskSaver(config.masks_dir, exclusive=rule.exclusive))
        evaluation = evaluate(
            model,
            sequences,
            rule,
            prompt=config.chosen_prompt,
            settings=_settings(config),
            observers=observers,
            show_progress=config.show_progress,
        )
    if config.json_path is not None:
        with atomic_open(config.json_path) as stream:
            stream.write(evaluation.to_json().encode())
    if worst is not None:
        worst.write()
    return evaluation


def _open_dataset(config: EvaluationConfig) -> Sequence[VideoSequence]:
    names = config.sequences
    if config.dataset == "davis":
        from ..data.datasets.davis import davis_sequences

        return davis_sequences(config.root, names, resolution=config.resolution)
    if config.dataset == "sa-v":
        from ..data.datasets.sav import sav_sequences

        return sav_sequences(config.root, names)
    if config.dataset == "manifest":
        from .annotated_video import manifest_sequences

        return manifest_sequences(config.root, names)
    from ..data.datasets.image_set import image_set

    return image_set(config.root, names)


def _open_model(
    config: EvaluationConfig, rule: Rule, open_checkpoint: CheckpointOpener | None
) -> AbstractContextManager[Model]:
    path = config.model
    checkpoint = is_checkpoint(path)
    if not path.exists() and not (checkpoint and hub_name(path)):
        raise ModelFileError(
            f"there is no model {path}; expected a model.onnx, a model.engine, a checkpoint .pt, "
            "or a folder of PNG results"
        )
    if checkpoint and open_checkpoint is not None:
        return open_checkpoint(config, rule.exclusive)
    if path.is_dir():
        from .png_results import PngResults

        return nullcontext(PngResults(path))
    if path.suffix not in (".onnx", ".engine"):
        raise ModelFileError(
            f"cannot evaluate {path}; expected a model.onnx, a model.engine, a checkpoint .pt, "
            "or a folder of PNG results"
        )
    from .exported_model import ExportedModel

    return ExportedModel(
        path,
        exclusive=rule.exclusive,
        still=rule.still,
        backend=config.backend,
        threads=config.threads,
        precision=config.precision,
        memory_frames=config.memory_frames,
    )


def _check_outputs(config: EvaluationConfig) -> None:
    """Check the places of the outputs before hours are spent, and that they replace no input."""
    taken = [config.model, config.root]
    if config.model_config is not None:
        taken.append(config.model_config)
    for path in (config.json_path, config.plot_path):
        if path is not None:
            check_output(path)
            check_free(path, taken)
            taken.append(path)
    masks = config.masks_dir
    if masks is None:
        return
    if not masks.parent.is_dir():
        raise InputError(f"cannot write {masks}: the folder does not exist; create it first")
    check_free(masks, taken)
    if config.dataset == "manifest":
        for entry in read_manifest(config.root):
            read = [Path(path) for path in (entry.annotations, entry.video) if path is not None]
            check_free(masks / entry.name, read)
    elif masks.resolve().is_relative_to(config.root.resolve()):
        first = masks.resolve().relative_to(config.root.resolve()).parts[0]
        if first.startswith(_OF_DATASETS):
            raise InputError(
                f"the masks would be written into {config.root / first}, which is "
                "read; choose another folder"
            )


def _settings(config: EvaluationConfig) -> dict[str, Any]:
    return {"dataset": config.root.resolve().name, "layout": config.dataset}
