"""Questions whose answer, a value or the type of an error, double and library have to share.

Each gets the library and a :class:`Bench` of its objects.
"""

from collections.abc import Callable
from typing import Any

from .sequence import INPUT, configured, model, parsed, recorder


class Bench:
    """Objects of one library, as they are before a build."""

    def __init__(self, trt: Any) -> None:
        self.logger = recorder(trt)
        self.builder = trt.Builder(self.logger)
        self.network = parsed(trt, self.builder, self.logger)
        self.config = configured(trt, self.builder)
        self.profile = self.builder.create_optimization_profile()
        self.dims = trt.Dims((1, 2, 3))


Question = Callable[[Any, Bench], Any]


def answer(question: Question, trt: Any, bench: Bench) -> Any:
    """Return the answer of a library as a plain value, errors as their type in the library."""
    try:
        value = question(trt, bench)
    except (AttributeError, TypeError, IndexError) as error:
        kinds = (AttributeError, TypeError, IndexError)
        return next(kind.__name__ for kind in kinds if isinstance(error, kind))
    plain = isinstance(value, bool | int | float | str | tuple | list | type(None))
    return value if plain else str(value)


def _without_init(trt: Any, bench: Bench) -> Any:
    class Logger(trt.ILogger):
        def __init__(self) -> None:
            """Does not call that of the base."""

    return Logger()


def _parse(data: bytes) -> Question:
    def parse(trt: Any, bench: Bench) -> tuple[bool, int]:
        network = bench.builder.create_network(0)
        parser = trt.OnnxParser(network, bench.logger)
        return parser.parse(data), network.num_layers

    return parse


def _invalid_profile(trt: Any, bench: Bench) -> tuple[bool, int, int]:
    bench.profile.set_shape(INPUT, (3, 4), (2, 4), (1, 4))
    added = bench.config.add_optimization_profile(bench.profile)
    return bool(bench.profile), added, bench.config.num_optimization_profiles


def _flags(trt: Any, bench: Bench) -> tuple[bool, ...]:
    flag, config = trt.BuilderFlag.REFIT, bench.config
    before = config.get_flag(flag)
    config.set_flag(flag)
    after = config.get_flag(flag)
    config.clear_flag(flag)
    return before, after, config.get_flag(flag), bool(config.flags >> int(flag) & 1)


def _capability(trt: Any, bench: Bench) -> tuple[Any, ...]:
    bench.config.num_compute_capabilities = 1
    wanted = trt.ComputeCapability.SM89
    answers = [bench.config.set_compute_capability(wanted, index) for index in (0, 1)]
    return *answers, bench.config.get_compute_capability(0) == wanted


def _set(name: str, value: Any) -> Question:
    return lambda trt, bench: setattr(bench.config, name, value)


QUESTIONS: dict[str, Question] = {
    "default flags": lambda trt, bench: bench.config.flags,
    "flags": _flags,
    "workspace": lambda trt, bench: bench.config.get_memory_pool_limit(
        trt.MemoryPoolType.WORKSPACE
    ),
    "no monitor": lambda trt, bench: bench.config.progress_monitor,
    "profiles": lambda trt, bench: bench.config.num_optimization_profiles,
    "invalid profile": _invalid_profile,
    "shape of no input": lambda trt, bench: bench.profile.get_shape("no input"),
    "empty profile": lambda trt, bench: bool(bench.profile),
    "compute capability": _capability,
    "typed": lambda trt, bench: bench.network.get_flag(
        trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED
    ),
    "ends": lambda trt, bench: (bench.network.num_inputs, bench.network.num_outputs),
    "no such input": lambda trt, bench: bench.network.get_input(9),
    "input": lambda trt, bench: bench.network.get_input(0).name,
    "input shape": lambda trt, bench: tuple(bench.network.get_input(0).shape),
    "input type": lambda trt, bench: bench.network.get_input(0).dtype,
    "direction": lambda trt, bench: bench.network.get_output(0).is_network_input,
    "layers": lambda trt, bench: bench.network.num_layers,
    "parse": _parse(model()),
    "parse nothing": _parse(b"nothing"),
    "dims": lambda trt, bench: (len(bench.dims), bench.dims[0], bench.dims[1:], str(bench.dims)),
    "dims are equal": lambda trt, bench: (bench.dims == (1, 2, 3), bench.dims == [1, 2]),
    "dims and dims": lambda trt, bench: bench.dims == trt.Dims((1, 2, 3)),
    "dims end": lambda trt, bench: list(bench.dims),
    "dims beyond": lambda trt, bench: bench.dims[3],
    "rank": lambda trt, bench: trt.Dims.MAX_DIMS,
    "member": lambda trt, bench: (str(trt.BuilderFlag.TF32), trt.BuilderFlag.TF32.name),
    "member in text": lambda trt, bench: repr(trt.BuilderFlag.TF32),
    "members": lambda trt, bench: sorted(trt.BuilderFlag.__members__),
    "member of value": lambda trt, bench: trt.DataType(1).name,
    "member and number": lambda trt, bench: int(trt.BuilderFlag.TF32) == trt.BuilderFlag.TF32,
    "order": lambda trt, bench: trt.BuilderFlag.TF32 > trt.BuilderFlag.REFIT,
    "order with a number": lambda trt, bench: trt.BuilderFlag.TF32 > 1,
    "shift": lambda trt, bench: 1 << trt.BuilderFlag.TF32,
    "or": lambda trt, bench: trt.BuilderFlag.TF32 | trt.BuilderFlag.REFIT,
    "alias": lambda trt, bench: trt.float16 == trt.DataType.HALF,
    "severity": lambda trt, bench: trt.Logger.ERROR == trt.ILogger.Severity.ERROR,
    "minimum": lambda trt, bench: trt.Logger(trt.Logger.ERROR).min_severity,
    "sizes": lambda trt, bench: sorted(
        (name, kind.itemsize or 0) for name, kind in trt.DataType.__members__.items()
    ),
    "numpy": lambda trt, bench: trt.nptype(trt.int32).__name__,
    "no numpy": lambda trt, bench: trt.nptype(trt.int4),
    "volume": lambda trt, bench: trt.volume(bench.dims),
    "unknown class": lambda trt, bench: trt.Bilder,
    "unknown member": lambda trt, bench: trt.BuilderFlag.FP16,
    "unknown method": lambda trt, bench: bench.builder.create_netwrk(),
    "unknown attribute": _set("max_workspace_size", 1),
    "attribute that is read only": _set("num_optimization_profiles", 1),
    "attribute of another type": _set("progress_monitor", 1),
    "level": _set("builder_optimization_level", 3),
    "level of another type": _set("builder_optimization_level", "high"),
    "level of float": _set("builder_optimization_level", 1.5),
    "unknown argument": lambda trt, bench: bench.builder.create_network(flag=0),
    "too many arguments": lambda trt, bench: bench.builder.create_network(0, 0),
    "missing argument": lambda trt, bench: trt.Runtime(),
    "argument of another type": lambda trt, bench: bench.config.set_flag(3),
    "no member": lambda trt, bench: bench.config.set_flag(None),
    "no shape": lambda trt, bench: bench.profile.set_shape(INPUT, None, None, None),
    "shape as list": lambda trt, bench: bench.profile.set_shape(INPUT, [1, 4], [1, 4], [1, 4]),
    "shape of floats": lambda trt, bench: bench.profile.set_shape(INPUT, *[(1.5, 4)] * 3),
    "flag as number": lambda trt, bench: str(bench.builder.create_network(True) is None),
    "no constructor": lambda trt, bench: trt.IBuilderConfig(),
    "no call of the base": _without_init,
    "attribute of an object": lambda trt, bench: setattr(trt.Logger(), "name", "x"),
    "attribute of a derived object": lambda trt, bench: setattr(bench.logger, "name", "x"),
}
