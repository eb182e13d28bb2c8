"""One double of every frozen version."""

import pytest

from . import VERSIONS, TensorRTDouble, fresh_double


@pytest.fixture(params=VERSIONS)
def double(request) -> TensorRTDouble:
    return fresh_double(request.param)
