"""Results for scripts that were written for torch: arrays that answer its methods, or tensors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .module_like import Device

OUTPUTS = ("numpy", "torch")

_DTYPES = {
    "bool": np.bool_, "uint8": np.uint8, "int8": np.int8, "int16": np.int16, "short": np.int16,
    "int32": np.int32, "int": np.int32, "int64": np.int64, "long": np.int64,
    "float16": np.float16, "half": np.float16, "float32": np.float32, "float": np.float32,
    "float64": np.float64, "double": np.float64,
    "bfloat16": np.float32,  # which numpy has not
}  # fmt: skip


class TensorLike(np.ndarray):
    """A numpy array with the methods of a torch tensor that scripts call on masks.

    ``(logits > 0).cpu().numpy()`` works on it as on a tensor, and so do ``permute``, ``squeeze``,
    ``unsqueeze``, ``sigmoid``, ``to`` and the conversions. Everything else is numpy's.
    """

    # ------------------------------------------------------------- where it is
    def cpu(self) -> TensorLike:
        """Return the array itself: it is in host memory; likewise ``cuda`` and the others."""
        return self

    def detach(self) -> TensorLike:
        """Return the array itself: it has no gradient."""
        return self

    def cuda(self, *_args: Any, **_kwargs: Any) -> TensorLike:
        """Return the array itself."""
        return self

    contiguous = requires_grad_ = cuda

    @property
    def device(self) -> Any:
        """Where it is: ``cpu``."""
        return Device("cpu")

    is_cuda = False
    requires_grad = False

    def numpy(self) -> npt.NDArray[Any]:
        """Return a plain view of the same memory."""
        return self.view(np.ndarray)

    # ------------------------------------------------------------------- types
    def to(self, *args: Any, **kwargs: Any) -> TensorLike:
        """Return the array in the dtype that is asked for; devices change nothing."""
        for wanted in (*args, kwargs.get("dtype")):
            dtype = dtype_of(wanted)
            if dtype is not None:
                return _kept(self.astype(dtype, copy=False))
        return self

    type = to

    def float(self) -> TensorLike:
        """Return the array as float32; likewise the other types."""
        return _kept(self.astype(np.float32, copy=False))

    def half(self) -> TensorLike:
        """See :meth:`float`."""
        return _kept(self.astype(np.float16, copy=False))

    def double(self) -> TensorLike:
        """See :meth:`float`."""
        return _kept(self.astype(np.float64, copy=False))

    def bool(self) -> TensorLike:
        """See :meth:`float`."""
        return _kept(self.astype(np.bool_, copy=False))

    def byte(self) -> TensorLike:
        """See :meth:`float`."""
        return _kept(self.astype(np.uint8, copy=False))

    def int(self) -> TensorLike:
        """See :meth:`float`."""
        return _kept(self.astype(np.int32, copy=False))

    def long(self) -> TensorLike:
        """See :meth:`float`."""
        return _kept(self.astype(np.int64, copy=False))

    # ------------------------------------------------------------------ shapes
    def permute(self, *dims: Any) -> TensorLike:
        """Reorder the axes: ``permute(1, 2, 0)`` or ``permute((1, 2, 0))``."""
        return _kept(self.transpose(*dims))

    def squeeze(self, axis: Any = None, *, dim: Any = None) -> TensorLike:
        """Remove axes of length one; as in torch, an axis of another length stays."""
        axes = axis if dim is None else dim
        if axes is None:
            return _kept(super().squeeze())
        axes = axes if isinstance(axes, tuple) else (axes,)
        return _kept(super().squeeze(axis=tuple(axis for axis in axes if self.shape[axis] == 1)))

    def unsqueeze(self, dim: Any) -> TensorLike:
        """Add an axis of length one."""
        return _kept(np.expand_dims(self, dim))

    def dim(self) -> Any:
        """Return the number of axes."""
        return self.ndim

    def numel(self) -> Any:
        """Return the number of elements."""
        return self.size

    def clone(self) -> TensorLike:
        """Return a copy."""
        return _kept(self.copy())

    # ------------------------------------------------------------------ values
    def sigmoid(self) -> TensorLike:
        """Return ``1 / (1 + exp(-x))``."""
        return _kept(1 / (1 + np.exp(-np.clip(self, -80, 80))))


def dtype_of(wanted: Any) -> Any:
    """Return numpy's dtype of a dtype of torch or numpy; None for anything else.

    ``torch.bfloat16`` is float32, because numpy has none.
    """
    if isinstance(wanted, (np.dtype, type)):
        try:
            return np.dtype(wanted)
        except TypeError:
            return None
    name = str(wanted)
    return _DTYPES.get(name[len("torch.") :]) if name.startswith("torch.") else None


def as_output(kind: str) -> Callable[[npt.NDArray[Any]], Any]:
    """Return what turns an array into a result of the predictors; both share the array's memory.

    Args:
        kind: ``numpy``, for :class:`TensorLike`, or ``torch``, for a tensor on the CPU. torch must
            have been imported by the caller: nothing here does.

    Raises:
        InputError: another kind, or torch has not been imported.
    """
    if kind == "numpy":
        return lambda array: array.view(TensorLike)
    if kind != "torch":
        raise InputError(f"output must be one of {', '.join(OUTPUTS)}, but got {kind!r}")
    torch = sys.modules.get("torch")
    if torch is None:
        raise InputError("output='torch' needs torch to be imported before; run: import torch")
    return lambda array: torch.from_numpy(np.ascontiguousarray(array))


def on_host(value: Any) -> Any:
    """Return a tensor of torch, from any device, as an array; what is none is returned as it is."""
    if not hasattr(value, "detach") or isinstance(value, np.ndarray):
        return value
    tensor = value.detach().cpu()
    if str(tensor.dtype) == "torch.bfloat16":
        tensor = tensor.float()
    return tensor.numpy()


def _kept(array: Any) -> TensorLike:
    return cast("TensorLike", np.asarray(array).view(TensorLike))
