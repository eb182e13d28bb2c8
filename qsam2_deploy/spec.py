"""The seam between the two halves of the project.

The export side (torch) writes a model that obeys this module; the runtime (no torch) reads it.
Neither imports the other. Only the standard library and numpy are used here.

Symbols in shapes: ``S`` image size, ``H = W = S / 16``, ``C`` model width (``d_model``), ``M``
memory width, ``B`` objects, ``P`` points, ``F`` memory frames, ``N`` object pointers.
``B``, ``P``, ``F`` and ``N`` are dynamic, all else is fixed when the model is exported.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from ._common.json import loads_bounded
from ._common.spec_check import check_spec
from .errors import ModelFileError

SCHEMA_VERSION = 2
"""Version of the metadata; a reader refuses a newer one. Version 1 knew symmetric grids alone."""

SPEC_KEY = "qsam2.spec"
"""Key of the JSON text in the ONNX model's ``metadata_props``."""

MAX_SPEC_LETTERS = 4 << 20
"""Of the JSON text; that of SAM 2.1 large has 12,000."""

IMAGE_ENCODER = "image_encoder"
MEMORY_ATTENTION = "memory_attention"
MASK_DECODER = "mask_decoder"
MEMORY_ENCODER = "memory_encoder"
COMPONENTS = (IMAGE_ENCODER, MEMORY_ATTENTION, MASK_DECODER, MEMORY_ENCODER)
"""The four parts of the model, in the order in which a frame passes through them."""

NO_OBJ_SCORE = -1024.0
"""Mask logit of an object that is not in the frame (upstream ``sam2_base.NO_OBJ_SCORE``)."""

NUM_CANDIDATES = 4
"""Masks per prompt that the decoder returns: the single mask, then three for ambiguous prompts."""

SYMMETRIC, AFFINE, MIDRISE = "symmetric", "affine", "midrise"
"""Kinds of grids: without a zero-point, with one, and with levels half a step off."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, element type (numpy name) and shape of one input or output.

    Dimensions are integers, or the letters ``B``, ``P``, ``F``, ``N`` for dynamic ones.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class ComponentSpec:
    """Inputs and outputs of one component, in order."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class TrackingRules:
    """The flags of the official predictor that decide what the runtime does with a prompt.

    The names are those of upstream ``SAM2Base`` and ``SAM2VideoPredictor``; the defaults are what
    ``build_sam2_video_predictor`` gives for the official SAM 2.1 configurations.
    """

    num_maskmem: int = 7
    max_obj_ptrs_in_encoder: int = 16
    max_cond_frames_in_attn: int = -1
    memory_temporal_stride_for_eval: int = 1
    multimask_output_in_sam: bool = True
    multimask_min_pt_num: int = 0
    multimask_max_pt_num: int = 1
    multimask_output_for_tracking: bool = True
    use_multimask_token_for_obj_ptr: bool = True
    dynamic_multimask_via_stability: bool = True
    dynamic_multimask_stability_delta: float = 0.05
    dynamic_multimask_stability_thresh: float = 0.98
    use_mask_input_as_output_without_sam: bool = True
    binarize_mask_from_pts_for_mem_enc: bool = True
    fixed_no_obj_ptr: bool = True
    use_signed_tpos_enc_to_obj_ptrs: bool = True
    only_obj_ptrs_in_the_past_for_eval: bool = True


@dataclass(frozen=True)
class QuantizationInfo:
    """What was quantized, for people and for tools; the graph itself holds the numbers.

    Attributes:
        scope: ``encoder`` or ``all``.
        weight_bits: wanted width of weights; single layers may differ.
        activation_bits: wanted width of activations.
        layers: number of quantized layers of the checkpoint.
        method: name of the quantizer, ``weights/inputs`` where they have two.
        weights: number of quantized weights in the graph; some layers are cut in parts.
        widths: widths such as ``w8a8`` of those weights in the graph that differ from
            ``weight_bits`` and ``activation_bits``, by the name of the initializer. A weight of 3
            bits is stored in INT4, one of 5 to 8 bits in INT8.
        dead_channels: output channels whose weights are all zero; their step is the smallest.
        attentions: number of attention products with INT8 factors.
        weight_grid: ``symmetric`` or ``midrise``, that of most weights.
        activation_grid: ``symmetric`` or ``affine``, that of the inputs of most weights.
        grids: such as ``midrise/affine``, of those weights in the graph whose own grid or whose
            input's grid is another, by the name of the initializer.
    """

    scope: str
    weight_bits: int
    activation_bits: int
    layers: int
    method: str = ""
    weights: int = 0
    widths: Mapping[str, str] = field(default_factory=dict)
    dead_channels: int = 0
    attentions: int = 0
    weight_grid: str = SYMMETRIC
    activation_grid: str = SYMMETRIC
    grids: Mapping[str, str] = field(default_factory=dict)

    @property
    def usual_widths(self) -> str:
        """Widths of all weights that ``widths`` does not name."""
        return f"w{self.weight_bits}a{self.activation_bits}"

    @property
    def usual_grids(self) -> str:
        """Grids of all weights that ``grids`` does not name."""
        return f"{self.weight_grid}/{self.activation_grid}"


@dataclass(frozen=True)
class ModelSpec:
    """Everything about a model that the runtime needs and that is no graph.

    Attributes:
        name: for people, such as ``sam2.1_hiera_tiny``.
        image_size: side of the square model input in pixels (``S``), a multiple of 32.
        d_model: feature width ``C``.
        memory_dim: memory width ``M``.
        mean: per-channel mean of the RGB input, after division by 255.
        std: per-channel standard deviation likewise.
        rules: the official predictor's flags.
        memory_pooling: side of the windows over which the memory attention averages the tokens of
            a memory frame; 1 is the model as it was trained, unless it was trained with more.
        constants: small float32 arrays that the runtime adds itself: ``no_mem_embed [C]``,
            ``no_obj_ptr [C]``, ``mask_downsample_weight [4, 4]``, ``mask_downsample_bias [1]``.
        quantization: None for a float model.
        producer: package and version that wrote the model.
        source_sha256: digest of the checkpoint file, empty if there was none.
    """

    name: str
    image_size: int
    d_model: int = 256
    memory_dim: int = 64
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    rules: TrackingRules = field(default_factory=TrackingRules)
    memory_pooling: int = 1
    constants: Mapping[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    quantization: QuantizationInfo | None = None
    producer: str = ""
    source_sha256: str = ""

    @property
    def feature_size(self) -> int:
        """Side of the feature map, ``H = W = S / 16``."""
        return self.image_size // 16

    @property
    def mask_size(self) -> int:
        """Side of the low-resolution mask logits, ``S / 4``."""
        return self.image_size // 4

    def component(self, name: str) -> ComponentSpec:
        """Return the inputs and outputs of component ``name`` for this model."""
        return _component(name, self)

    def to_json(self) -> str:
        """Return the metadata text; arrays are base64 of little-endian float32."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["rules"] = asdict(self.rules)
        data["quantization"] = asdict(self.quantization) if self.quantization else None
        data["constants"] = {k: _encode_array(v) for k, v in sorted(self.constants.items())}
        return json.dumps({"schema_version": SCHEMA_VERSION, **data}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Read the metadata text that :meth:`to_json` wrote.

        Unknown entries are ignored, so that an older reader of the same schema version works.

        Raises:
            ModelFileError: the text is damaged, or of a newer schema version.
        """
        try:
            data = loads_bounded(text, MAX_SPEC_LETTERS)
            version = int(data["schema_version"])
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise _damaged(error) from error
        if version > SCHEMA_VERSION:
            raise ModelFileError(
                f"the model has schema version {version}, but this version of qsam2-deploy reads "
                f"up to {SCHEMA_VERSION}; upgrade with: pip install -U qsam2-deploy"
            )
        try:
            spec = _spec_from_dict(data)
            check_spec(spec)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            raise _damaged(error) from error
        return spec


def _damaged(error: Exception) -> ModelFileError:
    """Return the error about metadata whose reading raised ``error``."""
    return ModelFileError(
        f"the model's {SPEC_KEY} entry is damaged ({error!r:.200}); copy or export it again"
    )


def _spec_from_dict(data: dict[str, Any]) -> ModelSpec:
    quantization = data.get("quantization")
    values: dict[str, Any] = _known(ModelSpec, data)
    values["mean"], values["std"] = tuple(data["mean"]), tuple(data["std"])
    values["rules"] = TrackingRules(**_known(TrackingRules, data["rules"]))
    values["constants"] = {k: _decode_array(v) for k, v in data["constants"].items()}
    values["quantization"] = (
        QuantizationInfo(**_known(QuantizationInfo, quantization)) if quantization else None
    )
    return ModelSpec(**values)


def _known(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(cls)}
    return {k: v for k, v in data.items() if k in names}


def _encode_array(array: npt.NDArray[np.float32]) -> dict[str, Any]:
    contiguous = np.ascontiguousarray(array, dtype="<f4")
    return {
        "shape": list(contiguous.shape),
        "float32": base64.b64encode(contiguous.tobytes()).decode("ascii"),
    }


def _decode_array(data: Mapping[str, Any]) -> npt.NDArray[np.float32]:
    raw = base64.b64decode(data["float32"], validate=True)
    values = np.frombuffer(raw, dtype="<f4").astype(np.float32)
    shaped: npt.NDArray[np.float32] = values.reshape(data["shape"])
    return shaped


def _component(name: str, spec: ModelSpec) -> ComponentSpec:
    c, m, h = spec.d_model, spec.memory_dim, spec.feature_size
    s = spec.image_size
    features = TensorSpec("features", "float32", (1, c, h, h))
    high_res = (
        TensorSpec("high_res_0", "float32", (1, c // 8, 4 * h, 4 * h)),
        TensorSpec("high_res_1", "float32", (1, c // 4, 2 * h, 2 * h)),
    )
    conditioned = TensorSpec("conditioned", "float32", ("B", c, h, h))
    score = TensorSpec("object_score", "float32", ("B", 1))
    if name == IMAGE_ENCODER:
        image = TensorSpec("image", "float32", (1, 3, s, s))
        return ComponentSpec(name, (image,), (features, *high_res))
    inputs: tuple[TensorSpec, ...]
    if name == MEMORY_ATTENTION:
        inputs = (
            features,
            TensorSpec("memory", "float32", ("B", "F", m, h, h)),
            TensorSpec("memory_tpos", "int64", ("F",)),
            TensorSpec("pointers", "float32", ("B", "N", c)),
            TensorSpec("pointer_tpos", "float32", ("N",)),
        )
        return ComponentSpec(name, inputs, (conditioned,))
    if name == MASK_DECODER:
        k = NUM_CANDIDATES
        inputs = (
            conditioned,
            *high_res,
            TensorSpec("point_coords", "float32", ("B", "P", 2)),
            TensorSpec("point_labels", "int32", ("B", "P")),
            TensorSpec("mask_input", "float32", ("B", 1, 4 * h, 4 * h)),
            TensorSpec("has_mask", "bool", ("B",)),
        )
        outputs = (
            TensorSpec("mask_logits", "float32", ("B", k, 4 * h, 4 * h)),
            TensorSpec("ious", "float32", ("B", k)),
            TensorSpec("pointers", "float32", ("B", k, c)),
            score,
        )
        return ComponentSpec(name, inputs, outputs)
    if name == MEMORY_ENCODER:
        inputs = (
            features,
            TensorSpec("mask_logits", "float32", ("B", 1, 4 * h, 4 * h)),
            TensorSpec("from_points", "bool", ("B",)),
            score,
        )
        memory = TensorSpec("memory", "float32", ("B", m, h, h))
        return ComponentSpec(name, inputs, (memory,))
    raise KeyError(f"no component is called {name!r}; they are {', '.join(COMPONENTS)}")


def graph_name(component: str, tensor: str) -> str:
    """Return the name of ``tensor`` of ``component`` inside the one-file model."""
    return f"{component}/{tensor}"
