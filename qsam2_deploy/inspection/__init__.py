"""What is in a ``model.onnx``: bits, steps, clipping, bytes, and what runs in integers.

Nothing here is assumed: bytes are those of the file, and which products an engine computes in
integers is read from the graph that the engine itself makes.
"""

from __future__ import annotations
