"""A stand-in for torch, for scripts that only fetch masks with it on machines that have none.

It has what scripts for SAM 2 call around the predictors: contexts that do nothing on a CPU, dtypes,
devices, and tensors that are numpy arrays
(:class:`~qsam2_deploy.predictors.tensor_like.TensorLike`). Everything else is
an error that says how to install torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, TypeVar, cast

import numpy as np

from ...predictors.module_like import Device as device  # noqa: N813 - torch's name
from ...predictors.tensor_like import TensorLike as Tensor
from ...predictors.tensor_like import dtype_of
from . import backends, cuda, nn

__version__ = "2.0.0+qsam2"

_Function = TypeVar("_Function", bound=Callable[..., Any])


class dtype:
    """A dtype by its name."""

    def __init__(self, name: str) -> None:
        """Name it."""
        self._name = name

    def __repr__(self) -> str:
        """Return the name as torch shows it."""
        return f"torch.{self._name}"


bool, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64 = (
    dtype(name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16",
                 "float32", "float64")
)  # fmt: skip
half, float, double, int, long, short = float16, float32, float64, int32, int64, int16
FloatTensor = LongTensor = BoolTensor = IntTensor = Tensor


class _Nothing:
    """A context manager and decorator that does nothing, such as ``torch.inference_mode()``."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __enter__(self) -> _Nothing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def __call__(self, function: _Function) -> _Function:
        return function


class _NoGrad(_Nothing):
    """Also a decorator without parentheses."""

    def __new__(cls, function: Any = None, *_args: Any, **_kwargs: Any) -> Any:
        return function if callable(function) else super().__new__(cls)


no_grad = inference_mode = enable_grad = _NoGrad
autocast = set_grad_enabled = _Nothing


def compile(model: Any = None, **_kwargs: Any) -> Any:
    """Return the model, or a decorator that returns it."""
    return model if model is not None else (lambda function: function)


def manual_seed(seed: Any) -> None:
    """Seed numpy."""
    np.random.seed(seed)  # noqa: NPY002 - the script draws from the global generator, if at all


def _ignore(*_args: Any, **_kwargs: Any) -> None:
    """Do nothing."""


set_float32_matmul_precision = set_num_threads = clear_autocast_cache = set_default_device = _ignore
set_default_dtype = use_deterministic_algorithms = set_printoptions = _ignore


def is_tensor(value: object) -> Any:
    """Return whether ``value`` is a tensor."""
    return isinstance(value, Tensor)


def is_autocast_enabled(*_args: Any) -> Any:
    """Return no."""
    return False


# ---------------------------------------------------------------------- making tensors
def _tensor(values: Any, wanted: Any = None) -> Tensor:
    array = np.asarray(values, dtype_of(wanted))
    if wanted is None and array.dtype == np.float64 and not isinstance(values, np.ndarray):
        array = array.astype(np.float32)  # torch's default
    return cast("Tensor", array.view(Tensor))


def from_numpy(array: Any) -> Tensor:
    """Return the array as a tensor in the same memory."""
    return cast("Tensor", np.asarray(array).view(Tensor))


def as_tensor(values: Any, dtype: Any = None, device: Any = None) -> Tensor:  # noqa: ARG001
    """Return values as a tensor."""
    return _tensor(values, dtype)


def tensor(values: Any, dtype: Any = None, device: Any = None, **_kwargs: Any) -> Tensor:  # noqa: ARG001
    """Return a copy of values as a tensor."""
    return _tensor(np.array(values) if isinstance(values, np.ndarray) else values, dtype).clone()


def full(size: Any, fill_value: Any, dtype: Any = None, device: Any = None) -> Tensor:  # noqa: ARG001
    """Return a tensor of one value."""
    return _tensor(np.full(size, fill_value, dtype_of(dtype) or np.float32))


def _filled(value: Any) -> Callable[..., Tensor]:
    def make(*size: Any, dtype: Any = None, device: Any = None) -> Tensor:  # noqa: ARG001
        shape = size[0] if len(size) == 1 and isinstance(size[0], Sequence) else size
        return full(shape, value, dtype)

    return make


zeros = empty = _filled(0)
ones = _filled(1)


def zeros_like(other: Any, dtype: Any = None, device: Any = None) -> Tensor:  # noqa: ARG001
    """Return zeros of the shape of another tensor."""
    return _tensor(np.zeros_like(other, dtype_of(dtype)))


def arange(*args: Any, dtype: Any = None, device: Any = None) -> Tensor:  # noqa: ARG001
    """Return evenly spaced numbers."""
    return _tensor(np.arange(*args, dtype=dtype_of(dtype)))


# ------------------------------------------------------------------------- computing
def cat(tensors: Any, dim: Any = 0) -> Tensor:
    """Join tensors along an axis."""
    return _tensor(np.concatenate(list(tensors), axis=dim))


def stack(tensors: Any, dim: Any = 0) -> Tensor:
    """Stack tensors along a new axis."""
    return _tensor(np.stack(list(tensors), axis=dim))


def sigmoid(values: Any) -> Tensor:
    """Return ``1 / (1 + exp(-x))``."""
    return _tensor(values).sigmoid()


def _reduced(function: Callable[..., Any]) -> Callable[..., Any]:
    def reduce(values: Any, dim: Any = None, keepdim: Any = False) -> Any:
        return from_numpy(function(values, axis=dim, keepdims=keepdim))

    return reduce


any, all, sum = _reduced(np.any), _reduced(np.all), _reduced(np.sum)
mean, argmax = _reduced(np.mean), _reduced(np.argmax)
logical_and, logical_or, logical_not, where, clamp = (
    np.logical_and, np.logical_or, np.logical_not, np.where, np.clip
)  # fmt: skip


def nonzero(values: Any, as_tuple: Any = False) -> Any:
    """Return the places that are not zero, ``[count, axes]``."""
    places = np.nonzero(np.asarray(values))
    return tuple(map(from_numpy, places)) if as_tuple else from_numpy(np.stack(places, axis=1))


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"the script uses torch.{name}, which the stand-in for torch of qsam2-run has not; run: "
        "pip install torch"
    )


__all__ = ["Tensor", "backends", "cuda", "device", "dtype", "nn"]
