"""Everything that can be said about a model file, as data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._common.contradictions import contradictions, one_line
from .._common.progress import progress
from ..errors import InputError, ModelFileError
from ..model_file.bundle import Bundle, WholeModel, read_model, split_components
from ..onnx_graph.tensors import STEADY_STATE
from ..spec import ModelSpec
from .clipping import DEFAULT_LIMIT, clipped_inputs
from .engines import ENGINES, EXACT_PRODUCTS, engine_version
from .layers import QuantizedLayer, quantized_layers
from .products import multiply_adds
from .sizes import FileSizes, file_sizes

if TYPE_CHECKING:
    import onnx

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class LayerReport:
    """A quantized layer, what it costs, and where it runs.

    Attributes:
        layer: its numbers.
        multiply_adds: of all of its products, for one frame.
        integer_share: share of them that runs in integers, by engine.
        inputs_clipped: share of its input values outside of the grid; None if not measured.
    """

    layer: QuantizedLayer
    multiply_adds: int
    integer_share: Mapping[str, float]
    inputs_clipped: float | None = None


@dataclass(frozen=True)
class Work:
    """Multiply-adds of one component, or of several.

    Attributes:
        all: of every product, attention and float layers included.
        quantized: of the quantized layers.
        integer: those that run in integers, by engine.
        integer_quantized: those of them that are of quantized layers, by engine.
    """

    all: int
    quantized: int
    integer: Mapping[str, int]
    integer_quantized: Mapping[str, int]

    def share(self, engine: str) -> float:
        """Return the share of all multiply-adds that run in integers."""
        return self.integer[engine] / self.all if self.all else 0.0

    def quantized_share(self, engine: str) -> float | None:
        """Return the share of those of quantized layers; None where there are none."""
        return self.integer_quantized[engine] / self.quantized if self.quantized else None


@dataclass(frozen=True)
class Inspection:
    """What a model file holds.

    Attributes:
        path: the file.
        digest: SHA-256 of its contents.
        spec: its metadata.
        sizes: where its bytes go.
        engines: version of each engine that can be asked, None if it is not installed.
        work: multiply-adds of each component.
        layers: the quantized layers, in the order of the graphs.
        products: how each engine multiplies, so that integers are exact on this processor.
        data: what the inputs were measured on; None if they were not.
    """

    path: Path
    digest: str
    spec: ModelSpec
    sizes: FileSizes
    engines: Mapping[str, str | None]
    work: Mapping[str, Work]
    layers: tuple[LayerReport, ...]
    products: Mapping[str, str]
    data: str | None = None

    @property
    def installed(self) -> tuple[str, ...]:
        """The engines that were asked."""
        return tuple(name for name, version in self.engines.items() if version is not None)

    @property
    def total_work(self) -> Work:
        """Multiply-adds of the whole model."""
        return add_work(self.work.values(), self.installed)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; shares are from 0 to 1, sizes in bytes."""
        sizes, told = self.sizes, self.spec.quantization
        return {
            "schema_version": SCHEMA_VERSION,
            "file": self.path.name,
            "sha256": self.digest,
            "name": self.spec.name,
            "producer": self.spec.producer,
            "image_size": self.spec.image_size,
            "memory_pooling": self.spec.memory_pooling,
            "quantization": None if told is None else asdict(told),
            "size": {
                "file": sizes.file,
                "float32": sizes.float32,
                "bfloat16": sizes.bfloat16,
                "parameters": sizes.parameters,
                "parts": sizes.parts,
            },
            "engines": dict(self.engines),
            "products": dict(self.products),
            "steady_state": STEADY_STATE,
            "components": {name: _work_json(work) for name, work in self.work.items()},
            "total": _work_json(self.total_work),
            "data": self.data,
            "layers": [_layer_json(layer) for layer in self.layers],
        }


def inspect_model(
    path: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    limit: int = DEFAULT_LIMIT,
    threads: int | None = None,
    show_progress: bool | None = None,
) -> Inspection:
    """Look at a ``model.onnx``, float or quantized.

    Args:
        path: the file.
        data: a video, a folder of frames or an image on which the clipping of inputs is measured.
        limit: most frames of it.
        threads: threads of the engine for ``data``.
        show_progress: show progress bars; default: on a terminal.

    Raises:
        ModelFileError: the file cannot be used, or is not valid ONNX.
        InputError: ``data`` was given for a float model, or ``limit`` is not positive.
        VideoError: ``data`` cannot be read.
        EngineError: an engine refuses the model.
        MissingDependencyError: ``onnx``, or for ``data`` ONNX Runtime, is not installed.
    """
    whole = read_model(path)
    check_graph(whole)
    told = whole.spec.quantization
    if data is not None and told is None:
        raise InputError(f"{path} is a float model, in which no input is clipped; leave out --data")
    components = split_components(whole.model)
    bundle = Bundle(whole.path, whole.spec, whole.digest, components)
    clipped: Mapping[str, float] = {}
    if data is not None:
        clipped = clipped_inputs(
            bundle, data, limit=limit, threads=threads, show_progress=show_progress
        )
    engines = {name: engine_version(name) for name in ENGINES}
    layers: list[LayerReport] = []
    work = {}
    for name, component in progress(
        components.items(), "inspecting", unit="component", enabled=show_progress
    ):
        with contradictions(whole.path, f"its component {name} cannot be inspected"):
            quantized = [] if told is None else quantized_layers(component, told)
            work[name], found = inspect_component(
                component, quantized, [e for e, version in engines.items() if version], clipped
            )
        layers += found
    return Inspection(
        path=whole.path,
        digest=whole.digest,
        spec=whole.spec,
        sizes=file_sizes(whole),
        engines=engines,
        work=work,
        layers=tuple(layers),
        products={name: EXACT_PRODUCTS[name]() for name, version in engines.items() if version},
        data=None if data is None else str(data),
    )


def check_graph(whole: WholeModel) -> None:
    """Run ONNX's own checker, shape inference included.

    Raises:
        ModelFileError: the graph is not valid ONNX, or newer than the installed ``onnx``.
    """
    import onnx

    try:
        onnx.checker.check_model(whole.model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        reason = one_line(error)
        raise ModelFileError(
            f"{whole.path} is not valid for the checker of onnx {onnx.__version__}: {reason}; "
            "export it again, or upgrade onnx"
        ) from error


def inspect_component(
    component: onnx.ModelProto,
    layers: Iterable[QuantizedLayer],
    engines: Iterable[str],
    clipped: Mapping[str, float],
) -> tuple[Work, list[LayerReport]]:
    """Return the multiply-adds of one component, and the reports of its layers.

    Args:
        component: in its canonical form.
        layers: its quantized layers.
        engines: names of ``ENGINES`` that are installed.
        clipped: share of clipped values by the name of the step; may lack some.
    """
    counts = multiply_adds(component)
    integer = {name: ENGINES[name](component) for name in engines}
    reports = [_layer_report(layer, counts, integer, clipped) for layer in layers]
    products = {name for report in reports for name in report.layer.products}
    quantized = {name: counts[name] for name in counts if name in products}
    work = Work(
        all=sum(counts.values()),
        quantized=sum(quantized.values()),
        integer={engine: _sum(counts, names) for engine, names in integer.items()},
        integer_quantized={engine: _sum(quantized, names) for engine, names in integer.items()},
    )
    return work, reports


def add_work(parts: Iterable[Work], engines: Iterable[str]) -> Work:
    """Return the sum of several components."""
    parts = list(parts)
    engines = list(engines)
    return Work(
        all=sum(part.all for part in parts),
        quantized=sum(part.quantized for part in parts),
        integer={name: sum(part.integer[name] for part in parts) for name in engines},
        integer_quantized={
            name: sum(part.integer_quantized[name] for part in parts) for name in engines
        },
    )


def _layer_report(
    layer: QuantizedLayer,
    counts: Mapping[str, int],
    integer: Mapping[str, set[str]],
    clipped: Mapping[str, float],
) -> LayerReport:
    own = {name: counts[name] for name in layer.products}
    total = sum(own.values())
    shares = {engine: _sum(own, names) / total for engine, names in integer.items()}
    measured = clipped.get(layer.input_scale_name) if layer.input_scale_name else None
    return LayerReport(layer, total, shares, measured)


def _sum(counts: Mapping[str, int], names: set[str]) -> int:
    return sum(count for name, count in counts.items() if name in names)


def _work_json(work: Work) -> dict[str, Any]:
    return {
        "multiply_adds": work.all,
        "quantized_multiply_adds": work.quantized,
        "integer_share": {name: work.share(name) for name in work.integer},
        "integer_share_of_quantized": {name: work.quantized_share(name) for name in work.integer},
    }


def _layer_json(report: LayerReport) -> dict[str, Any]:
    layer = report.layer
    return {
        "name": layer.name,
        "component": layer.component,
        "operator": layer.operator,
        "shape": list(layer.shape),
        "weight_bits": layer.weight_bits,
        "input_bits": layer.input_bits,
        "weight_grid": layer.weight_grid,
        "input_grid": layer.input_grid,
        "weight_scale": {"min": layer.weight_scale[0], "max": layer.weight_scale[1]},
        "input_scale": layer.input_scale,
        "weights_at_ends": layer.weights_at_ends,
        "inputs_clipped": report.inputs_clipped,
        "packed_bytes": layer.packed_bytes,
        "multiply_adds": report.multiply_adds,
        "integer_share": dict(report.integer_share),
    }
