"""A strict double of TensorRT and TensorRT-RTX, made from frozen lists of their Python API.

Neither can be installed where most tests run, so what calls them is run against this: a module
with the names of one version of the library, which refuses every other name, argument and flag,
and remembers what was called. It computes nothing; a test scripts what it answers.
"""

from .api_list import VERSIONS
from .errors import ApiError, BadCallError, UnknownNameError
from .library import Call, TensorRTDouble, fresh_double
from .script import ParserFault, Phase, Script, Tensor

__all__ = [
    "VERSIONS",
    "ApiError",
    "BadCallError",
    "Call",
    "ParserFault",
    "Phase",
    "Script",
    "Tensor",
    "TensorRTDouble",
    "UnknownNameError",
    "fresh_double",
]
