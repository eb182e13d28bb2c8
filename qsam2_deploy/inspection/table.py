"""An inspection as text: a summary for a glance, and a table of all layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import median

from .report import Inspection, LayerReport, Work

_SUMMARY_LAYERS = 3
"""Layers that the summary names where it says which are the worst."""


def format_summary(inspection: Inspection) -> str:
    """Return what a model is, its size, its work and its clipping, in some 30 lines."""
    blocks = [_title(inspection), _size(inspection), _work(inspection)]
    if inspection.layers:
        blocks.append(_steps(inspection))
    return "\n\n".join(blocks)


def format_layers(inspection: Inspection) -> str:
    """Return a line for each quantized layer, below the name of its component."""
    engines = inspection.installed
    header = ["operator", "bits", "grid", "weight step", "input step", "at ends"]
    header += ["clipped", "bytes", "MMAC", *engines]
    rows: list[list[str]] = []
    component = None
    for report in inspection.layers:
        if report.layer.component != component:
            component = report.layer.component
            rows.append([component])
        rows.append(_layer_cells(report, engines))
    return _table(["layer", *header], rows, left=4)


def _title(inspection: Inspection) -> str:
    spec, told = inspection.spec, inspection.spec.quantization
    lines = [f"{inspection.path.name}: {spec.name}, image size {spec.image_size}"]
    if spec.memory_pooling > 1:
        lines.append(f"memory tokens pooled {spec.memory_pooling}x{spec.memory_pooling}")
    if told is None:
        lines.append("float model, no layer is quantized")
    else:
        bits = f"W{told.weight_bits}A{told.activation_bits}"
        method = f" by {told.method}" if told.method else ""
        widths = Counter(report.layer.widths for report in inspection.layers)
        stored = ", ".join(f"{count} {name}" for name, count in widths.most_common())
        lines.append(f"{bits}{method} in the scope {told.scope}: {told.layers} layers")
        lines.append(f"weights: {stored}; grids: {_grids(inspection.layers)}")
        if told.dead_channels:
            lines.append(f"dead output channels (all weights zero): {told.dead_channels}")
    return "\n".join([*lines, f"sha256 {inspection.digest}"])


def _grids(layers: Sequence[LayerReport]) -> str:
    kinds = Counter((r.layer.weight_grid, r.layer.input_grid) for r in layers)
    names = [a if a == b else f"{a} weights with {b} inputs" for (a, b), _ in kinds.most_common()]
    return ", ".join(names)


def _size(inspection: Inspection) -> str:
    sizes = inspection.sizes
    against = " and ".join(
        f"{_bytes(size)} in {name} ({size / sizes.file:.2f}x)"
        for name, size in (("float32", sizes.float32), ("bfloat16", sizes.bfloat16))
    )
    rows = [
        [f"  {name}", _bytes(size), f"{size / sizes.file:.1%}"]
        for name, size in sorted(sizes.parts.items(), key=lambda item: -item[1])
    ]
    title = f"size {_bytes(sizes.file)}; the same weights take {against}"
    return f"{title}\n{_table(rows[0], rows[1:], left=1)}"


def _work(inspection: Inspection) -> str:
    engines, quantized = inspection.installed, bool(inspection.layers)
    header = ["multiply-adds of a frame", "all"] + ["quantized"] * quantized
    for engine in engines:
        header += [f"{engine}: of all"] + ["of quantized"] * quantized
    rows = [
        [f"  {name}", *_work_cells(work, engines, quantized=quantized)]
        for name, work in (*inspection.work.items(), ("whole model", inspection.total_work))
    ]
    lines = [_table(header, rows, left=1)]
    for name, version in inspection.engines.items():
        if version is None:
            lines.append(f"  {name}: not installed")
            continue
        lines.append(
            f"  {name}: {version}, exact on this processor by products of "
            f"{inspection.products[name]}; share that runs in integers in the graph that it "
            "optimised itself"
        )
    return "\n".join(lines)


def _work_cells(work: Work, engines: Sequence[str], *, quantized: bool) -> list[str]:
    cells = [_millions(work.all)] + [_millions(work.quantized)] * quantized
    for engine in engines:
        cells.append(_percent(work.share(engine)))
        cells += [_percent(work.quantized_share(engine))] * quantized
    return cells


def _steps(inspection: Inspection) -> str:
    layers = inspection.layers
    ends = sorted(layers, key=lambda report: -report.layer.weights_at_ends)
    low = min(report.layer.weight_scale[0] for report in layers)
    high = max(report.layer.weight_scale[1] for report in layers)
    lines = [f"weight steps from {low:.3g} to {high:.3g}"]
    values = [report.layer.weights_at_ends for report in layers]
    lines += _worst(
        "weights at the ends of their grids",
        values,
        [(report.layer.name, report.layer.weights_at_ends) for report in ends],
    )
    measured = [(r.layer.name, r.inputs_clipped) for r in layers if r.inputs_clipped is not None]
    if inspection.data is None:
        return "\n".join([*lines, "clipped inputs: not measured; give --data"])
    measured.sort(key=lambda item: -item[1])
    lines += _worst(
        f"inputs clipped on {inspection.data}", [share for _, share in measured], measured
    )
    return "\n".join(lines)


def _worst(title: str, values: Sequence[float], ordered: Sequence[tuple[str, float]]) -> list[str]:
    lines = [f"{title}: median {median(values):.2%}, most in"]
    return lines + [f"  {share:7.2%}  {name}" for name, share in ordered[:_SUMMARY_LAYERS]]


def _layer_cells(report: LayerReport, engines: Sequence[str]) -> list[str]:
    layer = report.layer
    low, high = layer.weight_scale
    return [
        f"  {layer.name.partition('/')[2]}",
        layer.operator,
        layer.widths,
        "/".join(dict.fromkeys((layer.weight_grid, layer.input_grid))),
        f"{low:.2e}..{high:.2e}",
        "-" if layer.input_scale is None else f"{layer.input_scale:.2e}",
        _percent(layer.weights_at_ends),
        _percent(report.inputs_clipped),
        f"{layer.packed_bytes}",
        f"{report.multiply_adds / 1e6:.2f}",
        *(_where(report.integer_share[name]) for name in engines),
    ]


def _where(integer_share: float) -> str:
    if integer_share in (0, 1):
        return "integer" if integer_share else "float"
    return f"{integer_share:.0%}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Align columns; the first ``left`` to the left, the rest to the right."""
    lines = [header, *rows]
    columns = max(len(line) for line in lines)
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(columns)]
    return "\n".join(
        "  ".join(
            cell.ljust(widths[i]) if i < left else cell.rjust(widths[i])
            for i, cell in enumerate(line)
        ).rstrip()
        for line in lines
    )


def _bytes(size: int) -> str:
    return f"{size / 1e6:.3f} MB"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"
