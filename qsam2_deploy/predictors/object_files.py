"""Objects that come from a file of an earlier video, and those of this one that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .._common.files import check_output
from ..errors import PromptError
from ..media.writing.mask_writer import check_object_ids


@dataclass(frozen=True)
class ObjectFiles:
    """Files of objects around the segmentation of a video.

    Attributes:
        load: objects to look for from the first frame on.
        save: where to keep the objects when the video ends.
    """

    load: Path | None = None
    save: Path | None = None

    @property
    def given(self) -> tuple[Path, ...]:
        """Those of the two files that there are."""
        return tuple(path for path in (self.load, self.save) if path is not None)

    def check(self, *, everything: bool) -> None:
        """Check what can be checked before the first frame.

        Raises:
            InputError: the file to save cannot be written.
            PromptError: there are objects to look for beside ``everything``.
        """
        if everything and self.load is not None:
            raise PromptError(
                "everything is looked for without objects of another video; leave one of them out"
            )
        if self.save is not None:
            check_output(self.save)

    def begin(self, tracker: Any, *, masks: bool) -> None:
        """Load the objects into a segmenter.

        Args:
            tracker: a ``VideoSegmenter``, which was entered.
            masks: their numbers must fit into indexed PNG files.

        Raises:
            InputError: the file cannot be used.
            PromptError: a number does not fit.
        """
        if self.load is not None:
            found = tracker.load_objects(self.load)
            if masks:
                check_object_ids(found)

    def finish(self, tracker: Any) -> dict[str, Path]:
        """Save the objects of a segmenter; return the file by its name among the outputs.

        Raises:
            InputError: it cannot be written.
            PromptError: no object is tracked.
        """
        if self.save is None:
            return {}
        save: Callable[[Path], None] = tracker.save_objects
        save(self.save)
        return {"objects": self.save}
