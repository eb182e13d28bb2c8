"""Names of sequences on a command line, the same for all commands."""

from __future__ import annotations


def sequence_names(text: str | None) -> str | tuple[str, ...] | None:
    """Return what ``--sequences`` names.

    Several names separated by commas become a tuple. A single one stays a string: it may be a
    sequence, a split or a text file, which the reader of the dataset finds out. None is "all".
    """
    if text is None or "," not in text:
        return text
    return tuple(name.strip() for name in text.split(",") if name.strip())
