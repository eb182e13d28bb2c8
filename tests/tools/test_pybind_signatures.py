"""Signatures read out of docstrings of both generations of pybind11."""

import pytest

from tools._pybind_signatures import signatures, type_name

KNOWN = frozenset({
    "Builder", "Dims", "ILogger", "ILogger.Severity", "OnnxParserFlag", "ParserError", "Strategy",
})  # fmt: skip

LINES = {
    "f(self: trt.trt.Builder, flags: typing.SupportsInt = 0) -> trt.trt.ILogger\n\n\n  :arg x: y":
        [[["flags", "SupportsInt", "0"]], "ILogger"],
    "f(self: trt.Builder, shapes: List[trt.Dims], path: str = None) -> List[List[int]]":
        [[["shapes", "List[Dims]"], ["path", "str", "None"]], "List[List[int]]"],
    "f(self: t.t.Builder, s: t.t.ILogger.Severity = <Strategy.STATIC: 0>) -> None":
        [[["s", "ILogger.Severity", "Strategy.STATIC"]], "None"],
    "f(self: t.Builder, call: Callable[[int, str], bool], /) -> tuple[bool, list[int]]":
        [[["call", "Callable[[int, str], bool]"]], "tuple[bool, list[int]]"],
    "f(self: t.Builder, flag: nvonnxparser::OnnxParserFlag) -> nvonnxparser::IParserError":
        [[["flag", "OnnxParserFlag"]], "ParserError"],
    "f(self: t.Builder, memory: typing_extensions.Buffer = <t.t.Dims object at 0x7f>) -> bool":
        [[["memory", "Buffer", "..."]], "bool"],
    "(arg0: t.Builder) -> collections.abc.Sequence[typing.SupportsFloat]":
        [[], "Sequence[SupportsFloat]"],
}  # fmt: skip


@pytest.mark.parametrize("doc", LINES)
def test_a_line(doc):
    assert signatures(doc, KNOWN, drop_self=True) == [LINES[doc]]


def test_overloads_keep_their_order():
    doc = """get(*args, **kwargs)
Overloaded function.

1. get(self: trt.Dims, arg0: typing.SupportsInt) -> int


    1. no signature

2. get(self: trt.Dims, arg0: slice) -> tuple
"""
    assert signatures(doc, KNOWN, drop_self=True) == [
        [[["arg0", "SupportsInt"]], "int"],
        [[["arg0", "slice"]], "tuple"],
    ]


def test_a_function_of_the_module_keeps_its_first_argument():
    found = signatures("f(logger: trt.ILogger) -> bool", KNOWN, drop_self=False)
    assert found == [[[["logger", "ILogger"]], "bool"]]


@pytest.mark.parametrize("doc", [None, "", "What the property is."])
def test_no_signature(doc):
    assert signatures(doc, KNOWN, drop_self=True) == []


def test_interfaces_that_have_their_own_name_keep_it():
    assert type_name("nvinfer1::ILogger", KNOWN) == "ILogger"
