"""Cases of parametrized tests that run with the slow ones."""

from functools import partial

import pytest

slow = partial(pytest.param, marks=pytest.mark.slow)
