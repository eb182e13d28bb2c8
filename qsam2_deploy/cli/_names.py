"""Sequences of a dataset on a command line, the same for all commands."""

from __future__ import annotations

from argparse import _ArgumentGroup


def add_sequences(group: _ArgumentGroup) -> None:
    """Add the options that choose sequences of DAVIS and SA-V."""
    group.add_argument(
        "--sequences",
        metavar="A,B",
        help="names, separated by commas; or a split of DAVIS, or a text file with one per line",
    )
    group.add_argument(
        "--resolution", default="480p", metavar="NAME", help="folder of DAVIS's frames (480p)"
    )


def sequence_names(text: str | None) -> str | tuple[str, ...] | None:
    """Return what ``--sequences`` names.

    Several names separated by commas become a tuple. A single one stays a string: it may be a
    sequence, a split or a text file, which the reader of the dataset finds out. None is "all".
    """
    if text is None or "," not in text:
        return text
    return tuple(name.strip() for name in text.split(",") if name.strip())
