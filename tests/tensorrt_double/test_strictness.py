"""The doubles refuse what the version has not, and take what it has."""

import contextlib
from collections.abc import Callable
from typing import Any

import pytest

from . import VERSIONS, ApiError, BadCallError, TensorRTDouble, UnknownNameError, fresh_double
from .sequence import build

STRONGLY_TYPED_ONLY = [name for name in VERSIONS if not name.startswith("tensorrt-10.")]
REMOVED = ["FP16", "BF16", "INT8", "FP8", "INT4", "OBEY_PRECISION_CONSTRAINTS"]


def _config(double: TensorRTDouble) -> Any:
    trt = double.module
    return trt.Builder(trt.Logger()).create_builder_config()


@pytest.mark.parametrize("flag", REMOVED)
@pytest.mark.parametrize("name", VERSIONS)
def test_removed_flags_raise_where_they_were_removed(name, flag):
    double = fresh_double(name)
    if name in STRONGLY_TYPED_ONLY:
        with pytest.raises(AssertionError, match=rf"BuilderFlag\.{flag} .* {double.api.version}"):
            getattr(double.module.BuilderFlag, flag)
    else:
        _config(double).set_flag(getattr(double.module.BuilderFlag, flag))
        assert double.rejections == []


def test_there_are_versions_of_both_kinds():
    assert {name.split(".")[0] for name in VERSIONS} == {
        "tensorrt-10", "tensorrt-11", "tensorrt_rtx-1",
    }  # fmt: skip
    assert len(STRONGLY_TYPED_ONLY) < len(VERSIONS)


@pytest.mark.parametrize("name", VERSIONS)
def test_explicit_batch_is_gone_from_11_on(name):
    flags = fresh_double(name).module.NetworkDefinitionCreationFlag
    assert hasattr(flags, "EXPLICIT_BATCH") == (name not in STRONGLY_TYPED_ONLY)


def test_unknown_bits_of_a_network_raise(double):
    builder = double.module.Builder(double.module.Logger())
    with pytest.raises(ApiError, match="0x80"):
        builder.create_network(1 << 7)


UNKNOWN: dict[str, Callable[[Any, Any], Any]] = {
    "Bilder": lambda trt, config: trt.Bilder,
    "BuilderFlag.FP17": lambda trt, config: trt.BuilderFlag.FP17,
    "Builder.create_netwrk": lambda trt, config: trt.Builder.create_netwrk,
    "IBuilderConfig.max_workspace_size": lambda trt, config: config.max_workspace_size,
    "IBuilderConfig.workspace cannot be set": lambda trt, config: setattr(config, "workspace", 1),
    "IBuilderConfig.set_flags": lambda trt, config: config.set_flags(0),
    "IBuilderConfig.num_optimization_profiles cannot be set": lambda trt, config: setattr(
        config, "num_optimization_profiles", 1
    ),
    "BuilderFlag.name cannot be set": lambda trt, config: setattr(
        trt.BuilderFlag.TF32, "name", "x"
    ),
    "Severity.FATAL": lambda trt, config: trt.Logger.Severity.FATAL,
}


BAD_CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "no argument 'pool_limit'": lambda trt, config: config.set_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE, pool_limit=3
    ),
    "takes 2 positional arguments, but got 3": lambda trt, config: config.set_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE, 3, 4
    ),
    "needs the argument 'pool_size'": lambda trt, config: config.set_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE
    ),
    "two values for 'pool'": lambda trt, config: config.set_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE, pool=trt.MemoryPoolType.WORKSPACE
    ),
    "as 'pool_size', but got 1.5": lambda trt, config: config.set_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE, 1.5
    ),
    "takes BuilderFlag as 'flag', but got 3": lambda trt, config: config.set_flag(3),
    "takes BuilderFlag as 'flag', but got None": lambda trt, config: config.set_flag(None),
    "takes ILogger as 'logger'": lambda trt, config: trt.Builder("logger"),
    "needs the argument 'logger'": lambda trt, config: trt.Runtime(),
    "cannot be called from Python": lambda trt, config: trt.IBuilderConfig(),
    "progress_monitor takes IProgressMonitor": lambda trt, config: setattr(
        config, "progress_monitor", print
    ),
    "BuilderFlag has no member of the value 99": lambda trt, config: trt.BuilderFlag(99),
    "cannot be compared": lambda trt, config: trt.BuilderFlag.TF32 > 1,
    "takes SupportsInt|takes int": lambda trt, config: trt.Builder(trt.Logger()).create_network(
        flags="typed"
    ),
}


@pytest.mark.parametrize(
    ("message", "call", "error", "real"),
    [
        *((*case, UnknownNameError, AttributeError) for case in UNKNOWN.items()),
        *((*case, BadCallError, TypeError) for case in BAD_CALLS.items()),
    ],
)
def test_what_does_not_exist_raises(double, message, call, error, real):
    config = _config(double)
    with pytest.raises(error, match=message) as caught:
        call(double.module, config)
    assert double.api.title in str(caught.value)
    assert isinstance(caught.value, real)  # as the real library
    assert double.rejections == [caught.value]


def test_asking_for_a_name_is_remembered_and_no_mistake(double):
    assert not hasattr(double.module, "Bilder")
    assert "Bilder" in str(double.rejections[0])
    double.check()


def test_a_swallowed_bad_call_is_remembered(double):
    with contextlib.suppress(Exception):
        double.module.Runtime()
    with pytest.raises(BadCallError, match=r"Runtime\.__init__ needs the argument 'logger'"):
        double.check()


def test_calls_are_recorded_by_argument_name(double):
    trt, config = double.module, _config(double)
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, pool_size=1 << 20)
    config.builder_optimization_level = 4
    assert double.called("IBuilderConfig.set_memory_pool_limit") == [
        {"pool": trt.MemoryPoolType.WORKSPACE, "pool_size": 1 << 20}
    ]
    assert double.called("IBuilderConfig.builder_optimization_level=") == [{"value": 4}]
    assert double.names_called[0] == "Logger.__init__"
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 20
    assert config.builder_optimization_level == 4


def test_results_have_the_class_of_the_signature(double):
    trt = double.module
    builder = trt.Builder(trt.Logger())
    assert isinstance(builder.create_network(), trt.INetworkDefinition)
    assert isinstance(builder.create_builder_config(), trt.IBuilderConfig)
    network = builder.create_network()
    layer = network.add_identity(network.add_input("x", trt.float32, (1, 2)))
    assert isinstance(layer, trt.IIdentityLayer)
    assert isinstance(layer, trt.ILayer)
    assert isinstance(layer.get_output(0), trt.ITensor)


def test_every_class_and_constant_is_there(double):
    names = [*double.api.classes, *double.api.enums, *double.api.functions, *double.api.constants]
    assert len(names) > 180
    for name in names:
        value: Any = double.module
        for part in name.split("."):
            value = getattr(value, part)
    assert double.rejections == []


def test_host_memory_is_a_buffer_and_nothing_else(double):
    trt = double.module
    plan = build(trt, trt.Logger())
    assert len(bytes(plan)) == plan.nbytes == memoryview(plan).nbytes > 0
    for use in (len, list, lambda memory: memory[0], lambda memory: memory.tobytes()):
        with pytest.raises(ApiError):
            use(plan)


def test_members_are_no_numbers(double):
    flag = double.module.BuilderFlag.TF32
    assert flag != int(flag)
    assert flag == double.module.BuilderFlag(int(flag))
    assert {flag: 1}[double.module.BuilderFlag.TF32] == 1
    assert str(flag) == "BuilderFlag.TF32"
    with pytest.raises(TypeError):
        1 << flag  # the classic mistake


def test_derived_classes_have_attributes_of_their_own(double):
    trt = double.module

    class Quiet(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            self.lines.append(msg)

    class Forgetful(trt.ILogger):
        def __init__(self) -> None:
            """Does not call the base, which the bindings refuse."""

    quiet = Quiet()
    double.log(quiet, "INFO", "hello")
    assert quiet.lines == ["hello"]
    with pytest.raises(UnknownNameError, match=r"Quiet\.line"):
        quiet.line  # noqa: B018
    with pytest.raises(BadCallError, match=r"Forgetful\.__init__ has to call"):
        Forgetful()


def test_contexts_of_with_are_deprecated(double):
    trt = double.module
    with pytest.warns(DeprecationWarning, match="deprecated"), trt.Builder(trt.Logger()) as builder:
        assert isinstance(builder, trt.Builder)
