"""What a training run does, as data: a recipe is a list of stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Literal

from ..errors import InputError

MaskLoss = Literal["focal", "balanced"]


@dataclass(frozen=True)
class LossWeights:
    """Weights of SAM2's losses (SAM 2 paper, appendix D.2.2; ``configs/sam2.1_training``)."""

    focal: float = 20.0
    dice: float = 1.0
    iou: float = 1.0
    object_score: float = 1.0
    affinity: float = 0.0
    """Of the dense auxiliary loss, which no official recipe has; see `affinity.py`."""

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(getattr(self, item.name) >= 0, f"losses.{item.name} must not be negative")


@dataclass(frozen=True)
class PromptPolicy:
    """How the objects of a batch are prompted; the names in brackets are SAM2Train's.

    Attributes:
        points: share of clips prompted with a click or a box; the others get the mask of the first
            frame (``prob_to_use_pt_input``). Images always get a click or a box.
        box: share of boxes among those (``prob_to_use_box_input``).
        corrected_frames: most frames with correction clicks, the first one included; how many is
            drawn anew for each batch (``num_frames_to_correct``).
        corrections: correction clicks on each such frame (``num_correction_pt_per_frame``).
        from_truth: share of correction clicks drawn from the true mask instead of the error
            (``prob_to_sample_from_gt``).
    """

    points: float = 0.5
    box: float = 0.5
    corrected_frames: int = 2
    corrections: int = 7
    from_truth: float = 0.1

    def __post_init__(self) -> None:
        for name in ("points", "box", "from_truth"):
            _check(0 <= getattr(self, name) <= 1, f"prompts.{name} must be from 0 to 1")
        _check(self.corrected_frames >= 1, "prompts.corrected_frames must be at least 1")
        _check(self.corrections >= 0, "prompts.corrections must not be negative")


@dataclass(frozen=True)
class DistillWeights:
    """Weights of the losses that follow a teacher; see `distill.py`. Unused without a teacher.

    Attributes:
        features: relative squared error of the levels of the feature pyramid.
        masks: of the mask logits.
        scores: of the object score and the predicted IoUs.
    """

    features: float = 0.0
    masks: float = 0.0
    scores: float = 0.0

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(getattr(self, item.name) >= 0, f"distill.{item.name} must not be negative")

    @property
    def any(self) -> bool:
        """Whether there is anything to follow."""
        return max(self.features, self.masks, self.scores) > 0


@dataclass(frozen=True)
class ImageBatches:
    """Batches of single images between the clips of a stage.

    Attributes:
        every: one step in this many is such a batch.
        clips: images of a batch, over all processes together.
        objects: most objects of an image.
    """

    every: int
    clips: int
    objects: int = 3

    def __post_init__(self) -> None:
        _check(self.every >= 2, "images.every must be at least 2, so that clips are left")
        for name in ("clips", "objects"):
            _check(getattr(self, name) >= 1, f"images.{name} must be a positive integer")


@dataclass(frozen=True)
class QuantizerTraining:
    """How the quantizers of a quantized model are trained; a float model has none.

    Attributes:
        rate: their learning rate, as a multiple of the weights'; they have no weight decay.
        observe_first: steps from the start of the run in which statistics are updated every time.
        observe_every: steps between two updates of the statistics after that.
        freeze: last share of the run's steps in which no statistics change any more.
        lower: least widths at the start: pairs of a share of the run's steps and a width, ascending
            by share. With ``[[0.2, 8], [0.5, 4]]`` no layer has fewer than 8 bits up to a fifth of
            the steps, nor fewer than 4 up to the half; then each has its own. Mid-rise weights
            never have more than 7.
        penalty: weight in the loss of what the quantizers' papers add to it: PACT the squared clip
            thresholds, the others nothing.
    """

    rate: float = 20.0
    observe_first: int = 50
    observe_every: int = 4
    freeze: float = 0.2
    lower: tuple[tuple[float, int], ...] = ()
    penalty: float = 1e-4

    def __post_init__(self) -> None:
        _check(self.penalty >= 0, "quantizers.penalty must not be negative")
        _check(self.rate >= 0, "quantizers.rate must not be negative")
        _check(self.observe_first >= 0, "quantizers.observe_first must not be negative")
        _check(self.observe_every >= 1, "quantizers.observe_every must be at least 1")
        _check(0 <= self.freeze <= 1, "quantizers.freeze must be from 0 to 1")
        shares, widths = [share for share, _ in self.lower], [bits for _, bits in self.lower]
        _check(
            shares == sorted(set(shares)) and all(0 < share < 1 for share in shares),
            "the shares of quantizers.lower must ascend, above 0 and below 1",
        )
        _check(
            widths == sorted(set(widths), reverse=True) and all(2 <= b <= 8 for b in widths),
            "the widths of quantizers.lower must descend, from 8 to 2",
        )


@dataclass(frozen=True)
class Stage:
    """Some steps with the same kind of batch.

    Attributes:
        name: shown in messages and curves.
        steps: number of optimiser steps.
        frames: frames of a clip; 1 trains on images.
        clips: clips of a batch, over all processes together.
        objects: most objects of a clip.
        image_size: side of the square input, pixels, a multiple of 32; 0 takes the model's own.
        learning_rate: at the start and at the end of the stage; a cosine between them.
        data: share of clips from each source, by its name; they need not add up to one.
        easy: share of easy generated clips, at the start and at the end; linear between them.
        hidden: share of clips of 4 frames or more in which something hides an object for a while,
            instead of the share that the settings of the data name.
        mask_loss: ``focal`` is SAM2's; ``balanced`` weighs object and background the same, for the
            start of training from scratch.
        losses: weights of the losses.
        distill: weights of the losses that follow a teacher.
        images: batches of images between those of clips, or None.
        prompts: how objects are prompted.
        least_steps: what a shorter version of the recipe (`TrainConfig.scaled`) keeps at least, for
            a stage without which the later ones learn nothing.
        object_bias: sets the bias of the object score when the stage begins. Training from scratch
            starts it high, at "present", and it comes down slowly; a stage in which objects are
            absent wants it near 0.
    """

    name: str
    steps: int
    frames: int
    clips: int
    image_size: int = 0
    objects: int = 3
    data: Mapping[str, float] = field(default_factory=lambda: {"generated": 1.0})
    learning_rate: tuple[float, float] = (5e-4, 5e-5)
    easy: tuple[float, float] = (0.0, 0.0)
    mask_loss: MaskLoss = "focal"
    losses: LossWeights = field(default_factory=LossWeights)
    distill: DistillWeights = field(default_factory=DistillWeights)
    images: ImageBatches | None = None
    prompts: PromptPolicy = field(default_factory=PromptPolicy)
    hidden: float | None = None
    least_steps: int = 1
    object_bias: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "frames", "clips", "objects", "least_steps"):
            value = getattr(self, name)
            _check(isinstance(value, int) and value >= 1, f"{name} must be a positive integer")
        _check(
            self.image_size >= 0 and self.image_size % 32 == 0,
            "image_size must be a multiple of 32",
        )
        _check(
            self.images is None or self.frames > 1,
            "images are for stages of clips; a stage with frames: 1 has nothing else",
        )
        _check(
            len(self.data) > 0 and min(self.data.values()) >= 0 and sum(self.data.values()) > 0,
            "data must name at least one source, with shares that are not negative",
        )
        _check(min(self.learning_rate) > 0, "learning_rate must be positive")
        _check(0 <= min(self.easy) <= max(self.easy) <= 1, "easy must be from 0 to 1")
        _check(self.hidden is None or 0 <= self.hidden <= 1, "hidden must be from 0 to 1")
        _check(self.mask_loss in ("focal", "balanced"), "mask_loss must be focal or balanced")

    def scaled_steps(self, factor: float) -> int:
        """Return ``factor`` times the steps, at least ``least_steps`` of them if it has so many."""
        return max(round(self.steps * factor), min(self.steps, self.least_steps))

    @property
    def uses_labels(self) -> bool:
        """Whether any of SAM2's own losses counts."""
        weights = self.losses
        own = (weights.focal, weights.dice, weights.iou, weights.object_score)
        return self.mask_loss == "balanced" or any(own)

    def is_image_step(self, step: int) -> bool:
        """Whether the batch of ``step``, counted from the start of the stage, is of images."""
        return self.images is not None and (step + 1) % self.images.every == 0

    def clips_of(self, step: int) -> int:
        """Return the number of clips, or images, in the batch of ``step``."""
        if self.images is not None and self.is_image_step(step):
            return self.images.clips
        return self.clips

    def clips_before(self, step: int) -> int:
        """Return the number of clips and images in all batches before that of ``step``."""
        if self.images is None:
            return step * self.clips
        with_images = step // self.images.every
        return (step - with_images) * self.clips + with_images * self.images.clips


@dataclass(frozen=True)
class TrainConfig:
    """A training run.

    Attributes:
        stages: what is trained, in order.
        seed: of everything that is random.
        from_scratch: give random weights the start of `start.py`.
        weight_decay: of AdamW, on matrices and convolutions only.
        gradient_clip: largest norm of the gradient.
        warmup_steps: of the learning rate, at the start of each stage.
        ema: decay of the average of the weights, which is what is saved; 0 for none.
        precision: ``bfloat16`` computes under autocast.
        checkpoint_activations: recompute the activations of the encoder's blocks and of the memory
            attention's layers in the backward pass.
        quantizers: how the quantizers of a quantized model are trained.
        skip_missing_data: leave out the sources for which no data was given, instead of refusing.
        log_every: steps between two lines of the log.
        save_every: steps between two training states on disk.
        validate_every: steps between two validations; 0 for none but at the end of each stage.
        workers: processes that make clips; 0 makes them in the training process.
    """

    stages: tuple[Stage, ...]
    seed: int = 0
    from_scratch: bool = False
    weight_decay: float = 0.05
    gradient_clip: float = 2.0
    warmup_steps: int = 100
    ema: float = 0.998
    precision: Literal["float32", "bfloat16"] = "float32"
    checkpoint_activations: bool = False
    quantizers: QuantizerTraining = field(default_factory=QuantizerTraining)
    skip_missing_data: bool = False
    log_every: int = 50
    save_every: int = 250
    validate_every: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        _check(len(self.stages) > 0, "a recipe needs at least one stage")
        _check(0 <= self.ema < 1, "ema must be from 0 to below 1")
        _check(self.gradient_clip > 0, "gradient_clip must be positive")
        _check(self.precision in ("float32", "bfloat16"), "precision must be float32 or bfloat16")
        for name in ("log_every", "save_every"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1")
        for name in ("seed", "weight_decay", "warmup_steps", "validate_every", "workers"):
            _check(getattr(self, name) >= 0, f"{name} must not be negative")

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def distils(self) -> bool:
        """Whether any stage has a loss that follows a teacher."""
        return any(stage.distill.any for stage in self.stages)

    def sized(self, image_size: int) -> TrainConfig:
        """Return the recipe with the model's ``image_size`` where a stage names none."""
        stages = tuple(
            replace(stage, image_size=stage.image_size or image_size) for stage in self.stages
        )
        return replace(self, stages=stages)

    def scaled(self, factor: float) -> TrainConfig:
        """Return the recipe with ``factor`` times the steps and warm-up of every stage.

        A shorter recipe keeps the ``least_steps`` of its stages, as far as they have them.

        Raises:
            InputError: ``factor`` is not positive.
        """
        _check(factor > 0, "the scale of the steps must be positive")
        stages = tuple(replace(stage, steps=stage.scaled_steps(factor)) for stage in self.stages)
        observed = round(self.quantizers.observe_first * factor)
        return replace(
            self,
            stages=stages,
            warmup_steps=round(self.warmup_steps * factor),
            quantizers=replace(self.quantizers, observe_first=observed),
        )


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise InputError(f"the training recipe is not usable: {message}")
