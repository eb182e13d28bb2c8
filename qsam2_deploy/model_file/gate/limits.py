"""How large the parts of a model file may be; several times what the largest official model has.

SAM 2.1 large has 4,300 nodes, 2,400 initializers and 900 MB in floats.
"""

from __future__ import annotations

MAX_FILE_BYTES = (1 << 31) - 1
"""What protobuf can hold in one message."""

MAX_NODES = 16_384
MAX_INITIALIZERS = 16_384
MAX_RANK = 8
MAX_NAME = 256
MAX_METADATA_ENTRIES = 16
MAX_METADATA_BYTES = 4 << 20

MAX_INTEGER = 1 << 22
"""Magnitude of an integer constant, from which sizes may follow; the official models' are 2^16.

Shape inference keeps a number for each element of a tensor of one dimension, whatever its size.
"""

PROBE_SIZES = {"B": 2, "P": 3, "F": 2, "N": 5}
"""Objects, points, memories and pointers for which the sizes of all tensors are worked out.

They are larger than 1 and differ where they can, so that nothing fits by accident.
"""

_SPARE_ELEMENTS = 1 << 22


def max_elements(image_size: int, largest_constant: int) -> int:
    """Return how many elements one tensor between two nodes may have.

    Every large tensor of SAM 2 is an attention product of all positions with all positions, or a
    map that is a part of the image's size; the factors are eight times what the largest official
    model needs.

    Args:
        image_size: side of the model's input in pixels.
        largest_constant: elements of the largest initializer, which may be handed over as it is.
    """
    positions = (image_size // 16) ** 2
    return max(largest_constant, 32 * positions**2 + 256 * image_size**2 + _SPARE_ELEMENTS)
