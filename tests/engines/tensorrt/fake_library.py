"""A small stand-in for the engine library: it writes down what the builder was asked for.

It takes any model. What it is to refuse is set on :class:`FakeTensorRT`.
"""

from __future__ import annotations

import weakref
from types import SimpleNamespace
from typing import Any

from qsam2_deploy.engines.tensorrt.library import TENSORRT, Library


class _Severity:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class ILogger:
    Severity = _Severity


class IProgressMonitor:
    pass


class FakeTensorRT:
    """Stands for the module ``tensorrt``."""

    ILogger = ILogger
    IProgressMonitor = IProgressMonitor
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    BuilderFlag = SimpleNamespace(VERSION_COMPATIBLE="vc", EXCLUDE_LEAN_RUNTIME="no lean")
    HardwareCompatibilityLevel = SimpleNamespace(NONE=0, AMPERE_PLUS=1)
    ProfilingVerbosity = SimpleNamespace(DETAILED="detailed")
    ComputeCapability = SimpleNamespace(CURRENT=1, SM86=86, SM89=89)

    def __init__(self, version: str = "10.3.0") -> None:
        self.__version__ = version
        self.configs: list[_Config] = []
        self.flags: list[int] = []
        self.parsed: list[bytes] = []
        self.fault: SimpleNamespace | None = None
        self.errors: list[str] = []
        self.has_gpu = True

    def Builder(self, logger: Any) -> _Builder:  # noqa: N802
        if not self.has_gpu:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        return _Builder(self, logger)

    def OnnxParser(self, network: Any, logger: Any) -> _Parser:  # noqa: N802
        parser = _Parser(self)
        # The network refers to weights that are its parser's.
        network.weights = weakref.ref(parser)
        return parser

    def library(self, name: str = TENSORRT) -> Library:
        return Library(name, self.__version__, self)


class _Parser:
    def __init__(self, trt: FakeTensorRT) -> None:
        self._trt = trt
        self.num_errors = 0 if trt.fault is None else 1

    def parse(self, model: bytes) -> bool:
        self._trt.parsed.append(model)
        return self.num_errors == 0

    def get_error(self, index: int) -> Any:
        values = vars(self._trt.fault or SimpleNamespace())
        return SimpleNamespace(**{name: lambda v=value: v for name, value in values.items()})


class _Config:
    def __init__(self) -> None:
        self.pools: dict[Any, int] = {}
        self.set_flags: list[Any] = []
        self.profiles: list[dict[str, Any]] = []
        self.capabilities: dict[int, Any] = {}
        self.cache: SimpleNamespace | None = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self.pools[pool] = size

    def set_flag(self, flag: Any) -> None:
        self.set_flags.append(flag)

    def add_optimization_profile(self, profile: _Profile) -> int:
        self.profiles.append(profile.shapes)
        return len(self.profiles) - 1

    def set_compute_capability(self, capability: Any, index: int) -> bool:
        self.capabilities[index] = capability
        return True

    def create_timing_cache(self, stored: bytes) -> SimpleNamespace:
        return SimpleNamespace(stored=stored, serialize=lambda: stored + b"+")

    def set_timing_cache(self, cache: SimpleNamespace, ignore_mismatch: bool) -> bool:
        assert ignore_mismatch is False
        if cache.stored.startswith(b"foreign"):
            return False
        self.cache = cache
        return True


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        self.shapes[name] = (smallest, usual, largest)


class _Builder:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self._trt, self._logger = trt, logger

    def create_network(self, flags: int) -> SimpleNamespace:
        self._trt.flags.append(flags)
        return SimpleNamespace(num_layers=7)

    def create_builder_config(self) -> _Config:
        self._trt.configs.append(_Config())
        return self._trt.configs[-1]

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        assert network.weights() is not None, "the parser is gone, and the weights with it"
        monitor = config.progress_monitor
        monitor.phase_start("outer", None, 2)
        for phase in ("first", "second"):
            monitor.phase_start(phase, "outer", 3)
            if not all(monitor.step_complete(phase, step) for step in range(3)):
                return None
            monitor.phase_finish(phase)
        monitor.phase_finish("outer")
        self._logger.log(_Severity.WARNING, "a warning")
        for text in self._trt.errors:
            self._logger.log(_Severity.ERROR, text)
        return None if self._trt.errors else b"plan " + self._trt.parsed[-1][-20:]
