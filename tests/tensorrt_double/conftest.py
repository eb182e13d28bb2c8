"""One double of every frozen version."""

from __future__ import annotations

import pytest

from . import VERSIONS, TensorRTDouble, fresh_double


@pytest.fixture(params=VERSIONS)
def double(request) -> TensorRTDouble:
    return fresh_double(request.param)
