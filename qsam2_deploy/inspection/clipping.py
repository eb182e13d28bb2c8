"""Which share of the inputs of quantized layers lies outside of their grids, on real frames.

The frames are tracked as a video is. The float reference of the model runs, with a few more nodes
in front of every quantizer, which count the values beyond the first and the last level.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._common.progress import progress
from .._common.spread import spread_indices
from ..engines.protocol import Arrays
from ..engines.reference import ReferenceBackend
from ..errors import InputError
from ..lowering import lower_to_float
from ..media.protocols import IndexedFrames
from ..media.reading.sources import open_indexed
from ..model_file.bundle import Bundle
from ..onnx_graph.index import GraphIndex, add_constant
from ..predictors.segmenter import VideoSegmenter
from ..tracking.results import Prompt
from .layers import input_grid, input_quantizers

if TYPE_CHECKING:
    import onnx

DEFAULT_LIMIT = 8
"""Frames that are looked at."""

RESTART_EVERY = 8
"""Frames after which another object is prompted."""

_PROBE = "probe/"


class ClippingProbe(ReferenceBackend):
    """The float reference of a model as a backend that counts what its quantizers clip.

    Attributes:
        outside: values beyond the grid, by the name of the quantizer's step.
        total: all values, likewise.
    """

    def __init__(self, bundle: Bundle, threads: int | None = None) -> None:
        """Use the components of ``bundle``, which are not changed."""
        super().__init__(bundle, threads)
        self._steps: dict[str, list[str]] = {}
        self.outside: dict[str, int] = {}
        self.total: dict[str, int] = {}

    def _lower(self, name: str, component: onnx.ModelProto) -> None:
        self._steps[name] = add_probes(component)
        lower_to_float(component)

    def run(self, component: str, inputs: Mapping[str, npt.NDArray[Any]]) -> Arrays:
        """Run one component, and count."""
        found = super().run(component, inputs)
        for i, step in enumerate(self._steps[component]):
            outside, total = (int(found.pop(name)) for name in _outputs(i))
            self.outside[step] = self.outside.get(step, 0) + outside
            self.total[step] = self.total.get(step, 0) + total
        return found


def clipped_inputs(
    bundle: Bundle,
    data: str | os.PathLike[str],
    *,
    limit: int = DEFAULT_LIMIT,
    threads: int | None = None,
    show_progress: bool | None = None,
) -> dict[str, float]:
    """Return the share of clipped values of every input, by the name of its step.

    Every eighth frame is prompted anew, with a click into the middle or a box around it in turn;
    all others are tracked. A single image is taken twice, so that the memory is used.

    Args:
        bundle: a quantized model.
        data: a video, a folder of frames or an image.
        limit: most frames to take, spread evenly over what is there.
        threads: threads of the engine.
        show_progress: show a progress bar; default: on a terminal.

    Raises:
        InputError: ``limit`` is not positive.
        VideoError: the frames cannot be read.
        EngineError: the engine failed, or the model returned numbers that are not finite.
    """
    if limit < 1:
        raise InputError(f"the number of frames must be at least 1, but got {limit}")
    probe = ClippingProbe(bundle, threads)
    with open_indexed(data) as frames, VideoSegmenter(probe) as segmenter:
        indices = spread_indices(len(frames), limit)
        indices = indices * 2 if len(indices) == 1 else indices
        bar = progress(indices, "inspecting", unit="frame", enabled=show_progress)
        for number, index in enumerate(bar):
            _track(segmenter, frames, index, number)
    return {step: probe.outside[step] / total for step, total in probe.total.items() if total}


def _track(segmenter: VideoSegmenter, frames: IndexedFrames, index: int, number: int) -> None:
    if number % RESTART_EVERY:
        segmenter.track(frames[index])
        return
    segmenter.reset()
    with_box = number // RESTART_EVERY % 2 == 1
    segmenter.track(frames[index], [_prompt(frames.width, frames.height, with_box=with_box)])


def _prompt(width: int, height: int, *, with_box: bool) -> Prompt:
    if with_box:
        return Prompt(1, box=(width / 4, height / 4, width * 3 / 4, height * 3 / 4))
    return Prompt(1, points=[(width / 2, height / 2)], labels=[1])


def add_probes(component: onnx.ModelProto) -> list[str]:
    """Let a canonical component count what its quantizers clip, in place.

    For probe ``i`` there are two outputs more: the number of values outside of the grid, and of all
    values. Outside are those that lie beyond the first or the last level by more than half a step,
    which is what rounding may take from any value, and those that are no numbers.

    Returns:
        The name of the step of each probe, in their order.
    """
    from onnx import TensorProto, helper

    index = GraphIndex(component)
    steps = []
    for i, quantize in enumerate(input_quantizers(index)):
        grid = input_grid(index, quantize)
        half = grid.step / 2
        limits = [
            add_constant(component, f"{_PROBE}{i}/{end}", np.float32(value))
            for end, value in (("low", grid.low - half), ("high", grid.high + half))
        ]
        component.graph.node.extend(_count_nodes(i, grid.tensor, limits))
        for name in _outputs(i):
            component.graph.output.append(
                helper.make_tensor_value_info(name, TensorProto.INT64, [])
            )
        steps.append(str(quantize.input[1]))
    return steps


def _outputs(i: int) -> tuple[str, str]:
    return f"{_PROBE}{i}/outside", f"{_PROBE}{i}/total"


def _count_nodes(i: int, tensor: str, limits: list[str]) -> list[onnx.NodeProto]:
    from onnx import TensorProto, helper

    def name(what: str) -> str:
        return f"{_PROBE}{i}/{what}"

    def node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(op_type, inputs, [output], output, **attributes)

    outside, total = _outputs(i)
    return [
        node("Clip", [tensor, *limits], name("clipped")),
        node("Equal", [tensor, name("clipped")], name("inside")),
        node("Not", [name("inside")], name("not_inside")),
        node("Cast", [name("not_inside")], name("ones"), to=TensorProto.INT64),
        node("ReduceSum", [name("ones")], outside, keepdims=0),
        node("Size", [tensor], total),
    ]
