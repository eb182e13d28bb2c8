"""A video that another program writes to standard input."""

from __future__ import annotations

import os

from ...errors import VideoError
from .._optional import load_av
from .decoder import OpenVideo, reason, select_stream

NAME = "standard input"

_ADVICE = "pipe in a whole video, such as of: ffmpeg -i FILE -c copy -f matroska -"


def open_standard_input(descriptor: int = 0) -> OpenVideo:
    """Open the video that comes through a pipe, which cannot be sought in.

    Raises:
        VideoError: nothing comes, or no video, or one that cannot be read in order.
    """
    if os.isatty(descriptor):
        raise VideoError(f"{NAME} is a terminal, and no video comes from it; {_ADVICE}")
    av = load_av()
    try:
        # The whitelist keeps a playlist from opening files.
        container = av.open(f"pipe:{descriptor}", container_options={"protocol_whitelist": "pipe"})
    except av.error.EOFError as error:
        raise VideoError(f"{NAME} is empty; {_ADVICE}") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise VideoError(
            f"cannot read {NAME} as a video: it is empty, in another format or cut off "
            f"({reason(error)}); {_ADVICE}"
        ) from error
    return select_stream(container, NAME)
