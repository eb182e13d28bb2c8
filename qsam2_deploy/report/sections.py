"""From the numbers of a report to the parts of its page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial

from ..calibration.report import finite_median
from ..quant.checkpoints.architecture import OFFICIAL_NAMES
from ..training.run.curves import SIZE as CURVES_SIZE
from ..training.run.curves import add_curves
from . import charts
from .findings import Findings
from .layers import block_of, vrc_numbers
from .page import Chart, Page, Section, megabytes, size_bars
from .table import layer_table, percent

_WIDE = (11.0, 4.2)
_TALL = (11.0, 6.2)


def page_of(findings: Findings) -> Page:
    """Return the page about ``findings``."""
    parts: tuple[Callable[[Findings], Section], ...] = (
        _sizes,
        _layers,
        _distributions,
        _sweeps,
        _weight_clips,
        _input_clips,
        _curves,
        _scores,
    )
    return Page(
        title=findings.checkpoint.path.name,
        lead="What quantization does to this model, layer by layer, the worst first.",
        tiles=_tiles(findings),
        facts=_facts(findings),
        sections=tuple(part(findings) for part in parts),
    )


def _tiles(findings: Findings) -> dict[str, str]:
    sizes, worst = findings.sizes, findings.rows[0]
    reductions = [1 - row.vrc.std_ratio for row in findings.rows if row.vrc]
    held_out = [row.vrc.output_error for row in findings.rows if row.vrc]
    return {
        "quantized layers": str(len(findings.rows)),
        "packed weights": megabytes(sizes.packed),
        **_against_bfloat16(sizes.bfloat16 / sizes.packed),
        "weight error, median layer": percent(finite_median(r.weight.error for r in findings.rows)),
        "weight error, worst layer": percent(max(row.weight.error for row in findings.rows)),
        **({"std reduction, median": percent(finite_median(reductions))} if reductions else {}),
        **({"held-out error, median": percent(finite_median(held_out))} if held_out else {}),
        "worst layer": charts.short_name(worst.name),
    }


def _against_bfloat16(ratio: float) -> dict[str, str]:
    # Weights that training moved off half precision may need more than quantization saves.
    if ratio < 1:
        return {"larger than in bfloat16": f"{1 / ratio:.2f} times"}
    return {"smaller than in bfloat16": f"{ratio:.2f} times"}


def _facts(findings: Findings) -> dict[str, str]:
    checkpoint, entry, recipe = findings.checkpoint, findings.entry, findings.recipe
    widths = Counter(row.widths for row in findings.rows).most_common()
    architecture = checkpoint.name if checkpoint.name in OFFICIAL_NAMES else "of its own"
    methods = dict.fromkeys(row.method for row in findings.rows)
    lam = recipe.get("vrc_lambda")
    vrc = f"{recipe.get('vrc', 'unknown')}{'' if lam is None else f', lambda {lam}'}"
    found = {
        "architecture": f"{architecture}, image size {checkpoint.model.image_size}",
        "scope": str(entry.get("scope", "unknown")),
        "widths": ", ".join(f"{count} layers at {bits}" for bits, count in widths),
        "quantizer": ", ".join(methods),
        "weight calibration (VRC)": vrc,
        "calibrated with": f"{recipe['images']} images" if "images" in recipe else "unknown",
        "made by": str(recipe.get("producer", "unknown")),
        "SHA-256": checkpoint.sha256,
        "SHA-256 of the float source": str(entry.get("source_sha256", "unknown")),
    }
    return {name: value for name, value in found.items() if value != "unknown"}


def _sizes(findings: Findings) -> Section:
    sizes = findings.sizes
    return Section(
        "sizes",
        "Size",
        "All weights of the model. Packed: codes at their width with their steps "
        f"({megabytes(sizes.quantized)}), and the other numbers in half precision where that "
        "loses nothing. A model.onnx has the same, and its graph.",
        body=size_bars(sizes),
    )


def _layers(findings: Findings) -> Section:
    place = {name: number for number, name in enumerate(findings.order)}
    rows = sorted(findings.rows, key=lambda row: place[row.name])
    chart = Chart(
        "layer-errors",
        "quantization error of every layer",
        partial(charts.draw_layer_errors, rows=rows),
        _WIDE,
    )
    missing = "" if findings.images else _needs("The errors of inputs need images", "--data PATH")
    return Section(
        "layers",
        "Layers, the worst first",
        "The error of a layer is the norm of what quantization changes, of the norm of what there "
        "was. Click on a heading to sort by it.",
        charts=(chart,),
        body=f'<div class="scroll">{layer_table(findings.rows)}</div>',
        missing=missing,
    )


def _distributions(findings: Findings) -> Section:
    title = "Weights, before and after"
    if findings.before:
        draw = partial(charts.draw_distributions, before=findings.before, after=findings.after)
        chart = Chart("weights", "distribution of weights per block", draw, _TALL)
        text = (
            "Weights of the quantized layers in the float checkpoint and in this one, before they "
            "are rounded. What narrows them (VRC, training) makes room for finer steps."
        )
        return Section("weights", title, text, charts=(chart,))
    missing = _needs("The distributions need the float checkpoint", "--float FILE")
    ratios = _block_ratios(findings)
    if not ratios:
        text = "This checkpoint says nothing about a calibration of its weights (VRC)."
        return Section("weights", title, text, missing=missing)
    draw_ratios = partial(charts.draw_std_ratios, ratios=ratios)
    chart = Chart("weights", "reduction of the deviation per block", draw_ratios, _WIDE)
    text = "By how much VRC lowered the standard deviation of weights, as the checkpoint says."
    return Section("weights", title, text, charts=(chart,), missing=missing)


def _block_ratios(findings: Findings) -> dict[str, float]:
    blocks: dict[str, list[float]] = {}
    for name in findings.order:
        numbers = vrc_numbers(findings.entry.get("vrc"), name)
        if numbers is not None:
            blocks.setdefault(block_of(name), []).append(numbers.std_ratio)
    medians = {block: finite_median(values) for block, values in blocks.items()}
    return {block: value for block, value in medians.items() if math.isfinite(value)}


def _sweeps(findings: Findings) -> Section:
    missing = ""
    if not findings.sweeps:
        wanted = [
            *([] if findings.has_float else ["--float FILE"]),
            *([] if findings.images else ["--data PATH"]),
        ]
        missing = (
            _needs("These errors need the float checkpoint and images", " and ".join(wanted))
            if wanted
            else "None of the layers that are shown is a linear layer; choose some with --layers."
        )
    return Section(
        "lambda",
        "Errors against lambda",
        "The ridge of the weight calibration, tried anew on the images: more of it narrows the "
        "weights, so that rounding them changes less, and costs accuracy of the outputs. All is "
        "relative to the float weights and their outputs, on held-out images; inputs are not "
        "quantized here.",
        charts=_small(findings.sweeps, "lambda", "errors against lambda", charts.draw_sweeps),
        missing=missing,
    )


def _weight_clips(findings: Findings) -> Section:
    draw = partial(charts.draw_clips, unit="weight, in steps of its output channel")
    return Section(
        "weight-clips",
        "Weights and their clips",
        "Weights beyond the dashed lines are clipped to the first or the last level; those far "
        "beyond are in the outermost bins.",
        charts=_small(findings.weight_clips, "weight-clips", "weights and clips", draw),
    )


def _input_clips(findings: Findings) -> Section:
    draw = partial(charts.draw_clips, unit="input")
    missing = "" if findings.input_clips else _needs("Inputs need images", "--data PATH")
    return Section(
        "input-clips",
        "Inputs and their clips",
        f"Inputs of the quantized model on {findings.images} images; those far beyond the first "
        "and the last level are in the outermost bins."
        if findings.images
        else "Inputs of the quantized model.",
        charts=_small(findings.input_clips, "input-clips", "inputs and clips", draw),
        missing=missing,
    )


def _curves(findings: Findings) -> Section:
    if not findings.lines:
        missing = _needs("There is no log of a training beside the checkpoint", "--log FILE")
        return Section("curves", "Learning curves", "Losses and scores.", missing=missing)
    draw = partial(add_curves, lines=list(findings.lines))
    chart = Chart("curves", "losses and scores of the training", draw, CURVES_SIZE)
    text = f"Losses and scores of the training, {len(findings.lines)} entries of its log."
    return Section("curves", "Learning curves", text, charts=(chart,))


def _scores(findings: Findings) -> Section:
    title = "Accuracy against size"
    if not findings.points:
        missing = _needs("Accuracy needs results of qsam2-eval --json", "--scores FILE ...")
        return Section("accuracy", title, "J&amp;F of evaluated models.", missing=missing)
    draw = partial(charts.draw_scores, points=findings.points)
    chart = Chart("accuracy", "accuracy against size", draw, _WIDE)
    text = "Size of the file of a model.onnx, of the packed weights of a checkpoint (.pt)."
    return Section("accuracy", title, text, charts=(chart,))


def _small(
    items: object, name: str, description: str, draw: Callable[..., None]
) -> tuple[Chart, ...]:
    count = len(items) if isinstance(items, dict) else 0
    if not count:
        return ()
    return (Chart(name, description, lambda f: draw(f, items), charts.grid_size(count)),)


def _needs(what: str, flags: str) -> str:
    return f"{what}: give <code>{flags}</code>."
