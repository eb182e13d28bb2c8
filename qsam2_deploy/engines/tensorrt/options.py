"""What a user can ask of an engine."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InputError
from ...spec import TrackingRules
from .library import TENSORRT_RTX

HARDWARE_COMPATIBILITY = ("none", "ampere_plus", "same_compute_capability")
"""On which other GPUs a TensorRT engine runs; the last one needs TensorRT 10.8 or later."""

MAX_OPTIMIZATION_LEVEL = 5


@dataclass(frozen=True)
class BuildOptions:
    """Settings of the builder; None leaves the library's own.

    Attributes:
        workspace_mib: most device memory of a layer's scratch space, in MiB.
        optimization_level: 0 builds fastest, 5 searches longest for fast kernels.
        hardware_compatibility: of :data:`HARDWARE_COMPATIBILITY`. TensorRT only.
        version_compatible: the engine also runs with later minor versions, through the lean
            runtime, which is not put into the file. TensorRT only.
        compute_capabilities: such as ``("8.6", "8.9")``, or ``("current",)``; empty for 8.0 and
            all later ones. TensorRT-RTX only.
    """

    workspace_mib: int | None = None
    optimization_level: int | None = None
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    compute_capabilities: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: one is out of its range.
        """
        if self.workspace_mib is not None and self.workspace_mib < 1:
            raise InputError(f"workspace_mib must be at least 1, but got {self.workspace_mib}")
        level = self.optimization_level
        if level is not None and not 0 <= level <= MAX_OPTIMIZATION_LEVEL:
            raise InputError(
                f"optimization_level must be from 0 to {MAX_OPTIMIZATION_LEVEL}, but got {level}"
            )
        if self.hardware_compatibility not in HARDWARE_COMPATIBILITY:
            raise InputError(
                f"hardware_compatibility is one of {', '.join(HARDWARE_COMPATIBILITY)}, but got "
                f"{self.hardware_compatibility!r}"
            )

    def check_builder(self, builder: str, *, timing_cache: bool = False) -> None:
        """Refuse what the other of the two libraries has.

        Raises:
            InputError: says which option to leave out.
        """
        if builder == TENSORRT_RTX:
            given = {
                "timing cache": timing_cache,
                "hardware compatibility": self.hardware_compatibility != "none",
                "version compatibility": self.version_compatible,
            }
        else:
            given = {"compute capability": bool(self.compute_capabilities)}
        foreign = [name for name, is_given in given.items() if is_given]
        if foreign:
            raise InputError(f"{builder} has no {foreign[0]}; leave the option out")


@dataclass(frozen=True)
class Limits:
    """The largest dynamic dimensions that an engine takes.

    Attributes:
        objects: objects that run as one batch.
        points: points of a prompt; the corners of a box are two.
        conditioning: frames with prompts that are attended to at once. Each beyond the first
            is one memory frame and one pointer more than the steady state has.
    """

    objects: int = 4
    points: int = 16
    conditioning: int = 4

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: one is too small.
        """
        for name, least in (("objects", 1), ("points", 2), ("conditioning", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name} must be at least {least}, but got {getattr(self, name)}")

    def memories(self, rules: TrackingRules) -> int:
        """Return the most memory frames: the prompted ones and ``num_maskmem - 1`` before now."""
        return rules.num_maskmem - 1 + self.conditioning

    def pointers(self, rules: TrackingRules) -> int:
        """Return the most pointers: the prompted ones and those of the frames before now."""
        return rules.max_obj_ptrs_in_encoder - 1 + self.conditioning
