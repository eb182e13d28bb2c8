"""Track objects in the pictures of a camera on a Jetson, and show their masks.

    python examples/jetson_camera.py model.onnx csi --click 640,360 --mjpeg 0.0.0.0:8080
    python examples/jetson_camera.py model.onnx 0 --show               # USB; click in the window
    python examples/jetson_camera.py model.onnx film.mp4 --box 100,80,300,240 --out overlay.mp4

Ctrl-C ends the loop; files are whole then. It needs no PyTorch, and runs on any Linux machine.
"""

from __future__ import annotations

import sys
import time
from argparse import ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

from _gstreamer import GStreamerFrames, csi_pipeline
from _mjpeg import MjpegServer
from _newest import NewestFrames
from _window import Window

from qsam2_deploy.cli._main import EXIT_OK, Parser, command, whole_number
from qsam2_deploy.engines.registry import backend_names
from qsam2_deploy.errors import PromptError
from qsam2_deploy.media.prompting.prompt_flags import prompts_from_flags
from qsam2_deploy.media.prompting.prompts import FramePrompt
from qsam2_deploy.media.protocols import FrameSource, RgbImage
from qsam2_deploy.media.reading.interrupt import stop_on_interrupt
from qsam2_deploy.media.reading.sources import open_frames, source_from_text
from qsam2_deploy.media.reading.streamed_video import StreamedVideo
from qsam2_deploy.media.writing.drawing import draw_overlay
from qsam2_deploy.media.writing.video_writer import VideoWriter
from qsam2_deploy.runtime import FrameResult, VideoSegmenter

NAME = "jetson_camera.py"
Viewer = Callable[[RgbImage], bool]
"""Takes a picture with masks; False ends the loop."""


@command(NAME)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the loop; returns the exit status."""
    args = _parser().parse_args(argv)
    prompts = prompts_from_flags(args.click, args.negative_click, args.box)
    if not prompts and not args.show:
        raise PromptError("say what to track with --click or --box, or in a window with --show")
    with ExitStack() as stack:
        window = stack.enter_context(Window()) if args.show else None
        source = stack.enter_context(_open_source(args))
        # From now on, so that the first frame is not one from before the model was loaded.
        queued = isinstance(source, GStreamerFrames)
        frames = iter(stack.enter_context(NewestFrames(source)) if queued else source)
        segmenter = stack.enter_context(
            VideoSegmenter(args.model, args.backend, threads=args.threads, cache=args.cache)
        )
        viewers = _open_viewers(args, source, window, stack)
        if not prompts and window is not None:
            first = next(frames)
            prompts = [FramePrompt(None, window.ask(first))]
            frames = chain([first], frames)
        no_more_waiting = source.stop if isinstance(source, StreamedVideo) else None
        flag = stack.enter_context(stop_on_interrupt(no_more_waiting))
        speed = Speed()
        for _ in _track(segmenter, islice(frames, args.frames), prompts, viewers, speed):
            if flag.stopped:
                break
    print(speed.summary())
    return EXIT_OK


@dataclass
class Speed:
    """How many frames came, and how long they took."""

    frames: int = 0
    model_seconds: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    reported: float = 0.0

    def add(self, seconds: float, result: FrameResult) -> None:
        """Count a frame; once a second, print where the objects are."""
        self.frames += 1
        self.model_seconds += seconds
        now = time.perf_counter() - self.began
        if now - self.reported >= 1.0:
            self.reported = now
            print(f"frame {result.frame_index:6d}: {_areas(result)}; {self.rates()}", flush=True)

    def rates(self) -> str:
        """Frames per second of the loop and of the model alone."""
        elapsed = time.perf_counter() - self.began
        milliseconds = 1000 * self.model_seconds / max(self.frames, 1)
        return f"{self.frames / elapsed:.1f} frames per second, model {milliseconds:.1f} ms"

    def summary(self) -> str:
        """The last line."""
        return f"{self.frames} frames; {self.rates()}"


def _track(
    segmenter: VideoSegmenter,
    frames: Iterable[RgbImage],
    prompts: Sequence[FramePrompt],
    viewers: Sequence[Viewer],
    speed: Speed,
) -> Iterator[FrameResult]:
    """Yield what is found on each frame, after it was shown."""
    for index, frame in enumerate(frames):
        given = [item.prompt for item in prompts if (item.frame or 0) == index]
        began = time.perf_counter()
        result = segmenter.track(frame, given)
        speed.add(time.perf_counter() - began, result)
        if viewers:
            drawn = draw_overlay(frame, result)
            wanted = [view(drawn) for view in viewers]  # all of them get the picture
            if not all(wanted):
                return
        yield result


def _areas(result: FrameResult) -> str:
    seen = (
        f"object {item.object_id} " + (f"{item.mask.sum()} pixels" if item.visible else "hidden")
        for item in result.objects
    )
    return ", ".join(seen)


def _open_source(args: Namespace) -> FrameSource:
    kind, _, rest = args.source.partition(":")
    if kind == "csi" and (rest.isdecimal() or not rest):
        sensor = int(rest or 0)
        width, height = args.size
        pipeline = csi_pipeline(sensor, width, height, args.fps, args.flip)
        return GStreamerFrames(f"CSI camera {sensor}", pipeline)
    if kind == "gst":
        return GStreamerFrames("the pipeline", rest)
    return open_frames(source_from_text(args.source))


def _open_viewers(
    args: Namespace, source: FrameSource, window: Window | None, stack: ExitStack
) -> list[Viewer]:
    viewers: list[Viewer] = [] if window is None else [window.show]
    if args.mjpeg is not None:
        server = stack.enter_context(MjpegServer(*args.mjpeg))
        print(f"pictures are at {server.address}", flush=True)
        if server.is_public:
            print(
                "everybody who has this address and reaches this machine sees the camera, and "
                "nothing is encrypted",
                flush=True,
            )
        viewers.append(server.show)
    if args.out is not None:
        shape = {"height": source.height, "width": source.width}
        writer = stack.enter_context(VideoWriter(args.out, **shape, fps=source.fps))
        viewers.append(_into(writer))
    return viewers


def _into(writer: VideoWriter) -> Viewer:
    def write(picture: RgbImage) -> bool:
        writer.write(picture)
        return True

    return write


def _parser() -> Parser:
    parser = Parser(NAME, __doc__ or "")
    parser.formatter_class = RawDescriptionHelpFormatter
    parser.add_argument("model", help="model.onnx, made by qsam2-export")
    parser.add_argument(
        "source",
        help="csi or csi:N (camera N of the module), the number of a USB camera, gst:PIPELINE "
        "(ends in an appsink of BGR), a video, a URL, or a folder of frames",
    )
    prompts = parser.add_argument_group("what to track, in pixels of the frame")
    for flag, form in (("--click", "X,Y"), ("--negative-click", "X,Y"), ("--box", "X1,Y1,X2,Y2")):
        prompts.add_argument(flag, action="append", default=[], metavar=f"[OBJECT:]{form}")
    view = parser.add_argument_group("what to do with the pictures")
    view.add_argument("--show", action="store_true", help="in a window; q ends the loop")
    view.add_argument(
        "--mjpeg", type=_address, metavar="[HOST:]PORT",
        help="as a web page, at an address that only you are told; for this machine alone unless "
        "HOST is 0.0.0.0",
    )  # fmt: skip
    view.add_argument("--out", type=Path, metavar="FILE.mp4", help="into a video")
    camera = parser.add_argument_group("CSI camera")
    camera.add_argument("--size", type=_size, default=(1280, 720), metavar="WxH", help="1280x720")
    camera.add_argument("--fps", type=whole_number(1), default=30, help="30")
    camera.add_argument("--flip", type=int, choices=range(8), default=0, help="2: upside down")
    parser.add_argument("--backend", choices=backend_names(), default="auto")
    parser.add_argument("--threads", type=whole_number(1), help="of the engine")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="opens faster the next time")
    parser.add_argument("--frames", type=whole_number(1), help="stop after so many")
    return parser


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise ArgumentTypeError(f"expected a size such as 1280x720, but got {text!r}")
    return int(width), int(height)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise ArgumentTypeError(f"expected a port such as 8080, but got {text!r}")
    return host or "127.0.0.1", int(port)


if __name__ == "__main__":
    sys.exit(main())
