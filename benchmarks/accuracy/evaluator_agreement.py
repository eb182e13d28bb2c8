r"""Our J and F against the official evaluators, sequence by sequence and object by object.

The official programs are not part of this project; give the paths of their checkouts:

    git clone https://github.com/davisvideochallenge/davis2017-evaluation
    git clone https://github.com/facebookresearch/sam2
    pip install scikit-image scipy opencv-python-headless pandas
    python -m benchmarks.accuracy.evaluator_agreement --official davis2017-evaluation \
        --official-sav sam2/sav_dataset --davis DAVIS --masks MASKS

The results compared are masks made from the ground truth (five frames late, shifted, eroded, now
and then empty), the same with two objects, and MASKS, which ``qsam2-eval --save-masks`` wrote.
The exit status is 1 if any number differs by more than 1e-4.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from benchmarks._report import benchmark_parser, write_report
from qsam2_deploy._common.progress import progress
from qsam2_deploy.cli._main import command
from qsam2_deploy.data.datasets.davis import DavisSequence, davis_sequences
from qsam2_deploy.evaluation.metrics import dilated
from qsam2_deploy.evaluation.run import DatasetKind, EvaluationConfig, run_evaluation

TOLERANCE = 1e-4
"""Largest difference of a score between 0 and 1."""

DELAY, SHIFT, EROSION, EMPTY_EVERY = 5, (3, -7), 2, 9
SAV_STEP, SAV_LATE = 4, 12

Labels = npt.NDArray[np.uint8]
Scores = dict[str, tuple[float, float]]
"""J and F, 0 to 1, by ``sequence_object``."""


@command("benchmarks.accuracy.evaluator_agreement")
def main(argv: Sequence[str] | None = None) -> int:
    """Compare and report; return 1 if a number differs."""
    args = _parser().parse_args(argv)
    sequences = davis_sequences(args.davis)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cases = [("shifted", 1, None), ("two objects", 2, None)]
        if args.masks is not None:
            cases.append((args.masks_name, 1, args.masks))
        for case, objects, masks in cases:
            rows += _davis_case(folder, case, objects, masks, sequences, args.official)
        if args.official_sav is not None:
            rows += _sav_case(folder, sequences, args.official_sav)
    worst = max(max(abs(row["dJ"]), abs(row["dF"])) for row in rows)
    print(f"largest difference: {worst:.2e} over {len(rows)} objects (limit {TOLERANCE})")
    report = {"largest_difference": worst, "limit": TOLERANCE, "objects": rows}
    write_report("evaluator_agreement", report, args.json)
    return 0 if worst <= TOLERANCE else 1


def _parser() -> argparse.ArgumentParser:
    parser = benchmark_parser("benchmarks.accuracy.evaluator_agreement", __doc__)
    parser.add_argument("--official", type=Path, required=True, metavar="PATH")
    parser.add_argument("--official-sav", type=Path, metavar="PATH", help="sam2/sav_dataset")
    parser.add_argument("--davis", type=Path, required=True, metavar="ROOT")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="results of a model")
    parser.add_argument("--masks-name", default="model", metavar="NAME", help="for the report")
    return parser


def _davis_case(
    folder: Path,
    case: str,
    objects: int,
    masks: Path | None,
    sequences: Sequence[DavisSequence],
    official: Path,
) -> list[dict[str, Any]]:
    root = folder / case
    results = masks or root / "results"
    for sequence in progress(sequences, f"write {case}", unit="sequence"):
        _link_frames(sequence, root / "JPEGImages" / "480p" / sequence.name)
        truth = [_labels(sequence, i, objects) for i in range(sequence.frame_count)]
        _write(root / "Annotations" / "480p" / sequence.name, dict(enumerate(truth)))
        if masks is None:
            made = {i: _degraded(truth, i) for i in range(len(truth))}
            _write(results / sequence.name, made)
    names = [sequence.name for sequence in sequences]
    split = root / "ImageSets" / "2017" / "val.txt"
    split.parent.mkdir(parents=True)
    split.write_text("\n".join(names) + "\n")
    theirs = _official_davis(official, root, results)
    return _compare(case, theirs, _ours("davis", root, results))


def _official_davis(official: Path, root: Path, results: Path) -> Scores:
    sys.path.insert(0, str(official.resolve()))
    from davis2017.evaluation import DAVISEvaluation

    evaluation = DAVISEvaluation(davis_root=str(root), task="semi-supervised", gt_set="val")
    scores = evaluation.evaluate(str(results))
    j, f = scores["J"]["M_per_object"], scores["F"]["M_per_object"]
    return {name: (float(j[name]), float(f[name])) for name in j}


def _sav_case(
    folder: Path, sequences: Sequence[DavisSequence], official: Path
) -> list[dict[str, Any]]:
    """Annotate every fourth frame; object 0 is the whole mask, 1 its left half, and it is late."""
    root = folder / "sa-v"
    results = root / "results"
    for sequence in progress(sequences, "write sa-v", unit="sequence"):
        _link_frames(sequence, root / "JPEGImages_24fps" / sequence.name)
        truth = [_labels(sequence, i, 2) for i in range(sequence.frame_count)]
        for object_id, labels in enumerate(_overlapping(truth)):
            place = Path(sequence.name, f"{object_id:03d}")
            annotated = range(0, len(labels), SAV_STEP)
            _write(root / "Annotations_6fps" / place, {i: labels[i] for i in annotated})
            _write(results / place, {i: _degraded(labels, i) for i in annotated})
    theirs = _official_sav(official, root / "Annotations_6fps", results)
    return _compare("sa-v", theirs, _ours("sa-v", root, results))


def _official_sav(official: Path, truth: Path, results: Path) -> Scores:
    sys.path.insert(0, str(official.resolve()))
    from utils.sav_benchmark import VideoEvaluator

    evaluator = VideoEvaluator(str(truth), str(results))
    scores: Scores = {}
    for folder in progress(sorted(truth.iterdir()), "official SA-V", unit="video"):
        name, j, f = evaluator(folder.name)
        scores |= {f"{name}_{int(i)}": (float(j[i]) / 100, float(f[i]) / 100) for i in j}
    return scores


def _ours(kind: DatasetKind, root: Path, results: Path) -> Scores:
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = run_evaluation(EvaluationConfig(results, kind, root))
    return {
        f"{sequence.name}_{item.object_id}": (item.j / 100, item.f / 100)
        for sequence in evaluation.sequences
        for item in sequence.objects
    }


def _compare(case: str, theirs: Scores, ours: Scores) -> list[dict[str, Any]]:
    if set(theirs) != set(ours):
        raise SystemExit(f"{case}: the objects differ: {sorted(set(theirs) ^ set(ours))}")
    print(f"\n{case}\n{'object':<24}{'official J':>12}{'ours':>10}{'official F':>12}{'ours':>10}")
    rows = []
    for name, (their_j, their_f) in theirs.items():
        our_j, our_f = ours[name]
        print(f"{name:<24}{their_j:>12.6f}{our_j:>10.6f}{their_f:>12.6f}{our_f:>10.6f}")
        row = {"case": case, "object": name, "official_J": their_j, "J": our_j}
        row |= {"official_F": their_f, "F": our_f}
        rows.append(row | {"dJ": our_j - their_j, "dF": our_f - their_f})
    return rows


def _labels(sequence: DavisSequence, index: int, objects: int) -> Labels:
    """Return the annotation; for two objects, cut into a left and a right half."""
    labels = (sequence.labels(index) > 0).astype(np.uint8)
    if objects == 2 and labels.any():
        columns = np.flatnonzero(labels.any(axis=0))
        labels[:, int(columns.mean()) :] *= 2
    return labels


def _overlapping(truth: Sequence[Labels]) -> Iterator[list[Labels]]:
    yield [(labels > 0).astype(np.uint8) for labels in truth]
    left = [(labels == 1).astype(np.uint8) for labels in truth]
    yield [labels * (index >= SAV_LATE) for index, labels in enumerate(left)]


def _degraded(truth: Sequence[Labels], index: int) -> Labels:
    """Return what a poor tracker might give for frame ``index``."""
    if index % EMPTY_EVERY == EMPTY_EVERY - 1:
        return np.zeros_like(truth[index])
    late = np.roll(truth[max(0, index - DELAY)], SHIFT, (0, 1))
    return np.where(dilated(late == 0, EROSION), np.uint8(0), late)


def _write(folder: Path, frames: Mapping[int, Labels]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, labels in frames.items():
        image = Image.fromarray(labels)
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        image.save(folder / f"{index:05d}.png", compress_level=1)


def _link_frames(sequence: DavisSequence, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(sequence.frame_files[0].parent.resolve(), target_is_directory=True)


if __name__ == "__main__":
    raise SystemExit(main())
