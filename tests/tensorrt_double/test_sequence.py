"""The shortest way from a model to a running engine works on every version's double."""

from typing import Any

import numpy as np
import pytest

from . import ParserFault, Phase, Script, Tensor, TensorRTDouble, fresh_double
from .sequence import INPUT, OUTPUT, build, model, monitor, parsed, recorder, strongly_typed


def _context(double: TensorRTDouble) -> Any:
    trt = double.module
    logger = trt.Logger(trt.Logger.WARNING)
    engine = trt.Runtime(logger).deserialize_cuda_engine(build(trt, logger))
    return engine.create_execution_context()


def test_a_model_is_built_loaded_and_run(double):
    context = _context(double)
    engine = context.engine
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    assert names == [INPUT, OUTPUT]
    assert engine.get_tensor_mode(OUTPUT) == double.module.TensorIOMode.OUTPUT
    assert double.module.nptype(engine.get_tensor_dtype(INPUT)) is np.float16
    assert tuple(engine.get_tensor_shape(INPUT)) == (-1, 4)
    assert [tuple(shape) for shape in engine.get_tensor_profile_shape(INPUT, 0)][-1] == (3, 4)
    assert context.set_input_shape(INPUT, (2, 4))
    assert context.get_tensor_shape(OUTPUT) == (2, 4)
    assert all(context.set_tensor_address(name, 4096) for name in names)
    assert context.execute_async_v3(stream_handle=7)
    assert double.called("IExecutionContext.execute_async_v3") == [{"stream_handle": 7}]
    assert double.rejections == []
    assert double.messages == []


def test_an_execution_lacks_shapes_or_addresses(double):
    context = _context(double)
    assert context.infer_shapes() == [INPUT]
    assert not context.execute_async_v3(0)
    assert "frames are not specified" in double.messages[-1][1]
    assert context.set_input_shape(INPUT, (3, 4))
    assert context.all_binding_shapes_specified
    assert context.set_tensor_address(INPUT, 4096)
    assert not context.execute_async_v3(0)
    assert "no address is set for scores" in double.messages[-1][1]


@pytest.mark.parametrize(
    ("name", "shape"), [(INPUT, (4, 4)), (INPUT, (2, 5)), (INPUT, (2,)), (OUTPUT, (2, 4))]
)
def test_shapes_outside_of_the_profile_are_refused(double, name, shape):
    context = _context(double)
    assert not context.set_input_shape(name, shape)
    assert double.messages[-1][0] == "ERROR"


def test_what_runs_can_be_scripted(double):
    ran = []
    double.script.on_execute = lambda context: ran.append(context.get_tensor_address(OUTPUT))
    context = _context(double)
    context.set_input_shape(INPUT, (1, 4))
    context.set_tensor_address(INPUT, 4096)
    context.set_tensor_address(OUTPUT, 8192)
    assert context.execute_async_v3(0)
    assert ran == [8192]


def test_an_output_allocator_is_asked_and_told(double):
    trt = double.module

    class Allocator(trt.IOutputAllocator):
        def __init__(self) -> None:
            super().__init__()
            self.heard: list[Any] = []

        def reallocate_output(self, name: str, memory: int, size: int, alignment: int) -> int:
            self.heard.append((name, memory, size))
            return 1 << 20

        def notify_shape(self, name: str, shape: Any) -> None:
            self.heard.append((name, tuple(shape)))

    context, allocator = _context(double), Allocator()
    context.set_input_shape(INPUT, (3, 4))
    context.set_tensor_address(INPUT, 4096)
    assert context.set_output_allocator(OUTPUT, allocator)
    assert context.execute_async_v3(0)
    assert allocator.heard == [(OUTPUT, 0, 24), (OUTPUT, (3, 4))]
    assert context.get_tensor_address(OUTPUT) == 1 << 20
    assert double.rejections == []


def test_the_monitor_hears_the_phases(double):
    trt = double.module
    double.script.phases = [Phase("Building engine", 2, (Phase("Timing tactics", 1),))]
    listener = monitor(trt)
    assert build(trt, trt.Logger(), listener) is not None
    assert listener.started == [("Building engine", None), ("Timing tactics", "Building engine")]
    assert listener.finished == ["Timing tactics", "Building engine"]
    assert ("Timing tactics", 0) in listener.steps


def test_the_monitor_cancels_a_build(double):
    trt = double.module
    listener = monitor(trt, cancel_in="Timing tactics")
    assert build(trt, trt.Logger(), listener) is None
    assert listener.finished == ["Timing tactics", "Building engine"]
    assert "canceled" in double.messages[-1][1]


def test_a_derived_logger_hears_the_build(double):
    trt, logger = double.module, recorder(double.module)
    double.script.log = [("VERBOSE", "Name: /neck/Relu, LayerType: kgen")]
    build(trt, logger)
    assert logger.lines == [(trt.Logger.VERBOSE, "Name: /neck/Relu, LayerType: kgen")]


def test_parser_errors_are_scripted(double):
    trt = double.module
    double.script.faults = [ParserFault("no such operator", 3, "/neck/Foo", "Foo")]
    logger = trt.Logger()
    parser = trt.OnnxParser(trt.Builder(logger).create_network(0), logger)
    assert not parser.parse(model())
    assert parser.num_errors == 1
    error = parser.get_error(0)
    assert (error.desc(), error.node()) == ("no such operator", 3)
    assert (error.node_name(), error.node_operator()) == ("/neck/Foo", "Foo")
    assert error.code() == trt.ErrorCode.UNSUPPORTED_NODE
    with pytest.raises(AssertionError, match="num_errors is 1"):
        parser.get_error(1)


def test_what_is_no_model_is_not_parsed(double):
    trt = double.module
    logger = trt.Logger()
    parser = trt.OnnxParser(trt.Builder(logger).create_network(0), logger)
    assert not parser.parse(b"no model")
    assert parser.get_error(0).code() == trt.ErrorCode.MODEL_DESERIALIZE_FAILED


def test_a_dynamic_input_needs_a_profile(double):
    trt = double.module
    logger = trt.Logger()
    builder = trt.Builder(logger)
    network = parsed(trt, builder, logger)
    assert builder.build_serialized_network(network, builder.create_builder_config()) is None
    assert "no optimization profile" in double.messages[-1][1]


@pytest.mark.parametrize("name", ["tensorrt-10.3", "tensorrt-10.13"])
def test_precision_flags_do_not_go_with_strong_types(name):
    double = fresh_double(name)
    trt = double.module
    logger = trt.Logger()
    builder = trt.Builder(logger)
    network = builder.create_network(strongly_typed(trt))
    assert trt.OnnxParser(network, logger).parse(model())
    config = builder.create_builder_config()
    config.set_flag(trt.BuilderFlag.FP16)
    assert config.get_flag(trt.BuilderFlag.FP16)
    assert builder.build_serialized_network(network, config) is None
    assert "FP16 is not allowed" in double.messages[-1][1]


def test_plans_of_another_version_are_refused():
    old, new = fresh_double("tensorrt-10.3"), fresh_double("tensorrt-11.4")
    plan = build(old.module, old.module.Logger())
    runtime = new.module.Runtime(new.module.Logger())
    assert runtime.deserialize_cuda_engine(plan) is None
    assert runtime.deserialize_cuda_engine(b"no plan") is None
    assert "10.3" in new.messages[0][1]


def test_networks_are_made_by_hand(double):
    trt = double.module
    builder = trt.Builder(trt.Logger())
    network = builder.create_network(strongly_typed(trt))
    made = network.add_identity(network.add_input("a", trt.float16, (2, 3))).get_output(0)
    made.name = "b"
    network.mark_output(made)
    assert (network.num_inputs, network.get_output(0).name) == (1, "b")
    config = builder.create_builder_config()
    plan = builder.build_serialized_network(network, config)
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(plan)
    assert [engine.get_tensor_name(index) for index in range(2)] == ["a", "b"]
    assert engine.get_tensor_dtype("a") == trt.float16
    if hasattr(builder, "build_engine_with_config"):
        assert builder.build_engine_with_config(network, config).num_io_tensors == 2


def test_plans_tensors_and_values_are_scripted(double):
    trt = double.module
    tensors = (Tensor("a", (1, 3), is_input=True), Tensor("b", (1, 3), is_input=False))
    double.script = Script(tensors=tensors, plan=b"plan")
    double.script.returns["ICudaEngine.device_memory_size_v2"] = 12345
    double.script.returns["ICudaEngine.get_tensor_location"] = lambda engine, name: name * 2
    engine = trt.Runtime(trt.Logger()).deserialize_cuda_engine(b"plan")
    assert engine.num_io_tensors == 2
    assert engine.get_tensor_location("a") == "aa"
    if hasattr(engine, "device_memory_size_v2"):
        assert engine.device_memory_size_v2 == 12345
    double.script.load_fails = True
    assert trt.Runtime(trt.Logger()).deserialize_cuda_engine(b"plan") is None
    double.script.build_fails = True
    assert build(trt, trt.Logger()) is None
