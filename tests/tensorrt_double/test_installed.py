"""The list and the double of TensorRT-RTX against the library itself, where it is installed."""

import json
from types import ModuleType
from typing import Any

import pytest

from tools._bindings_listing import listing

from . import VERSIONS, fresh_double
from .api_list import path_of
from .questions import QUESTIONS, Bench, answer
from .sequence import build, monitor, recorder


@pytest.fixture(scope="module")
def installed() -> ModuleType:
    return pytest.importorskip("tensorrt_rtx_bindings")


@pytest.fixture
def frozen(installed) -> str:
    name = f"tensorrt_rtx-{installed.__version__}"
    if name not in VERSIONS:
        pytest.skip(f"there is no list of {name}; see CONTRIBUTING.md")
    return name


def test_the_list_is_what_the_library_has(installed, frozen):
    expected: dict[str, Any] = json.loads(path_of(frozen).read_text())
    found = json.loads(json.dumps(listing(installed)))
    assert set(expected) - set(found) == {"distribution", "version"}
    for group, names in found.items():
        assert names == expected[group]


def test_the_library_takes_the_same_calls(installed, frozen):
    double = fresh_double(frozen)
    heard: list[list[tuple[str, str | None]]] = []
    for library in (installed, double.module):
        logger, listener = recorder(library), monitor(library)
        plan = build(library, logger, listener)
        errors = [text for level, text in logger.lines if level == library.Logger.ERROR]
        assert plan is not None, errors
        assert len(bytes(plan)) == plan.nbytes
        assert sorted(name for name, _ in listener.started) == sorted(listener.finished)
        heard.append(listener.started)
    assert heard[0][0] == heard[1][0] == ("Building engine", None)
    assert double.rejections == []


def test_the_library_stops_where_the_double_does(installed, frozen):
    for library in (installed, fresh_double(frozen).module):
        logger = recorder(library)
        assert build(library, logger, monitor(library, cancel_in="Building engine")) is None
        assert "canceled by user" in logger.lines[-1][1]


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_library_gives_the_same_answers(installed, frozen, name):
    answers = [
        answer(QUESTIONS[name], library, Bench(library))
        for library in (installed, fresh_double(frozen).module)
    ]
    assert answers[0] == answers[1]
