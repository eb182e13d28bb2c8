"""Videos behind a URL: which are allowed, what they may open, and what is said if they fail."""

from __future__ import annotations

import errno
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import VideoError
from .._optional import load_av
from .decoder import PLAYLISTS, OpenVideo, reason, select_stream

if TYPE_CHECKING:
    from av.container import InputContainer

OPEN_SECONDS = 10.0
"""After which a server that does not answer is given up."""

READ_SECONDS = 10.0
"""After which a stream that sends nothing counts as broken off."""

ANALYZE_SECONDS = 2.0
"""How much of a live stream FFmpeg reads to find out what is in it; it likes to take 5 to 10."""

RESUME_SECONDS = 4
"""Over which FFmpeg asks again for the rest of a file that broke off."""

# What FFmpeg may open for a URL. Without it, a playlist could name files of this machine.
_WEB = "http,https,httpproxy,tcp,tls,crypto"
_PROTOCOLS = {
    "http": _WEB,
    "https": _WEB,
    "rtsp": "rtp,srtp,udp,tcp",
    "rtsps": "rtp,srtp,udp,tcp,tls",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tcp,tls",
    "srt": "srt",
    "udp": "udp",
    "rtp": "rtp,udp",
    "tcp": "tcp",
}
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PASSWORD = re.compile(r"^([^:/]*://[^/?#:@]*:)[^/]*@")
_SECRET = re.compile(
    r"([?&][^=&#]*(?:pass|pwd|token|secret|key|auth|sig)[^=&#]*=)[^&#]*", re.IGNORECASE
)


def is_url(text: str) -> bool:
    """Say whether ``text`` is a URL, of any kind, and not the name of a file that exists."""
    return _SCHEME.match(text) is not None and not exists(text)


def exists(text: str) -> bool:
    """Say whether there is a file of this name."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a name
        return False


def public_url(url: str) -> str:
    """Return ``url`` with ``***`` for its password and for values that look like secrets."""
    return _SECRET.sub(r"\1***", _PASSWORD.sub(r"\1***@", url))


def open_url(url: str) -> OpenVideo:
    """Open the video behind ``url``, in bounded time.

    Raises:
        VideoError: its protocol is not allowed, nobody answers, or the answer is no video.
    """
    scheme, colon, rest = url.partition(":")
    scheme = scheme.lower()
    name = public_url(url)
    if scheme not in _PROTOCOLS:
        raise VideoError(
            f"cannot open {name}: {scheme}:// is none of the protocols {', '.join(_PROTOCOLS)}; "
            "give a URL of one of these, or the path of a file"
        )
    av = load_av()
    began = time.monotonic()
    try:
        container = av.open(
            scheme + colon + rest,
            timeout=(OPEN_SECONDS, READ_SECONDS),
            container_options=_options(scheme),
        )
    except (av.FFmpegError, OSError, ValueError) as error:
        late = time.monotonic() - began >= OPEN_SECONDS
        # The error of PyAV, which a traceback would show, has the password in it.
        raise VideoError(f"cannot open {name}: {_refusal(error, scheme, late)}") from None
    return select_stream(container, name, live=_is_live(container, scheme))


def _is_live(container: InputContainer, scheme: str) -> bool:
    """Say whether an opened URL goes on while nobody reads it, unlike a file that is fetched."""
    if scheme not in ("http", "https"):
        return True
    endless = container.size <= 0 or container.format.name in PLAYLISTS
    return endless and not container.duration


def _options(scheme: str) -> dict[str, str]:
    options = {"protocol_whitelist": _PROTOCOLS[scheme]}
    if scheme in ("http", "https"):
        # Does nothing where the server cannot send parts.
        options |= {"reconnect": "1", "reconnect_delay_max": str(RESUME_SECONDS)}
        options |= _trust()
    else:
        options["analyzeduration"] = str(round(1e6 * ANALYZE_SECONDS))
    if scheme in ("rtsp", "rtsps"):
        # Over UDP, packets that are lost spoil the pictures until the next key frame.
        options["rtsp_flags"] = "prefer_tcp"
    return options


def _trust() -> dict[str, str]:
    """Return options that have certificates checked against those that Python trusts.

    FFmpeg checks none by default, and the one in PyAV's wheels finds none on many systems.
    """
    import ssl

    authorities = ssl.get_default_verify_paths().cafile
    return {"tls_verify": "1"} | ({"ca_file": authorities} if authorities else {})


def _refusal(error: BaseException, scheme: str, late: bool) -> str:
    av = load_av()
    if late or isinstance(error, av.error.ExitError):
        return f"no video came within {OPEN_SECONDS:g} seconds; is the address right?"
    if isinstance(error, av.error.ProtocolNotFoundError):
        return f"this build of PyAV (FFmpeg) has no {scheme}; give another URL"
    if isinstance(error, ValueError):
        return (
            "the answer is no video, was cut off, or leads to something that is not opened "
            f"({reason(error)}); give the URL of the video itself"
        )
    if isinstance(error, OSError) and error.errno == errno.EIO:
        distrust = "its certificate is not trusted, " if scheme == "https" else ""
        return f"there is no such host, {distrust}or the answer broke off ({reason(error)})"
    return f"{reason(error)}; is the address right, and the server or camera on?"
