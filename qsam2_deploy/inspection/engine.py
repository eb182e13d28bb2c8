"""What is in a ``model.engine``: from what and for what it was built, and what became of it."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from ..engines.tensorrt.engine_file import EngineFile, EngineHeader, read_engine
from ..spec import COMPONENTS

REPORT_VERSION = 1

_COLUMNS = (
    f"{'component':18}{'precision':11}{'attention':11}{'MB':>7}{'fused layers':>14}"
    f"{'attentions':>12}{'integer products':>18}"
)


def inspect_engine(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read an engine file and return what it says of itself, as plain values.

    No engine library is needed, and no GPU.

    Raises:
        ModelFileError: the file cannot be used.
    """
    engine = read_engine(path)
    header = engine.header
    told = header.spec.quantization
    return {
        "schema_version": REPORT_VERSION,
        "file": engine.path.name,
        "file_bytes": engine.path.stat().st_size,
        "name": header.spec.name,
        "image_size": header.spec.image_size,
        "producer": header.producer,
        "model_sha256": header.model_sha256,
        "quantization": None if told is None else asdict(told),
        "precision": header.precision,
        "builder": {"name": header.builder, "version": header.builder_version},
        "target": asdict(header.target),
        "components": [_component(engine, name) for name in COMPONENTS],
    }


def format_engine(report: dict[str, Any]) -> str:
    """Return what :func:`inspect_engine` found as text."""
    builder, target = report["builder"], report["target"]
    lines = [
        f"{report['file']}: {report['name']}, image size {report['image_size']}",
        f"{report['precision']} by {builder['name']} {builder['version']}, {_target(target)}",
        f"built from the model with sha256 {report['model_sha256']}",
        "",
        _COLUMNS,
    ]
    lines += [_line(component) for component in report["components"]]
    whole = sum(component["bytes"] for component in report["components"])
    lines.append(f"{report['file_bytes'] / 1e6:.1f} MB in the file, {whole / 1e6:.1f} MB loaded")
    return "\n".join(lines)


def _component(engine: EngineFile, name: str) -> dict[str, Any]:
    header: EngineHeader = engine.header
    layers = header.layers.get(name)
    return {
        "component": name,
        "bytes": len(engine.plans[name]),
        **asdict(header.variant(name)),
        "layers": None if layers is None else asdict(layers),
        "profiles": [asdict(profile) for profile in header.profiles.get(name, ())],
    }


def _line(component: dict[str, Any]) -> str:
    layers = component["layers"]
    attention = "fusible" if component["fused_attention"] else "broken up"
    line = f"{component['component']:18}{component['precision']:11}{attention:11}"
    line += f"{component['bytes'] / 1e6:7.1f}"
    if layers is None:
        return f"{line}{'not told':>14}"
    products = f"{layers['integer']} of {layers['quantized']}" if layers["quantized"] else "-"
    return f"{line}{layers['fused']:14}{layers['attentions']:12}{products:>18}"


def _target(target: dict[str, Any]) -> str:
    capabilities = ", ".join(target["compute_capabilities"])
    if target["hardware_compatibility"] == "ampere_plus":
        capabilities = "8.0 and later"
    on = target["gpu"] or "GPUs"
    text = f"for {on} of compute capability {capabilities}" if capabilities else f"for {on}"
    return f"{text}, with later minor versions too" if target["version_compatible"] else text
