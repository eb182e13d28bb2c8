"""The file ``model.engine``: a header in JSON, then the plans of the four components.

See ``docs/formats.md``. Nothing is unpickled, and nothing is given to an engine library before
sizes and digests have been checked. A digest protects against accidents, not against people.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..._common.contradictions import reason_of, shown
from ..._common.files import atomic_open, read_bounded
from ..._common.json import loads_bounded
from ..._common.version import __version__
from ...errors import EngineError, ModelFileError
from ...spec import COMPONENTS, ModelSpec
from .layer_table import LayerSummary
from .library import Library, version_numbers
from .plan_blocks import block_sizes, packed_blocks, unpacked_plan
from .profiles import Profile

SCHEMA_VERSION = 2
"""Version 1 had plans as they are, and one precision for all."""

MAGIC = b"QSAM2ENG"
_PREAMBLE = struct.Struct("<8sQ32s")
"""Magic, length of the header in bytes, SHA-256 of the header."""

_MAX_FILE = 1 << 34
_MAX_HEADER = 1 << 24
_MAX_PLANS = 1 << 30
_MAX_INFLATION = 16
"""Plans may have this many times the bytes of the file, beyond the number that any file may have.

Blocks of text become a tenth of what they were.
"""

_WRONG_HEADER = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
_AGAIN = "build it again with qsam2-build-engine"


@dataclass(frozen=True)
class Target:
    """On what an engine runs.

    Attributes:
        gpu: name of the GPU that it was built on; empty if it was built without one.
        compute_capabilities: such as ``("8.7",)``; that of ``gpu``, or those that TensorRT-RTX was
            asked for. Empty if they are not known, or with ``ampere_plus`` not limited.
        hardware_compatibility: of :data:`.options.HARDWARE_COMPATIBILITY`; ``ampere_plus`` is 8.0
            and later.
        version_compatible: it runs with later minor versions too.
    """

    gpu: str = ""
    compute_capabilities: tuple[str, ...] = ()
    hardware_compatibility: str = "none"
    version_compatible: bool = False


@dataclass(frozen=True)
class Variant:
    """How one component was lowered.

    Attributes:
        precision: ``fp16``, ``int8`` or ``int4``.
        fused_attention: the library was free to fuse attention into one kernel.
    """

    precision: str
    fused_attention: bool = True

    def __str__(self) -> str:
        return self.precision if self.fused_attention else f"{self.precision}, attention not fused"


MIXED = "mixed"


@dataclass(frozen=True)
class EngineHeader:
    """What an engine file says of itself.

    Attributes:
        spec: of the model.
        model_sha256: digest of the ``model.onnx`` that it was built from.
        precision: ``fp16``, ``int8`` or ``int4``, or ``mixed`` if components have different ones.
        builder: ``tensorrt`` or ``tensorrt-rtx``.
        builder_version: its version.
        target: on what it runs.
        profiles: the optimization profiles of each component, in the engine's order.
        variants: how each component was lowered, where it is not just ``precision``.
        layers: what the builder said of the fused layers of each component, where it did.
        producer: package and version that wrote it.
    """

    spec: ModelSpec
    model_sha256: str
    precision: str
    builder: str
    builder_version: str
    target: Target
    profiles: Mapping[str, Sequence[Profile]] = field(default_factory=dict)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    layers: Mapping[str, LayerSummary] = field(default_factory=dict)
    producer: str = f"qsam2-deploy {__version__}"

    def variant(self, component: str) -> Variant:
        """Return how a component was lowered."""
        return self.variants.get(component) or Variant(self.precision)

    def check_library(self, library: Library, path: Path) -> None:
        """Refuse a library of another kind or version.

        Raises:
            EngineError: says which one the engine needs.
        """
        own, found = version_numbers(self.builder_version), version_numbers(library.version)
        if self.target.version_compatible:
            fits = own[:1] == found[:1] and own[:2] <= found[:2]
        else:
            fits = own[:3] == found[:3]
        if library.name != self.builder or not fits:
            raise EngineError(
                f"{path} was built by {self.builder} {self.builder_version}, but this is "
                f"{library.name} {library.version}; {_AGAIN} on this machine"
            )

    def check_gpu(self, name: str, compute_capability: str, path: Path) -> None:
        """Refuse a GPU that the engine was not built for.

        Args:
            name: of the GPU, such as ``Orin``.
            compute_capability: such as ``8.7``.
            path: of the file, for the message.

        Raises:
            EngineError: says what the engine needs.
        """
        target = self.target
        capabilities = target.compute_capabilities
        if target.hardware_compatibility == "ampere_plus":
            capabilities = ()
            fits = version_numbers(compute_capability) >= (8, 0)
        elif target.gpu and target.hardware_compatibility == "none":
            fits = compute_capability in capabilities and name == target.gpu
        else:
            fits = not capabilities or compute_capability in capabilities
        if not fits:
            allowed = ", ".join(capabilities) or "8.0 and later"
            built = f"{target.gpu or 'GPUs'} of compute capability {allowed}"
            raise EngineError(
                f"{path} was built for {built}, but this is {name} of {compute_capability}; "
                f"{_AGAIN} on this machine"
            )


@dataclass(frozen=True)
class EngineFile:
    """An engine file that was read and checked.

    Attributes:
        path: where it was read from.
        header: what it says of itself.
        plans: the plan of each component.
    """

    path: Path
    header: EngineHeader
    plans: Mapping[str, memoryview] = field(repr=False)


def write_engine(
    path: str | os.PathLike[str], header: EngineHeader, plans: Mapping[str, bytes]
) -> int:
    """Write an engine file of the plans of all components; it appears whole or not at all.

    Returns:
        Its size in bytes.

    Raises:
        InputError: the file cannot be written.
    """
    stored = {name: packed_blocks(plans[name]) for name in COMPONENTS}
    text = json.dumps(_header_data(header, plans, stored), indent=1).encode()
    preamble = _PREAMBLE.pack(MAGIC, len(text), hashlib.sha256(text).digest())
    with atomic_open(path) as stream:
        for part in (preamble, text, *(block for name in COMPONENTS for block in stored[name])):
            stream.write(part)
        return stream.tell()


def is_engine(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is an engine: by its first bytes, or if it has none by its name."""
    try:
        with Path(path).open("rb") as stream:
            return stream.read(len(MAGIC)) == MAGIC
    except OSError:
        return Path(path).suffix == ".engine"


def read_engine(path: str | os.PathLike[str]) -> EngineFile:
    """Read an engine file and check sizes and digests.

    Raises:
        ModelFileError: there is no such file, it is no engine file, of a newer schema, truncated,
            too long, or damaged.
    """
    source = Path(path)
    try:
        data = memoryview(read_bounded(source, _MAX_FILE))
    except OSError as error:
        reason = "it is a folder" if source.is_dir() else error.strerror or str(error)
        raise ModelFileError(f"cannot read the engine {source}: {reason}") from error
    except ValueError as error:
        raise _damaged(source, str(error)) from error
    values, start = _read_header(data, source)
    try:
        stored = [_StoredPlan.from_entry(entry) for entry in values["plans"]]
        header = _header_from(values)
        _check_memory(stored, len(data))
    except _WRONG_HEADER as error:
        raise _damaged(
            source, f"its header lacks or has a wrong entry: {reason_of(error)}"
        ) from error
    _check_size(data, start + sum(plan.length for plan in stored), source)
    names = tuple(plan.component for plan in stored)
    if names != COMPONENTS:
        raise _damaged(source, f"it holds the components {shown(', '.join(names))}")
    plans = {}
    for plan in stored:
        plans[plan.component] = plan.read(data[start : start + plan.length], source)
        start += plan.length
    return EngineFile(source, header, plans)


@dataclass(frozen=True)
class _StoredPlan:
    """Where a plan is in the file, and how: ``blocks`` are the lengths of its stored blocks."""

    component: str
    size: int
    digest: str
    blocks: tuple[int, ...]

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> _StoredPlan:
        size = int(entry["bytes"])
        if not 0 <= size <= _MAX_FILE:
            raise ValueError(f"a plan of {size} bytes")
        # Version 1 had no blocks.
        blocks = tuple(int(length) for length in entry.get("blocks", block_sizes(size)))
        if min(blocks, default=0) < 0:
            raise ValueError("a size is negative")
        return cls(str(entry["component"]), size, str(entry["sha256"]), blocks)

    @property
    def length(self) -> int:
        return sum(self.blocks)

    def read(self, stored: memoryview, path: Path) -> memoryview:
        try:
            plan = unpacked_plan(stored, self.blocks, self.size)
        except ValueError as error:
            raise _damaged(path, f"the plan of {self.component}: {error}") from error
        if hashlib.sha256(plan).hexdigest() != self.digest:
            raise _damaged(path, f"the plan of {self.component} does not match its SHA-256 digest")
        return plan


def _read_header(data: memoryview, path: Path) -> tuple[dict[str, Any], int]:
    """Return the values of the header and where the plans begin."""
    if bytes(data[: len(MAGIC)]) != MAGIC:
        raise ModelFileError(f"{path} is not an engine file; expected one of qsam2-build-engine")
    if len(data) < _PREAMBLE.size:
        raise _truncated(path, _PREAMBLE.size, len(data))
    _, length, digest = _PREAMBLE.unpack_from(data)
    if length > _MAX_HEADER:
        raise _damaged(path, f"its header would have {length} bytes")
    end = _PREAMBLE.size + length
    if len(data) < end:
        raise _truncated(path, end, len(data))
    text = bytes(data[_PREAMBLE.size : end])
    if hashlib.sha256(text).digest() != digest:
        raise _damaged(path, "its header does not match its SHA-256 digest")
    try:
        values = loads_bounded(text, _MAX_HEADER)
        version = int(values["schema_version"])
    except _WRONG_HEADER as error:
        raise _damaged(path, f"its header is no JSON of ours: {reason_of(error)}") from error
    if version > SCHEMA_VERSION:
        raise ModelFileError(
            f"{path} has schema version {version}, but this version of qsam2-deploy reads up to "
            f"{SCHEMA_VERSION}; upgrade with: pip install -U qsam2-deploy"
        )
    return values, end


def _header_data(
    header: EngineHeader, plans: Mapping[str, bytes], stored: Mapping[str, Sequence[bytes]]
) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "producer": header.producer,
        "builder": {"name": header.builder, "version": header.builder_version},
        "target": asdict(header.target),
        "precision": header.precision,
        "model_sha256": header.model_sha256,
        "plans": [
            {
                "component": name,
                "bytes": len(plans[name]),
                "sha256": hashlib.sha256(plans[name]).hexdigest(),
                "blocks": [len(block) for block in stored[name]],
                **asdict(header.variant(name)),
                "layers": asdict(header.layers[name]) if name in header.layers else None,
                "profiles": [asdict(profile) for profile in header.profiles.get(name, ())],
            }
            for name in COMPONENTS
        ],
        "spec": json.loads(header.spec.to_json()),
    }


def _header_from(values: Mapping[str, Any]) -> EngineHeader:
    target = dict(values["target"])
    target["compute_capabilities"] = tuple(target["compute_capabilities"])
    known = {name: target[name] for name in Target.__dataclass_fields__}
    return EngineHeader(
        spec=ModelSpec.from_json(json.dumps(values["spec"])),
        model_sha256=str(values["model_sha256"]),
        precision=str(values["precision"]),
        builder=str(values["builder"]["name"]),
        builder_version=str(values["builder"]["version"]),
        target=Target(**known),
        profiles={p["component"]: _profiles_from(p["profiles"]) for p in values["plans"]},
        variants={p["component"]: _variant_from(p) for p in values["plans"] if "precision" in p},
        layers={p["component"]: _layers_from(p) for p in values["plans"] if p.get("layers")},
        producer=str(values["producer"]),
    )


def _layers_from(entry: Mapping[str, Any]) -> LayerSummary:
    told = entry["layers"]
    return LayerSummary(*(int(told[name]) for name in LayerSummary.__dataclass_fields__))


def _variant_from(entry: Mapping[str, Any]) -> Variant:
    return Variant(str(entry["precision"]), bool(entry["fused_attention"]))


def _profiles_from(entries: Sequence[Mapping[str, Any]]) -> tuple[Profile, ...]:
    made = []
    for entry in entries:
        ranges = {}
        for letter, (smallest, usual, largest) in entry["dimensions"].items():
            ranges[letter] = (int(smallest), int(usual), int(largest))
        made.append(Profile(str(entry["name"]), ranges))
    return tuple(made)


def _check_memory(stored: Sequence[_StoredPlan], file_size: int) -> None:
    """Refuse plans that are inflated to far more than the file has."""
    size = sum(plan.size for plan in stored)
    if size > _MAX_PLANS + _MAX_INFLATION * file_size:
        raise ValueError(f"plans of {size} bytes in a file of {file_size}")


def _check_size(data: memoryview, expected: int, path: Path) -> None:
    if len(data) < expected:
        raise _truncated(path, expected, len(data))
    if len(data) > expected:
        raise _damaged(path, f"it has {len(data) - expected} bytes after its last plan")


def _truncated(path: Path, expected: int, found: int) -> ModelFileError:
    return ModelFileError(
        f"{path} is truncated: it has {found} of {expected} bytes; copy it again, or {_AGAIN}"
    )


def _damaged(path: Path, what: str) -> ModelFileError:
    return ModelFileError(f"{path} is damaged: {what}; copy it again, or {_AGAIN}")
