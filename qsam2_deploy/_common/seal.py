"""A digest at the end of a model file, inside valid protobuf.

Protobuf merges repeated fields when messages are concatenated, so a model file can be closed by a
separately serialised ``ModelProto`` that holds nothing but one ``metadata_props`` entry: the
SHA-256 digest of every byte before it. Any ONNX reader sees an ordinary entry; we can check the
file bit for bit without parsing it, and a truncated file has no such ending.
"""

from __future__ import annotations

import hashlib

from ..errors import ModelFileError

DIGEST_KEY = "qsam2.sha256"
"""Key of the SHA-256 digest (64 hexadecimal digits), always the last entry of the file."""

# Wire format: ModelProto.metadata_props is field 14, StringStringEntryProto has key 1, value 2.
_METADATA_PROPS_TAG = 14 << 3 | 2
_KEY_TAG = 1 << 3 | 2
_VALUE_TAG = 2 << 3 | 2


def metadata_entry(key: str, value: str) -> bytes:
    """Return a serialised ``ModelProto`` that holds nothing but one ``metadata_props`` entry.

    Appended to a model file, it adds the entry. Key and value together must stay below 124 bytes,
    so that every length is a single byte.
    """
    entry = bytes([_KEY_TAG, len(key)]) + key.encode() + bytes([_VALUE_TAG, len(value)])
    entry += value.encode()
    return bytes([_METADATA_PROPS_TAG, len(entry)]) + entry


def _tail(digest: str) -> bytes:
    return metadata_entry(DIGEST_KEY, digest)


TAIL_LENGTH = len(_tail("0" * 64))
"""Bytes of the ending of every sealed file."""


def seal(body: bytes) -> bytes:
    """Return the ending that closes a file of contents ``body``."""
    return _tail(hashlib.sha256(body).hexdigest())


def verify(data: bytes, name: str) -> str:
    """Check that ``data`` is a complete sealed file and return its digest.

    Raises:
        ModelFileError: the file is truncated, damaged, or was changed after the export.
    """
    body, tail = memoryview(data)[:-TAIL_LENGTH], data[-TAIL_LENGTH:]
    digest = hashlib.sha256(body).hexdigest()
    if tail == _tail(digest):
        return digest
    if tail[:-64] == _tail(digest)[:-64]:
        raise ModelFileError(
            f"{name} is damaged: its contents do not match their SHA-256 digest; "
            "copy or export it again"
        )
    raise ModelFileError(
        f"{name} is truncated, or was changed after the export: it does not end with a digest; "
        "copy or export it again"
    )
