"""What a test decides about the library that the double stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tensor:
    """An input or output of the network.

    ``shape`` holds sizes, or a symbol's name or -1 where the size is dynamic; outputs get their
    sizes from inputs with the same symbol. ``dtype`` is a member of the library's DataType.
    """

    name: str
    shape: tuple[int | str, ...]
    is_input: bool
    dtype: str = "FLOAT"


@dataclass(frozen=True)
class ParserFault:
    """What the parser says about one node that it does not take."""

    description: str
    node: int = 0
    node_name: str = ""
    node_operator: str = ""
    code: str = "UNSUPPORTED_NODE"


@dataclass(frozen=True)
class Phase:
    """A phase of a build that the progress monitor is told of; inner ones run at the last step."""

    name: str
    steps: int
    inner: tuple[Phase, ...] = ()


@dataclass
class Script:
    """What the double is to do; everything can be changed between calls.

    Attributes:
        tensors: Inputs and outputs of the networks, in place of those of the parsed ONNX model.
        faults: What the parser refuses; parsing fails where there is any.
        phases: What a progress monitor hears during a build.
        log: Severities and messages, given to the logger of the builder during a build.
        plan: Serialized network; by default one that the double of the same version can load.
        build_fails: Building gives none, as after an error.
        load_fails: Loading an engine gives none, as one of another GPU or version does.
        on_execute: Called with the execution context where it starts a valid execution, for what
            the engine would compute; sizes and addresses can be asked of the context.
        returns: Results of methods, properties and functions by name, such as
            ``"ICudaEngine.device_memory_size_v2"``: a value, or a function of the object and the
            arguments by name.
    """

    tensors: Sequence[Tensor] | None = None
    faults: Sequence[ParserFault] = ()
    phases: Sequence[Phase] = (Phase("Building engine", 3, (Phase("Timing tactics", 2),)),)
    log: Sequence[tuple[str, str]] = ()
    plan: bytes | None = None
    build_fails: bool = False
    load_fails: bool = False
    on_execute: Callable[[Any], None] | None = None
    returns: dict[str, Any] = field(default_factory=dict)
