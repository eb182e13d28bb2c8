"""What is in a model.onnx, and what runs in integers; imports engines and predictors.

Nothing here is assumed: bytes are those of the file, and which products an engine computes in
integers is read from the graph that the engine itself makes.
"""

from __future__ import annotations
