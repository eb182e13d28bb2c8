"""Checks of the nodes of a model file: operators, attributes, and who reads what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...spec import COMPONENTS
from .limits import MAX_NAME, MAX_NODES, MAX_RANK
from .operators import OPERATORS, Attribute, Operator
from .wording import refusal, shown

if TYPE_CHECKING:
    import onnx

_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7
_NAME = re.compile(rf"[ -~]{{1,{MAX_NAME}}}")
_MAX_INTS = 2 * MAX_RANK
_ATTRIBUTE_FIELDS = 3


class NodeChecks:
    """Checks nodes one after the other, in their order in the file.

    Attributes:
        casts: the initializer behind each Cast of one, by the Cast's output.
    """

    def __init__(self, model: onnx.ModelProto, origin: str) -> None:
        """Begin with the names of inputs and initializers, and to whom they belong."""
        self._model, self._origin = model, origin
        self._constants = {tensor.name for tensor in model.graph.initializer}
        self._owners: dict[str, str] = {}
        self._names: set[str] = set()
        self._extras = _extras()
        self.casts: dict[str, str] = {}
        for kind, items in (("input", model.graph.input), ("initializer", model.graph.initializer)):
            for item in items:
                self._own(item.name, self._component(item.name, kind), kind)

    def run(self) -> None:
        """Check all nodes, and that they make all outputs.

        Raises:
            ModelFileError: one cannot be of qsam2-export; names it.
        """
        nodes = self._model.graph.node
        if len(nodes) > MAX_NODES:
            raise refusal(self._origin, f"it has {len(nodes)} nodes, but may have {MAX_NODES}")
        made = {name for node in nodes for name in self._check(node)}
        for output in self._model.graph.output:
            if output.name not in made:
                raise refusal(self._origin, f"no node makes the output {shown(output.name)}")
            self._check_owner(output.name, self._component(output.name, "output"), None)

    def _check(self, node: onnx.NodeProto) -> list[str]:
        """Check one node and return the names of what it makes."""
        component = self._component(node.name, "node")
        if node.name in self._names:
            raise refusal(self._origin, f"two nodes are called {shown(node.name)}")
        self._names.add(node.name)
        operator = self._operator(node)
        self._check_extras(node)
        self._check_attributes(node, operator)
        self._check_inputs(node, operator, component)
        outputs = list(node.output)
        if not operator.outputs[0] <= len(outputs) <= operator.outputs[1]:
            raise refusal(self._origin, f"{_told(node)} has {len(outputs)} outputs")
        for output in outputs:
            self._own(output, component, "output of a node")
        if node.op_type == "Cast" and node.input[0] in self._constants:
            self.casts[outputs[0]] = node.input[0]
        return outputs

    def _operator(self, node: onnx.NodeProto) -> Operator:
        if node.domain:
            raise refusal(
                self._origin,
                f"{_told(node)} has an operator of the domain "
                f"{shown(node.domain)}, expected one of ONNX's own",
            )
        operator = OPERATORS.get(node.op_type)
        if operator is None:
            raise refusal(
                self._origin,
                f"{_told(node)} has another operator than those that qsam2-export writes",
            )
        return operator

    def _check_extras(self, node: onnx.NodeProto) -> None:
        for extra in self._extras:
            if getattr(node, extra):
                raise refusal(self._origin, f"{_told(node)} has more than inputs and attributes")

    def _check_attributes(self, node: onnx.NodeProto, operator: Operator) -> None:
        seen = set()
        for attribute in node.attribute:
            rule = operator.attributes.get(attribute.name)
            if rule is None or attribute.name in seen:
                raise refusal(
                    self._origin,
                    f"{_told(node)} has the attribute {shown(attribute.name)} "
                    "more often than qsam2-export writes it",
                )
            seen.add(attribute.name)
            if not _fits(attribute, rule):
                raise refusal(
                    self._origin,
                    f"the attribute {attribute.name} of {_told(node)} must be {_described(rule)}",
                )

    def _check_inputs(self, node: onnx.NodeProto, operator: Operator, component: str) -> None:
        inputs = list(node.input)
        least, most = operator.inputs
        if not least <= len(inputs) <= most:
            raise refusal(
                self._origin, f"{_told(node)} has {len(inputs)} inputs, expected {least} to {most}"
            )
        for position, value in enumerate(inputs):
            if not value and position in operator.absent:
                continue
            self._check_owner(value, component, node)
            constant = value in self._constants or value in self.casts
            if position in operator.constants and not constant:
                raise refusal(
                    self._origin, f"the input {position} of {_told(node)} must be a constant"
                )

    def _component(self, name: str, kind: str) -> str:
        """Return the component to which a name belongs by its prefix."""
        self._check_name(name, kind)
        prefix, _, rest = name.partition("/")
        if not rest or prefix not in COMPONENTS:
            raise refusal(
                self._origin,
                f"the name of the {kind} {shown(name)} does not begin with one of its components",
            )
        return prefix

    def _check_name(self, name: str, kind: str) -> None:
        # Some versions of protobuf give bytes for a text that is not UTF-8.
        if not isinstance(name, str) or _NAME.fullmatch(name) is None:
            raise refusal(
                self._origin,
                f"{shown(name)} cannot be the name of the {kind}, expected up to {MAX_NAME} ASCII "
                "letters",
            )

    def _own(self, name: str, component: str, kind: str) -> None:
        self._check_name(name, kind)
        if name in self._owners:
            raise refusal(self._origin, f"two tensors are called {shown(name)}")
        self._owners[name] = component

    def _check_owner(self, name: str, component: str, node: onnx.NodeProto | None) -> None:
        owner = self._owners.get(name)
        if owner == component:
            return
        reader = "an output" if node is None else f"{_told(node)}"
        if owner is None:
            raise refusal(
                self._origin, f"{reader} reads {shown(name)}, which nothing before it makes"
            )
        raise refusal(self._origin, f"{reader} reads {shown(name)} of another component, {owner}")


def _extras() -> list[str]:
    """Return the fields of a node that are not written; some are younger than the oldest onnx."""
    from onnx import NodeProto

    written = {"input", "output", "name", "op_type", "domain", "attribute"}
    return [field.name for field in NodeProto.DESCRIPTOR.fields if field.name not in written]


def _told(node: onnx.NodeProto) -> str:
    return f"the node {shown(node.name)} ({shown(node.op_type)[1:-1]})"


def _fits(attribute: onnx.AttributeProto, rule: Attribute) -> bool:
    # Name, type and one value; a second one could be a graph.
    if attribute.type != rule.kind or len(attribute.ListFields()) > _ATTRIBUTE_FIELDS:
        return False
    if rule.kind == _STRING:
        return attribute.s in rule.words
    if rule.kind == _INTS:
        values = attribute.ints
        return len(values) <= _MAX_INTS and all(rule.low <= v <= rule.high for v in values)
    value = attribute.f if rule.kind == _FLOAT else attribute.i
    return rule.low <= value <= rule.high


def _described(rule: Attribute) -> str:
    if rule.kind == _STRING:
        return "one of " + ", ".join(word.decode() for word in rule.words)
    kind = {_FLOAT: "a number", _INT: "a whole number"}.get(rule.kind, "a few whole numbers")
    return f"{kind} from {rule.low} to {rule.high}"
