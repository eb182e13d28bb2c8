"""Reading a ``model.onnx`` bundle: checks, metadata, and the four components."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._common import seal as _seal
from .._common.files import atomic_open, read_bounded
from .._common.requirements import check_imported
from ..errors import InputError, MissingDependencyError, ModelFileError
from ..spec import COMPONENTS, SPEC_KEY, ModelSpec
from .gate import MAX_FILE_BYTES, check_model

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Bundle:
    """An opened model file.

    Attributes:
        path: where it was read from.
        spec: its metadata.
        digest: SHA-256 of its contents.
        components: an ordinary ONNX model for each component, with bare input and output names.
    """

    path: Path
    spec: ModelSpec
    digest: str
    components: dict[str, onnx.ModelProto]


@dataclass(frozen=True)
class WholeModel:
    """A model file as one graph.

    Attributes:
        path: where it was read from.
        spec: its metadata.
        digest: SHA-256 of its contents.
        size: of the file in bytes.
        model: the ONNX model; the names of its parts begin with the component's name.
    """

    path: Path
    spec: ModelSpec
    digest: str
    size: int
    model: onnx.ModelProto


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read and check a ``model.onnx``, and cut it into its components.

    Raises:
        ModelFileError: as :func:`read_model`.
        MissingDependencyError: the package ``onnx`` is not installed.
    """
    whole = read_model(path)
    components = split_components(whole.model)
    return Bundle(whole.path, whole.spec, whole.digest, components)


def read_model(path: str | os.PathLike[str]) -> WholeModel:
    """Read and check a ``model.onnx``.

    Raises:
        ModelFileError: there is no such file, it is no ONNX model, was not made by
            ``qsam2-export``, is of a newer schema, truncated or damaged, or contradicts itself.
        MissingDependencyError: the package ``onnx`` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingDependencyError("onnx", "ort", "reading a model") from error
    check_imported(onnx, "onnx", "ort", "reading a model")
    from google.protobuf.message import DecodeError

    source = Path(path)
    data = _read_bytes(source)
    try:
        model = onnx.ModelProto.FromString(data)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
    # Not every version of protobuf turns text that is not UTF-8 into an error of its own.
    except (DecodeError, UnicodeDecodeError) as error:
        raise ModelFileError(
            f"{source} is not an ONNX model, or is truncated or damaged; "
            "expected a file made by qsam2-export"
        ) from error
    if SPEC_KEY not in metadata:
        raise ModelFileError(
            f"{source} was not made by qsam2-export (it has no {SPEC_KEY!r} entry), or is "
            "truncated; export a checkpoint with: qsam2-export model.pt model.onnx"
        )
    # A newer schema is told before the digest is checked: it may be sealed in another way.
    spec = ModelSpec.from_json(metadata[SPEC_KEY])
    digest = _seal.verify(data, str(source))
    check_model(model, spec, str(source))
    return WholeModel(source, spec, digest, len(data), model)


def _read_bytes(path: Path) -> bytes:
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; expected a model file such as model.onnx")
    try:
        return read_bounded(path, MAX_FILE_BYTES)
    except FileNotFoundError as error:
        raise ModelFileError(f"there is no model {path}; check the path") from error
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise ModelFileError(f"{path} is no model of qsam2-export: {error}") from error


def split_components(model: onnx.ModelProto) -> dict[str, onnx.ModelProto]:
    """Cut the one-file model into its components.

    The component's prefix is dropped from the names of its inputs and outputs.
    """
    return {name: _component(model, name) for name in COMPONENTS}


def _component(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    import onnx

    part = onnx.ModelProto()
    part.ir_version = model.ir_version
    part.opset_import.extend(model.opset_import)
    part.producer_name, part.producer_version = model.producer_name, model.producer_version
    graph = part.graph
    graph.name = name
    prefix = f"{name}/"
    for field in ("node", "initializer", "input", "output", "value_info"):
        own = [item for item in getattr(model.graph, field) if item.name.startswith(prefix)]
        getattr(graph, field).extend(own)
    _use_bare_names(graph, prefix)
    return part


def _use_bare_names(graph: Any, prefix: str) -> None:
    bare = {item.name: item.name[len(prefix) :] for item in (*graph.input, *graph.output)}
    for item in (*graph.input, *graph.output):
        item.name = bare[item.name]
    for node in graph.node:
        for names in (node.input, node.output):
            for i, value in enumerate(names):
                if value in bare:
                    names[i] = bare[value]


def write_split(model: str | os.PathLike[str], folder: str | os.PathLike[str]) -> list[Path]:
    """Write the components of a bundle as four ordinary ONNX models into ``folder``.

    Returns:
        The paths written, ``<component>.onnx`` each.

    Raises:
        ModelFileError: the bundle cannot be read.
        InputError: the folder cannot be written.
    """
    bundle, target = read_bundle(model), Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {target}: {error.strerror or error}") from error
    paths = []
    for name, component in bundle.components.items():
        entry = component.metadata_props.add()
        entry.key, entry.value = SPEC_KEY, bundle.spec.to_json()
        paths.append(target / f"{name}.onnx")
        with atomic_open(paths[-1]) as stream:
            stream.write(component.SerializeToString())
    return paths
