"""The engine is measured once, remembered, and never in the way of opening a model."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsam2_deploy._common.files import user_cache_folder
from qsam2_deploy.engines import choose as auto
from qsam2_deploy.engines.choose import AutoBackend
from qsam2_deploy.engines.onnxruntime.cpu import OrtBackend
from qsam2_deploy.engines.open import open_backend
from qsam2_deploy.engines.options import BackendOptions
from qsam2_deploy.engines.protocol import Backend, engine_of
from qsam2_deploy.errors import EngineError, ModelFileError
from qsam2_deploy.model_file.bundle import read_bundle
from qsam2_deploy.predictors.segmenter import VideoSegmenter
from qsam2_deploy.spec import COMPONENTS, IMAGE_ENCODER
from tests.support.components import random_inputs

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "caches"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.setattr(auto, "user_cache_folder", user_cache_folder)
    return folder / "qsam2-deploy"


class Timed:
    """An engine that takes a certain time, and may fail."""

    def __init__(self, engines: Engines, name: str) -> None:
        self._engines, self.name, self.spec = engines, name, engines.spec
        self.precision = "exact"

    def __enter__(self) -> Timed:
        self._engines.events.append(("enter", self.name))
        if self.name in self._engines.broken:
            raise EngineError(f"{self.name} is broken")
        return self

    def __exit__(self, *error: object) -> None:
        self._engines.events.append(("exit", self.name))

    def run(self, component: str, inputs: dict[str, Any]) -> dict[str, Any]:
        wanted = {tensor.name for tensor in self.spec.component(component).inputs}
        assert inputs.keys() == wanted
        self._engines.now += self._engines.seconds[self.name]
        return {}


class Engines:
    """Two engines on a clock of their own."""

    def __init__(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spec = read_bundle(model).spec
        self.model, self.now = model, 0.0
        self.seconds = {"ort": 0.2, "openvino": 0.1}
        self.broken: set[str] = set()
        self.events: list[tuple[str, str]] = []
        self.caches: list[Any] = []
        monkeypatch.setattr(auto.time, "perf_counter", lambda: self.now)

    def open(self, options: BackendOptions, name: str) -> Backend:
        self.caches.append(options.cache)
        return Timed(self, name)

    def backend(self, threads: int | None = None, cache: Path | None = None) -> AutoBackend:
        self.events.clear()
        options = BackendOptions(threads, cache)
        return AutoBackend(self.model, ("ort", "openvino"), options, self.open)

    def chosen(self, **options: Any) -> tuple[str, bool]:
        """Return the engine, and whether it was measured."""
        with self.backend(**options) as backend:
            assert backend.choice is not None
            return backend.name, not backend.choice.from_cache


@pytest.fixture
def engines(model_path, monkeypatch) -> Engines:
    return Engines(model_path, monkeypatch)


def test_the_faster_one_is_chosen_and_remembered(engines, own_cache):
    assert engines.chosen() == ("openvino", True)
    assert [name for kind, name in engines.events if kind == "enter"] == [
        "ort",
        "openvino",
        "openvino",
    ]
    assert [path.suffixes for path in own_cache.iterdir()] == [[".engine", ".json"]]
    engines.seconds["openvino"] = 9.0  # nobody looks any more
    assert engines.chosen() == ("openvino", False)
    assert engines.events == [("enter", "openvino"), ("exit", "openvino")]


def test_times_can_be_seen(engines):
    backend = engines.backend()
    assert (backend.name, backend.choice) == ("auto", None)
    with backend:
        assert backend.choice is not None
        times = backend.choice.milliseconds
    assert times["ort"] == pytest.approx(2 * times["openvino"])
    assert engine_of(backend) == "openvino, exact"


@pytest.mark.parametrize("seconds", [{"ort": 0.01, "openvino": 0.02}, {"ort": 3, "openvino": 5}])
def test_the_shortest_of_several_runs_counts(engines, seconds):
    engines.seconds = seconds
    assert engines.chosen() == ("ort", True)


def test_other_circumstances_are_measured_anew(engines, monkeypatch):
    assert engines.chosen() == ("openvino", True)
    assert engines.chosen(threads=3) == ("openvino", True)
    monkeypatch.setattr(auto, "cpu_model", lambda: "another processor")
    engines.seconds["openvino"] = 1.0
    assert engines.chosen() == ("ort", True)
    monkeypatch.setattr(auto, "installed_versions", lambda *_: {"onnxruntime": "9.9"})
    assert engines.chosen() == ("ort", True)
    monkeypatch.setattr(auto, "find_kernels", lambda: Path("kernels-0123.so"))
    assert engines.chosen() == ("ort", True)
    assert engines.chosen() == ("ort", False)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text[:-9],
        lambda text: "[1, 2]",
        lambda text: text.replace('"openvino"', '"magic"'),
        lambda text: text.replace("milliseconds", "hours"),
        lambda text: text.replace("exact", "fast"),
        lambda text: "[" * 100_000,
        lambda text: json.dumps({**json.loads(text), "milliseconds": {"ort": "soon"}}),
    ],
)
def test_a_damaged_file_is_made_anew(engines, own_cache, damage):
    engines.chosen()
    path = next(own_cache.iterdir())
    whole = path.read_text()
    path.write_text(damage(whole))
    assert engines.chosen() == ("openvino", True)
    assert path.read_text() == whole


@pytest.mark.parametrize("mode", [0o777, 0o707])
def test_a_choice_that_anybody_could_write_is_neither_believed_nor_written(engines, tmp_path, mode):
    cache = tmp_path / "open"
    cache.mkdir(mode=0o700)
    assert engines.chosen(cache=cache) == ("openvino", True)
    (written,) = cache.iterdir()
    cache.chmod(mode)
    engines.seconds["openvino"] = 9.0
    with pytest.warns(RuntimeWarning, match="everybody can write to the folder"):
        assert engines.chosen(cache=cache) == ("ort", True)
    assert '"openvino"' in written.read_text()
    cache.chmod(0o700)
    written.chmod(0o666)
    assert engines.chosen(cache=cache) == ("ort", True)


def test_the_folder_of_the_user(engines, own_cache, tmp_path):
    folder = tmp_path / "mine"
    assert engines.chosen(cache=folder) == ("openvino", True)
    assert len(list(folder.iterdir())) == 1
    assert not own_cache.exists()
    assert engines.caches == [None, None, folder], "the slower engine left something behind"
    assert engines.chosen(cache=folder) == ("openvino", False)


def test_without_a_folder_it_is_measured_every_time(engines, tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert engines.chosen() == ("openvino", True)
    assert engines.chosen() == ("openvino", True)


def test_an_engine_that_fails_is_not_chosen(engines, own_cache):
    engines.broken = {"openvino"}
    assert engines.chosen() == ("ort", True)
    assert not own_cache.exists(), "it may work the next time"
    engines.broken = set()
    assert engines.chosen() == ("openvino", True)


def test_if_both_fail_the_error_is_that_of_the_engine(engines):
    engines.broken = {"openvino", "ort"}
    with pytest.raises(EngineError, match="ort is broken"):
        engines.chosen()


def test_it_can_be_entered_again(engines):
    backend = engines.backend()
    with pytest.raises(EngineError, match="closed"):
        backend.run(IMAGE_ENCODER, {})
    with pytest.raises(AttributeError, match="precision"):
        _ = backend.precision
    for _ in range(2):
        with backend:
            assert backend.precision == "exact"
    assert engines.events[-2:] == [("enter", "openvino"), ("exit", "openvino")]


# ------------------------------------------------------------------ with the real engines
def test_real_engines(model_path, own_cache):
    pytest.importorskip("openvino", reason="needs OpenVINO")
    backend = open_backend(model_path, threads=1)
    with backend:
        for name in COMPONENTS:
            found = backend.run(name, random_inputs(backend.spec, name))
            assert all(np.isfinite(value).all() for value in found.values())
        assert isinstance(backend, AutoBackend)
        assert backend.choice is not None
        times = backend.choice.milliseconds
    assert set(times) == {"ort", "openvino"}
    assert min(times.values()) > 0
    assert backend.name == min(times, key=lambda name: times[name])
    assert backend.concurrent is False
    with VideoSegmenter(model_path, threads=1) as segmenter:
        assert segmenter.engine == f"{backend.name}, exact"


def test_with_one_engine_nothing_is_measured(model_path, own_cache, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else find(name)
    )
    with open_backend(model_path, threads=1) as backend:
        assert isinstance(backend, OrtBackend)
    assert not own_cache.exists()


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ModelFileError, match="there is no model"):
        open_backend(tmp_path / "none.onnx")
