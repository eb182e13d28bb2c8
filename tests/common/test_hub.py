"""Checkpoints by their names on the Hugging Face Hub, without a network."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from qsam2_deploy._common.checkpoint_files import find_checkpoint, is_checkpoint
from qsam2_deploy._common.hub import checkpoint_from_hub, hub_name
from qsam2_deploy.cli.export import main as export
from qsam2_deploy.errors import CheckpointError, MissingDependencyError
from tests.support.hub_cache import cache_files

TINY = "facebook/sam2.1-hiera-tiny"


@pytest.mark.parametrize("name", [TINY, "me/my_sam2", "a/b.c-d"])
def test_names(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub_name(name) == name
    assert is_checkpoint(Path(name))


@pytest.mark.parametrize(
    "path",
    ["tiny.pt", "models/tiny.pt", "/models/tiny", "./models/tiny", "a/b/c", "../tiny", "~/tiny",
     "tiny", "a/", "/a", "", "a b/c", "a/model.safetensors", "a/m.onnx", "-a/b", "a/.b", "a\n/b"],
)  # fmt: skip
def test_paths_are_no_names(path):
    assert hub_name(path) is None


def test_what_is_here_is_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("facebook").mkdir()
    assert hub_name(TINY) is None
    with pytest.raises(CheckpointError, match=f"there is no checkpoint {TINY}"):
        find_checkpoint(TINY)
    Path(TINY).write_bytes(b"x")
    assert find_checkpoint(TINY).weights == Path(TINY)


def test_without_the_library(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependencyError) as caught:
        checkpoint_from_hub(TINY)
    assert "pip install 'qsam2-deploy[hub]'" in str(caught.value)
    assert f"download sam2.1_hiera_tiny.pt of {TINY}" in str(caught.value)
    assert "\n" not in str(caught.value)
    pytest.importorskip("sam2")
    assert export([TINY, str(tmp_path / "m.onnx")]) == 2
    assert "qsam2-deploy[hub]" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ the library's own cache
def test_an_official_model_in_the_cache(hub_cache):
    cache_files(hub_cache, TINY, {"sam2.1_hiera_tiny.pt": b"x", "model.safetensors": b"y"})
    found = find_checkpoint(TINY)
    assert found.weights.name == "sam2.1_hiera_tiny.pt"
    assert found.weights.read_bytes() == b"x"
    assert found.config is None


def test_what_transformers_has_downloaded_is_found(hub_cache):
    cache_files(hub_cache, TINY, {"model.safetensors": b"y", "config.json": b"{}"})
    found = find_checkpoint(TINY)
    assert found.weights.name == "model.safetensors"
    assert found.config is not None
    assert found.config.read_bytes() == b"{}"


def test_a_model_of_somebody(hub_cache):
    cache_files(hub_cache, "me/mine", {"model.safetensors": b"y", "config.json": b"{}"})
    assert find_checkpoint("me/mine").weights.read_bytes() == b"y"


@pytest.mark.parametrize(
    ("name", "file"), [(TINY, "sam2.1_hiera_tiny.pt"), ("me/mine", "model.safetensors"),
                       ("facebook/sam2-hiera-base-plus", "sam2_hiera_base_plus.pt")],
)  # fmt: skip
def test_without_a_network_the_file_is_named(name, file, hub_cache, capsys):
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(name)
    message = str(caught.value)
    assert message.startswith(f"{file} of {name} is not in the cache of the Hugging Face Hub, and")
    assert f"download {file} where there is a network and give its path" in message
    assert "\n" not in message
    assert capsys.readouterr().err == ""


def test_a_configuration_that_cannot_be_asked_for_is_not_guessed(hub_cache):
    cache_files(hub_cache, "me/mine", {"model.safetensors": b"y"})
    with pytest.raises(CheckpointError, match="not in the cache"):
        find_checkpoint("me/mine")


# ------------------------------------------------------------------ what the hub may answer
@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A library of the hub that gives, by the names of files, a path or an error."""
    hub = ModuleType("huggingface_hub")
    errors = ModuleType("huggingface_hub.errors")
    found: dict[str, Any] = {}

    class EntryNotFoundError(Exception):
        pass

    class LocalEntryNotFoundError(EntryNotFoundError, FileNotFoundError):
        pass

    class OfflineModeIsEnabled(ConnectionError):  # noqa: N818
        pass

    class RepositoryNotFoundError(Exception):
        pass

    def download(name: str, file: str) -> str:
        answer = found.get(file, "EntryNotFoundError")
        if isinstance(answer, Path):
            return str(answer)
        raise getattr(errors, answer)("first line\nsecond line")

    for kind in (EntryNotFoundError, LocalEntryNotFoundError, OfflineModeIsEnabled,
                 RepositoryNotFoundError, ValueError):  # fmt: skip
        setattr(errors, kind.__name__, kind)
    hub.hf_hub_download = download  # type: ignore[attr-defined]
    hub.try_to_load_from_cache = lambda name, file: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", errors)
    monkeypatch.chdir(tmp_path)
    return found


def test_a_model_that_has_only_the_other_file(answers, tmp_path):
    answers["model.safetensors"] = tmp_path / "model.safetensors"
    assert checkpoint_from_hub(TINY) == tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("EntryNotFoundError", "on the Hugging Face Hub has no model.safetensors"),
        ("LocalEntryNotFoundError", "it cannot be reached; download model.safetensors"),
        ("OfflineModeIsEnabled", "it cannot be reached; download model.safetensors"),
        ("RepositoryNotFoundError", "no model of that name on the Hugging Face Hub"),
        ("ValueError", "first line second line"),
    ],
)
def test_answers_become_one_sentence(answers, answer, message):
    answers["model.safetensors"] = answer
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint_from_hub("me/mine")
    assert "\n" not in str(caught.value)
