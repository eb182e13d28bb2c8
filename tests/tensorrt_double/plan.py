"""What a serialized engine of the double holds: enough to ask the engine about its tensors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from .script import Tensor

Range = tuple[tuple[int, ...], ...]
"""Smallest, best and largest shape of an input."""

_MAGIC = b"plan of the double\n"


@dataclass(frozen=True)
class Plan:
    """A built network: its library, its tensors and, for every profile, the shapes of inputs."""

    library: str
    name: str
    tensors: tuple[Tensor, ...]
    profiles: tuple[Mapping[str, Range], ...]
    num_layers: int = 0

    def to_bytes(self) -> bytes:
        """Return the serialized plan."""
        return _MAGIC + json.dumps(asdict(self)).encode()

    def tensor(self, name: str) -> Tensor | None:
        """Return the input or output ``name``, if there is one."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)

    @property
    def inputs(self) -> list[Tensor]:
        """The inputs, in order."""
        return [tensor for tensor in self.tensors if tensor.is_input]


def plan_from_bytes(data: bytes) -> Plan | None:
    """Read a plan; none if ``data`` is anything else."""
    if not data.startswith(_MAGIC):
        return None
    fields = json.loads(data[len(_MAGIC) :])
    tensors = tuple(
        Tensor(**{**tensor, "shape": tuple(tensor["shape"])}) for tensor in fields.pop("tensors")
    )
    profiles = tuple(
        {name: tuple(map(tuple, shapes)) for name, shapes in profile.items()}
        for profile in fields.pop("profiles")
    )
    return Plan(tensors=tensors, profiles=profiles, **fields)


def static_shape(tensor: Tensor) -> tuple[int, ...]:
    """Return the shape of ``tensor`` with -1 where it is dynamic, as the library gives it."""
    return tuple(size if isinstance(size, int) else -1 for size in tensor.shape)


def is_valid_range(shapes: Sequence[Sequence[int]]) -> bool:
    """Return whether smallest <= best <= largest in every dimension."""
    least, best, most = shapes
    return len(least) == len(best) == len(most) and all(
        0 <= low <= middle <= high for low, middle, high in zip(least, best, most, strict=True)
    )
