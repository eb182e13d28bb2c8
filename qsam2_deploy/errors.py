"""Every error that this package raises on purpose.

::

    Qsam2Error
    ├── InputError                 what the user gave cannot be used
    │   ├── CheckpointError        a PyTorch checkpoint or its architecture
    │   ├── ModelFileError         a model.onnx made by qsam2-export
    │   ├── VideoError             a video, image folder, image, stream or camera
    │   └── PromptError            a click, box, mask or object id
    ├── UnsupportedModelError      a valid SAM2 model that this version cannot export
    ├── MissingDependencyError     an optional package is not installed
    │   └── OutdatedDependencyError    it is, in a version that is too old
    ├── EngineError                an inference engine failed or gave non-finite numbers
    └── TrainingError              the loss or gradients of a training run are no longer finite

The message is one sentence for a person: what was wrong, what was expected, what to do.
Commands print it after their name and exit with status 2; no traceback.
"""

from __future__ import annotations


class Qsam2Error(Exception):
    """Base of all errors of this package."""


class InputError(Qsam2Error):
    """Something that the user gave cannot be used."""


class CheckpointError(InputError):
    """A checkpoint cannot be read, or does not fit its architecture."""


class ModelFileError(InputError):
    """A model file is damaged, foreign, or made by a newer version."""


class VideoError(InputError):
    """A video, a folder of frames, an image, a stream or a camera cannot be read or written."""


class PromptError(InputError):
    """A prompt does not fit the frame or the state of the tracker."""


class UnsupportedModelError(Qsam2Error):
    """The architecture uses an option that the export does not support."""


class MissingDependencyError(Qsam2Error):
    """An optional package is missing; the message holds the ``pip install`` line."""

    def __init__(self, package: str, extra: str, purpose: str, *, hint: str | None = None) -> None:
        """Say which ``package`` is missing for ``purpose`` and which ``extra`` brings it.

        ``hint`` says what to do where the extra is not the answer, or not the only one.
        """
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed; "
            + (hint or f"run: pip install 'qsam2-deploy[{extra}]'")
        )
        self.package = package
        self.extra = extra


class OutdatedDependencyError(MissingDependencyError):
    """An optional package is installed, but too old; the message holds the ``pip install`` line."""

    def __init__(self, package: str, extra: str, purpose: str, *, found: str, needed: str) -> None:
        """Say that version ``needed`` of ``package`` or a newer one is needed, not ``found``."""
        Qsam2Error.__init__(
            self,
            f"{purpose} needs the package {package!r} in version {needed} or newer, but "
            f"{found} is installed; run: pip install '{package}>={needed}'",
        )
        self.package = package
        self.extra = extra
        self.found = found
        self.needed = needed


class EngineError(Qsam2Error):
    """An inference engine failed, or returned numbers that are not finite."""


class TrainingError(Qsam2Error):
    """Training cannot go on: the loss or the gradients are no longer finite."""
