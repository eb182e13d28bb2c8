"""An array that answers the few torch methods with which scripts fetch masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


class TensorLike(np.ndarray):
    """A numpy array; ``(logits > 0).cpu().numpy()`` works on it as on a torch tensor.

    Scripts for the official predictor are full of this idiom; with it they run unchanged.
    """

    def cpu(self) -> TensorLike:
        """Return the array itself: it is in host memory."""
        return self

    def detach(self) -> TensorLike:
        """Return the array itself: it has no gradient."""
        return self

    def float(self) -> npt.NDArray[np.float32]:
        """Return the array as float32."""
        return self.astype(np.float32, copy=False)

    def to(self, *_args: Any, **_kwargs: Any) -> TensorLike:
        """Return the array itself, whatever device is asked for."""
        return self

    def numpy(self) -> npt.NDArray[Any]:
        """Return a plain view of the same memory."""
        return self.view(np.ndarray)
