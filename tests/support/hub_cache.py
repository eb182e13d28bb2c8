"""A cache of the Hugging Face Hub as its library leaves it, made without the network."""

import hashlib
import importlib
from pathlib import Path

import pytest

REVISION = "0123456789abcdef0123456789abcdef01234567"


def cache_files(cache: Path, name: str, files: dict[str, bytes]) -> None:
    """Put files of the model ``name`` into a cache: blobs, links to them, and the revision."""
    folder = cache / f"models--{name.replace('/', '--')}"
    snapshot = folder / "snapshots" / REVISION
    for part in (folder / "blobs", folder / "refs", snapshot):
        part.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / "main").write_text(REVISION)
    for file, data in files.items():
        blob = folder / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        (snapshot / file).symlink_to(blob)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give an empty cache to the hub's library, which is offline; nothing is asked of a network."""
    hub = pytest.importorskip(
        "huggingface_hub", reason="needs the hub's library; run: pip install 'qsam2-deploy[hub]'"
    )
    folder = tmp_path / "hub"
    folder.mkdir()
    constants = importlib.import_module("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for name in ("hf_hub_download", "try_to_load_from_cache"):
        monkeypatch.setattr(hub, name, _in(getattr(hub, name), folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # of processes that are started
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


def _in(function, folder):
    """Return a function of the hub's library with a cache of its own; its default is fixed."""
    return lambda name, file: function(name, file, cache_dir=str(folder))
