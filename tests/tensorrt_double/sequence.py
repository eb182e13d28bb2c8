"""The shortest way from an ONNX model to a running engine, for any version of the library.

It runs on the doubles and, where it is installed, on TensorRT-RTX itself, whose builder needs no
GPU: what the doubles take is what the library takes.
"""

from typing import Any

from onnx import TensorProto, helper

from tests.support.graphs import model_of

INPUT, OUTPUT = "frames", "scores"
SMALLEST, BEST, LARGEST = (1, 4), (2, 4), (3, 4)


def model() -> bytes:
    """Return a model of one layer, whose input and output have a batch of any size."""
    node = helper.make_node("Relu", [INPUT], [OUTPUT], name="/neck/Relu")
    types = dict.fromkeys((INPUT, OUTPUT), TensorProto.FLOAT16)
    made = model_of([node], {INPUT: ("batch", 4)}, {OUTPUT: ("batch", 4)}, types=types)
    return made.SerializeToString()


def strongly_typed(trt: Any) -> int:
    """Return the flags of a strongly typed network."""
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def parsed(trt: Any, builder: Any, logger: Any) -> Any:
    """Return the network of the model."""
    network = builder.create_network(strongly_typed(trt))
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(model()), parser.get_error(0).desc()
    assert parser.num_errors == 0
    return network


def configured(trt: Any, builder: Any) -> Any:
    """Return the configuration, with the profile that the dynamic input needs."""
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1 << 24)
    profile = builder.create_optimization_profile()
    profile.set_shape(INPUT, SMALLEST, BEST, LARGEST)
    assert [tuple(shape) for shape in profile.get_shape(INPUT)] == [SMALLEST, BEST, LARGEST]
    assert config.add_optimization_profile(profile) == 0
    return config


def build(trt: Any, logger: Any, monitor: Any = None) -> Any:
    """Return the serialized engine of the model, or none if the library builds none."""
    builder = trt.Builder(logger)
    config = configured(trt, builder)
    config.progress_monitor = monitor
    return builder.build_serialized_network(parsed(trt, builder, logger), config)


def recorder(trt: Any) -> Any:
    """Return a logger of the library, derived in Python, that keeps what it is told."""

    class Recorder(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[tuple[Any, str]] = []

        def log(self, severity: Any, msg: str) -> None:
            self.lines.append((severity, msg))

    return Recorder()


def monitor(trt: Any, *, cancel_in: str | None = None) -> Any:
    """Return a progress monitor that keeps what it is told, and stops a build in one phase."""

    class Monitor(trt.IProgressMonitor):
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.started: list[tuple[str, str | None]] = []
            self.finished: list[str] = []
            self.steps: list[tuple[str, int]] = []

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            assert num_steps > 0
            self.started.append((phase_name, parent_phase))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self.steps.append((phase_name, step))
            return phase_name != cancel_in

        def phase_finish(self, phase_name: str) -> None:
            self.finished.append(phase_name)

    return Monitor()
