"""What a user can import is there, is sorted, and looks public."""

import importlib
import inspect
import re
from importlib.metadata import PackageNotFoundError, version

import pytest

import qsam2_deploy

PACKAGES = ["qsam2_deploy", "qsam2_deploy.calibration", "qsam2_deploy.export",
            "qsam2_deploy.runtime"]  # fmt: skip


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_are_sorted_and_exist(name):
    module = importlib.import_module(name)
    assert module.__all__, f"{name} offers nothing"
    assert list(module.__all__) == sorted(module.__all__)
    for public in module.__all__:
        assert getattr(module, public) is not None


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_look_public_and_are_described(name):
    module = importlib.import_module(name)
    for public in module.__all__:
        if public == "__version__":
            continue
        assert not public.startswith("_")
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__module__.startswith("qsam2_deploy")
            assert inspect.getdoc(thing), f"{public} has no docstring"


def test_top_level_names_come_from_the_table():
    assert set(qsam2_deploy.__all__) <= set(dir(qsam2_deploy))
    assert set(qsam2_deploy._LAZY) == set(qsam2_deploy.__all__) - {"__version__"}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = qsam2_deploy.nothing


def test_version_is_that_of_the_installed_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+([a-z].*)?", qsam2_deploy.__version__)
    try:
        installed = version("qsam2-deploy")
    except PackageNotFoundError:
        pytest.skip("the package is not installed, only importable")
    assert installed == qsam2_deploy.__version__


def test_errors_share_one_base():
    from qsam2_deploy import errors

    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass)]
    assert len(classes) > 5
    assert all(issubclass(c, errors.Qsam2Error) for c in classes)
    tree = errors.__doc__ or ""
    assert all(c.__name__ in tree for c in classes), "the drawing in errors.py lacks a class"


def test_missing_package_error_holds_the_command_that_helps():
    from qsam2_deploy.errors import MissingDependencyError

    error = MissingDependencyError("av", "video", "reading a video")
    assert "pip install 'qsam2-deploy[video]'" in str(error)
    assert error.package == "av"
