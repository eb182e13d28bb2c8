"""The tables of a model card, between markers such as ``<!-- scores -->`` and ``<!-- /scores -->``.

What is outside of the markers is written by hand and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qsam2_deploy._common.files import atomic_open
from qsam2_deploy.errors import InputError

SECTIONS = ("model", "scores", "agreement", "speed", "training")
Report = Mapping[str, Any]

_ENGINES = {
    "torch": "PyTorch, float32",
    "onnx float": "ONNX Runtime, float32",
    "onnx w8a8": "ONNX Runtime, W8A8",
    "first mask": "copy of the first mask",
}
_DATASETS = {
    "generated": "generated clips",
    "davis": "DAVIS test sequences",
    "images": "frames as images",
}


def check_card(path: Path) -> None:
    """Check that a card has a place for every table.

    Raises:
        InputError: the file cannot be read, or lacks a marker.
    """
    filled(_read(path), dict.fromkeys(SECTIONS, ""), str(path))


def write_card(path: Path, report: Report) -> None:
    """Fill the tables of a card; without a log of the training, that one stays as it was.

    Raises:
        InputError: the file cannot be read or written, or lacks a marker.
    """
    text = filled(_read(path), tables(report), str(path))
    with atomic_open(path) as stream:
        stream.write(text.encode())


def filled(text: str, contents: Mapping[str, str], where: str) -> str:
    """Return ``text`` with new contents between the markers of each section.

    Raises:
        InputError: a section has no markers, or several.
    """
    for name, content in contents.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
        if len(pattern.findall(text)) != 1:
            raise InputError(
                f"{where} must have one section {name!r}; write the lines {start} and {end} where "
                "its table goes"
            )
        new = f"{start}\n{content.strip()}\n{end}"
        text = pattern.sub(lambda _, new=new: new, text)
    return text


def tables(report: Report) -> dict[str, str]:
    """Return the Markdown of every section for which the report has numbers."""
    found = {
        "model": _model(report),
        "scores": _scores(report["results"]),
        "agreement": _agreement(report["results"]),
        "speed": _speed(report),
    }
    training = report["results"]["training"]
    return found if training is None else found | {"training": _training(training)}


def _model(report: Report) -> str:
    results = report["results"]
    model, sizes = results["model"], results["bytes"]
    rows = [
        ["parameters", f"{model['parameters'] / 1e6:.2f} million"],
        ["input", f"{model['image_size']} x {model['image_size']} pixels"],
        ["width of the features", model["d_model"]],
        ["width of the memory", model["memory_dim"]],
        ["size of the checkpoint", _megabytes(sizes["checkpoint"])],
        ["size of the model.onnx, float32", _megabytes(sizes["onnx float"])],
        ["size of the model.onnx, W8A8", _megabytes(sizes["onnx w8a8"])],
        ["SHA-256 of the checkpoint", f"`{results['settings']['model_sha256']}`"],
    ]
    return _table(["", f"`{model['file']}`"], rows)


def _scores(results: Report) -> str:
    parts = {name: part["results"] for name, part in results["parts"].items()}
    return "\n\n".join(
        [
            _generated_scores(parts),
            _prompt_scores(parts),
            _engine_scores(parts),
            _image_scores(parts),
        ]
    )


def _generated_scores(parts: Report) -> str:
    titles = {"generated": "generated clips", "easy": "easy generated clips"}
    return "\n\n".join(
        _clip_scores(parts, dataset, title)
        for dataset, title in titles.items()
        if f"{dataset}, torch, mask" in parts
    )


def _clip_scores(parts: Report, dataset: str, title: str) -> str:
    rows = [
        [label, prompt, *_numbers(parts[f"{dataset}, {engine}, {prompt}"], "J&F", "J", "F")]
        for engine, label in _ENGINES.items()
        for prompt in ("mask", "click")
        if f"{dataset}, {engine}, {prompt}" in parts
    ]
    some = parts[f"{dataset}, torch, mask"]
    count = len(some["sequences"])
    title = f"{count} {title}, {some['frames']} frames, {some['objects']} objects; percent."
    return f"{title}\n\n{_table(['', 'prompt', 'J&F', 'J', 'F'], rows)}"


def _prompt_scores(parts: Report) -> str:
    """One line per sequence, three columns per prompt."""
    prompts = ("mask", "click", "box")
    by_prompt = [parts[f"davis, torch, {prompt}"] for prompt in prompts]
    header = ["sequence", "frames"]
    header += [f"{prompt}: {score}" for prompt in prompts for score in ("J&F", "J", "F")]
    lines = {name: [p["sequences"][name] for p in by_prompt] for name in by_prompt[0]["sequences"]}
    lines["**mean**"] = by_prompt
    rows = [
        [
            name,
            scores[0]["frames"],
            *(text for one in scores for text in _numbers(one, "J&F", "J", "F")),
        ]
        for name, scores in lines.items()
    ]
    title = f"DAVIS 2016, test sequences, 480p, {_ENGINES['torch']}, by prompt; percent."
    return f"{title}\n\n{_table(header, rows)}"


def _engine_scores(parts: Report) -> str:
    by_engine = [parts[f"davis, {engine}, mask"] for engine in _ENGINES]
    rows = [
        [name, *(_numbers(part["sequences"][name], "J&F")[0] for part in by_engine)]
        for name in by_engine[0]["sequences"]
    ]
    rows.append(["**mean**", *(_numbers(part, "J&F")[0] for part in by_engine)])
    title = "The same sequences prompted with the first mask, by engine; J&F, percent."
    return f"{title}\n\n{_table(['sequence', *_ENGINES.values()], rows)}"


def _image_scores(parts: Report) -> str:
    engines = [engine for engine in _ENGINES if engine != "first mask"]
    rows = [
        [prompt, *(_numbers(parts[f"images, {engine}, {prompt}"], "J")[0] for engine in engines)]
        for prompt in ("click", "box")
    ]
    count = parts["images, torch, click"]["frames"]
    title = f"{count} frames of the same sequences, each as an image of its own; mIoU, percent."
    return f"{title}\n\n{_table(['prompt', *(_ENGINES[e] for e in engines)], rows)}"


def _agreement(results: Report) -> str:
    verdicts = {True: "yes", False: "**no**", None: ""}
    rows = [
        [
            _DATASETS[row["dataset"]],
            row["prompt"],
            "mIoU" if row["score"] == "J" else "J&F",
            _ENGINES[row["engine"]],
            f"{row['difference']:+.3f}",
            verdicts[row["within"]],
        ]
        for row in results["differences"]
    ]
    header = ["on", "prompt", "score", "engine", "difference", "within the limit"]
    return _table(header, rows)


def _speed(report: Report) -> str:
    results = report["results"]
    parts = {name: part["results"] for name, part in results["parts"].items()}
    rows = []
    for dataset, prompt in (("generated", "mask"), ("davis", "mask"), ("images", "box")):
        speeds = []
        for engine in ("torch", "onnx float", "onnx w8a8"):
            speed = parts[f"{dataset}, {engine}, {prompt}"]["frames_per_second"]
            speeds.append("" if speed is None else f"{speed:.1f}")
        rows.append([_DATASETS[dataset], prompt, *speeds])
    header = ["frames per second", "prompt", *list(_ENGINES.values())[:3]]
    return f"{_table(header, rows)}\n\n{_machine(report)}"


def _machine(report: Report) -> str:
    machine, threads = report["environment"], report["results"]["settings"]["threads"]
    versions = ", ".join(
        f"{name} {machine['versions'][name]}"
        for name in ("torch", "sam2", "onnxruntime")
        if name in machine["versions"]
    )
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {threads} "
        f"thread{'' if threads == 1 else 's'} for each engine; Python {machine['python']}, "
        f"{versions}. {_origin(report['results']['parts'].values())}"
    )


def _origin(parts: Iterable[Report]) -> str:
    """Say when and at which commits the parts were measured; kept ones may be older."""
    measured = list(parts)
    days = sorted({str(part["date"])[:10] for part in measured})
    commits = sorted({str(part["commit"]) for part in measured} - {""})
    shown = [c[:12] + (" with changes" if c.endswith("+") else "") for c in commits]
    return f"Measured on {', '.join(days)}" + (f" at {', '.join(shown)}." if shown else ".")


def _training(training: Report) -> str:
    header = [
        "stage", "pixels", "clips x frames", "steps", "minutes", "seconds per step",
        "images per second",
    ]  # fmt: skip
    rows = []
    for row in training["stages"]:
        speed = row["images_per_second"]
        rows.append(
            [
                row["stage"], row["image_size"], f"{row['clips']} x {row['frames']}", row["steps"],
                f"{row['minutes']:.1f}", f"{row['seconds_per_step']:.2f}",
                "" if speed is None else f"{speed:.1f}",
            ]
        )  # fmt: skip
    rows.append(["**all**", "", "", training["steps"], f"{training['minutes']:.1f}", "", ""])
    blocks = [_table(header, rows)]
    if training["curve"]:
        blocks.append(_curve(training["curve"]))
    return "\n\n".join(blocks)


def _curve(curve: Sequence[Report]) -> str:
    names = list(dict.fromkeys(name for point in curve for name in point["scores"]))
    rows = [
        [
            point["step"], f"{point['minutes']:.1f}", point["stage"],
            *(f"{point['scores'][n]:.1f}" if n in point["scores"] else "" for n in names),
        ]
        for point in curve
    ]  # fmt: skip
    return "Scores while training, percent.\n\n" + _table(
        ["step", "minutes", "stage", *names], rows
    )


def _numbers(scores: Report, *names: str) -> list[str]:
    return [f"{scores[name]:.1f}" for name in names]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    cells = [list(map(str, header)), *(list(map(str, row)) for row in rows)]
    cells.insert(1, ["---"] * len(cells[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the model card {path}: {error}; check the path") from error
