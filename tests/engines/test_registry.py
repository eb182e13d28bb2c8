"""Engines by name, and those that other packages bring."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.protocol import engine_of
from qsam2_deploy.engines.registry import BUILT_IN, backend_names, engine_named, engines
from qsam2_deploy.errors import InputError, Qsam2Error
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.tracking.results import Prompt

TOY = '''
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.protocol import WrappedBackend
from qsam2_deploy.engines.registry import Engine


class ToyBackend(WrappedBackend):
    """Counts what another engine runs."""

    name, precision = "toy", "exact"

    def __init__(self, model, *, threads=None):
        super().__init__(OrtBackend(model, threads))
        self.runs = []

    def run(self, component, inputs):
        self.runs.append(component)
        return super().run(component, inputs)


ENGINE = Engine("toy", "onnxruntime", "toy_engine:ToyBackend", options=("threads",))
OTHER = Engine("another", "onnxruntime", "toy_engine:ToyBackend")
ORT = Engine("ort", "onnxruntime", "toy_engine:ToyBackend")
'''

Install = Callable[[str], None]


@pytest.fixture
def install(tmp_path, monkeypatch) -> Iterator[Install]:
    """Give a function that installs a package with one engine, as pip would leave it."""

    def install(point: str) -> None:
        (tmp_path / "toy_engine.py").write_text(TOY)
        about = tmp_path / "toy_engine-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-engine\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[qsam2_deploy.engines]\n{point}\n")
        monkeypatch.syspath_prepend(tmp_path)
        engines.cache_clear()

    yield install
    engines.cache_clear()


def test_an_engine_of_another_package_runs_a_model(install, model_path):
    pytest.importorskip("onnxruntime", reason="the toy engine is made of ONNX Runtime")
    install("toy = toy_engine:ENGINE")
    assert backend_names()[-1] == "toy"
    toy = open_backend(model_path, "toy", threads=1)
    assert engine_of(toy) == "toy, exact"
    frame = np.zeros((48, 64, 3), np.uint8)
    with VideoSegmenter(toy) as segmenter:
        segmenter.track(frame, [Prompt(points=[(20, 20)], labels=[1])])
    assert toy.runs[0] == "image_encoder"


def test_auto_does_not_choose_what_does_not_ask_for_it(install):
    install("toy = toy_engine:ENGINE")
    assert not engine_named("toy").chosen


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("toy = toy_engine:NOTHING", "the engine toy of toy_engine:NOTHING cannot be loaded"),
        ("toy = no_such_module:ENGINE", "cannot be loaded"),
        ("toy = toy_engine:TOY_TEXT", "cannot be loaded"),
        ("toy = toy_engine:ToyBackend", "must be an engine of the name toy"),
        ("toy = toy_engine:OTHER", "must be an engine of the name toy"),
        ("ort = toy_engine:ORT", "must be an engine of the name ort, which no other has"),
    ],
)
def test_a_package_that_brings_none_is_named(install, point, message):
    install(point)
    with pytest.raises(Qsam2Error, match=message):
        engines()


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(InputError, match=r"must be one of auto, ort, openvino, .*, but got 'x'"):
        engine_named("x")


def test_every_engine_of_ours_is_there():
    assert [engine.name for engine in BUILT_IN] == list(engines())
    for engine in BUILT_IN:
        module, _, name = engine.backend.partition(":")
        path = Path(*module.split(".")).with_suffix(".py")
        assert f"class {name}" in (Path(__file__).parents[2] / path).read_text()
