"""Track an object in a stream of frames, from a camera or a video: the shortest real loop.

    python examples/camera.py model.onnx 0 --click 320,240            # camera 0
    python examples/camera.py model.onnx rtsp://camera/live --click 320,240
    python examples/camera.py model.onnx film.mp4 --click 320,240 --frames 100

The object is the one under the click in the first frame. Ctrl-C ends the loop.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice

from qsam2_deploy.errors import Qsam2Error
from qsam2_deploy.media.reading.sources import open_frames, source_from_text
from qsam2_deploy.runtime import Prompt, VideoSegmenter


def main(argv: list[str] | None = None) -> None:
    """Print where the object is on each frame, and how long that took."""
    parser = argparse.ArgumentParser(description="Track an object in a stream of frames.")
    parser.add_argument("model", help="model.onnx")
    parser.add_argument("source", help="a camera's number, a URL, a video or a folder of frames")
    parser.add_argument("--click", type=_point, required=True, metavar="X,Y")
    parser.add_argument("--frames", type=int, help="stop after so many frames")
    args = parser.parse_args(argv)
    source = source_from_text(args.source)
    try:
        with VideoSegmenter(args.model) as segmenter, open_frames(source) as frames:
            prompts = [Prompt(object_id=1, points=[args.click], labels=[1])]
            for frame in islice(frames, args.frames):
                began = time.perf_counter()
                found = segmenter.track(frame, prompts)[1]
                milliseconds = 1000 * (time.perf_counter() - began)
                state = f"{found.mask.sum():8d} pixels" if found.visible else "not in sight"
                print(f"frame {segmenter.frame_index:5d}: {state:>15} {milliseconds:7.1f} ms")
                prompts = []  # from the second frame on, the memory says what to segment
    except Qsam2Error as error:
        raise SystemExit(f"camera.py: {error}") from error
    except KeyboardInterrupt:
        pass


def _point(text: str) -> tuple[float, float]:
    x, y = map(float, text.split(","))
    return x, y


if __name__ == "__main__":
    main()
