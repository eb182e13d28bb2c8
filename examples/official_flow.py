"""A script for the official video predictor; one import is all that tells which one it runs on.

It is the flow of the official example notebook: click on a child, refine with a second click,
track, refine on a later frame, track again; then start over with two objects, one of them with
a negative click, and track both. On the official predictor, the import below would read::

    from sam2.build_sam import build_sam2_video_predictor

and everything else is the same: CONFIG is what it builds the model from (ours ignores it), and
CHECKPOINT may keep its name, since ours takes the ``.onnx`` file beside a ``.pt`` file.

    python examples/official_flow.py CONFIG CHECKPOINT VIDEO OUTPUT
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qsam2_deploy.runtime import build_sam2_video_predictor

Segments = dict[int, dict[int, Any]]
"""For each frame and each object: a bool mask ``[1, height, width]``."""


def propagate(predictor: Any, state: Any, start: int = 0) -> Segments:
    """Track all objects from frame ``start`` to the end of the video."""
    segments: Segments = {}
    tracked = predictor.propagate_in_video(state, start_frame_idx=start)
    for frame_idx, obj_ids, mask_logits in tracked:
        segments[frame_idx] = {
            obj_id: (mask_logits[i] > 0.0).cpu().numpy() for i, obj_id in enumerate(obj_ids)
        }
    return segments


def one_child(predictor: Any, state: Any, later: int) -> Segments:
    """Segment the boy: two clicks on frame 0, and a negative one on frame ``later``."""
    predictor.add_new_points_or_box(
        inference_state=state,
        frame_idx=0,
        obj_id=1,
        points=np.array([[210, 350]], dtype=np.float32),
        labels=np.array([1], np.int32),
    )
    # The first click gives his shorts; with a second one, the model understands that he is meant.
    predictor.add_new_points_or_box(
        inference_state=state,
        frame_idx=0,
        obj_id=1,
        points=np.array([[210, 350], [250, 220]], dtype=np.float32),
        labels=np.array([1, 1], np.int32),
    )
    segments = propagate(predictor, state)
    _, _, mask_logits = predictor.add_new_points_or_box(
        inference_state=state,
        frame_idx=later,
        obj_id=1,
        points=np.array([[82, 410]], dtype=np.float32),
        labels=np.array([0], np.int32),
    )
    segments[later] = {1: (mask_logits[0] > 0.0).cpu().numpy()}
    # Tracking over the refined frame would do it anew, without the click: go on behind it.
    segments.update(propagate(predictor, state, start=later + 1))
    return segments


def two_children(predictor: Any, state: Any) -> Segments:
    """Segment the boy's shorts, with a negative click on his shirt, and the girl, from a box."""
    predictor.add_new_points_or_box(
        inference_state=state,
        frame_idx=0,
        obj_id=2,
        points=np.array([[200, 300], [275, 175]], dtype=np.float32),
        labels=np.array([1, 0], np.int32),
    )
    frame_idx, obj_ids, mask_logits = predictor.add_new_points_or_box(
        inference_state=state, frame_idx=0, obj_id=3, box=np.array([300, 0, 500, 400], np.float32)
    )
    areas = {obj_id: int((mask_logits[i] > 0.0).sum()) for i, obj_id in enumerate(obj_ids)}
    print(f"frame {frame_idx}: pixels of each object {areas}")
    return propagate(predictor, state)


def save(segments: Segments, folder: Path) -> None:
    """Write one PNG per frame, whose pixels are object numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame_idx, masks in segments.items():
        labels = np.zeros(next(iter(masks.values())).shape[1:], np.uint8)
        for obj_id, mask in masks.items():
            labels[mask[0]] = obj_id
        Image.fromarray(labels).save(folder / f"{frame_idx:05d}.png")


def main(argv: list[str] | None = None) -> None:
    """Run the flow on a video (the official predictor wants a folder of JPEG frames)."""
    parser = argparse.ArgumentParser(description="Segment the two children of bedroom.mp4.")
    parser.add_argument("config", help="such as configs/sam2.1/sam2.1_hiera_t.yaml")
    parser.add_argument("checkpoint", help="such as sam2.1_hiera_tiny.pt")
    parser.add_argument("video", help="a video, or a folder of JPEG frames named by their numbers")
    parser.add_argument("output", type=Path, help="folder for the masks")
    parser.add_argument("--later", type=int, default=150, help="frame to refine on (150)")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args(argv)

    predictor = build_sam2_video_predictor(args.config, args.checkpoint, device=args.device)
    inference_state = predictor.init_state(video_path=args.video)
    save(one_child(predictor, inference_state, args.later), args.output / "one_child")
    predictor.reset_state(inference_state)
    save(two_children(predictor, inference_state), args.output / "two_children")


if __name__ == "__main__":
    main()
