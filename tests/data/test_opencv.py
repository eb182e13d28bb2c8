import sys

import pytest

from qsam2_deploy.data._opencv import opencv
from qsam2_deploy.errors import MissingDependencyError


def test_missing_opencv_names_the_extra(monkeypatch):
    opencv.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'qsam2-deploy\[train\]'"):
        opencv()
