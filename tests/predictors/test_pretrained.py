"""``from_pretrained``: checkpoints that are exported once, in a process of their own."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import CheckpointError, InputError, MissingDependencyError
from qsam2_deploy.predictors import pretrained
from qsam2_deploy.predictors.pretrained import exported_model
from qsam2_deploy.runtime import (
    SAM2ImagePredictor,
    SAM2VideoPredictor,
    build_sam2_video_predictor_hf,
)
from tests.support.hub_cache import cache_files

DEMO = Path(__file__).parents[2] / "assets" / "demo.pt"
TINY = "facebook/sam2.1-hiera-tiny"


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's caches are elsewhere; gives the folder that exported models go to."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "qsam2-deploy" / "exported"


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for the process that exports; gives what was asked of it."""
    from qsam2_deploy._common.seal import seal

    asked: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command[1:])
        Path(command[-1]).write_bytes(b"model" + seal(b"model"))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(pretrained.subprocess, "run", run)
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: name)
    return asked


def test_the_first_time_and_the_second(caches, exports):
    first = exported_model(DEMO)
    assert first.parent == caches
    assert first.name.startswith("demo-")
    assert exports == [["-m", "qsam2_deploy.cli.export", str(DEMO), str(first)]]
    assert exported_model(str(DEMO)) == first
    assert len(exports) == 1


def test_another_checkpoint_has_another_model(caches, exports, tmp_path):
    checkpoint = tmp_path / "x.pt"
    names = set()
    for data in (b"a", b"b"):
        checkpoint.write_bytes(data)
        names.add(exported_model(checkpoint).name)
    (tmp_path / "config.json").write_text("{}")
    names.add(exported_model(checkpoint).name)
    assert len(names) == len(exports) == 3


def test_what_is_damaged_or_open_to_all_is_made_anew(caches, exports):
    model = exported_model(DEMO)
    model.write_bytes(b"x" * 500)
    exported_model(DEMO)
    model.chmod(0o666)
    exported_model(DEMO)
    assert len(exports) == 3


def test_a_cache_that_others_can_write_to_is_not_used(caches, exports):
    caches.mkdir(parents=True)
    caches.chmod(0o777)
    with pytest.warns(RuntimeWarning, match="is not used as a cache"):
        model = exported_model(DEMO)
    assert model.parent != caches
    assert list(caches.iterdir()) == []


def test_a_cache_that_cannot_be_made(exports, tmp_path, monkeypatch):
    (tmp_path / "caches").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert exported_model(DEMO).is_file()


def test_exported_models_are_opened_as_they_are(tmp_path):
    assert exported_model("m.onnx") == Path("m.onnx")
    assert exported_model(tmp_path / "m.engine") == tmp_path / "m.engine"


def test_a_name_on_the_hub(hub_cache, caches, exports):
    cache_files(hub_cache, TINY, {"sam2.1_hiera_tiny.pt": b"x"})
    model = exported_model(TINY)
    assert model.name.startswith("sam2.1_hiera_tiny-")
    assert Path(exports[0][2]).name == "sam2.1_hiera_tiny.pt"


@pytest.mark.parametrize("package", ["torch", "sam2", "onnx"])
def test_where_nothing_can_export(package, caches, exports, monkeypatch):
    monkeypatch.setattr(
        pretrained.importlib.util, "find_spec", lambda name: None if name == package else name
    )
    with pytest.raises(MissingDependencyError) as caught:
        exported_model(DEMO)
    assert f"needs the package '{package}'" in str(caught.value)
    assert "pip install 'qsam2-deploy[export]', or export it on another" in str(caught.value)
    assert exports == []


needs_export = pytest.mark.skipif(
    any(
        importlib.util.find_spec(name) is None for name in ("torch", "sam2", "onnx", "onnxruntime")
    ),
    reason="exports a checkpoint and runs it",
)


@needs_export
def test_every_predictor_opens_a_checkpoint(caches):
    image = np.zeros((48, 64, 3), np.uint8)
    with SAM2ImagePredictor.from_pretrained(DEMO, device="cuda", backend="ort") as predictor:
        predictor.set_image(image)
        masks, _, _ = predictor.predict(point_coords=[[20, 20]], point_labels=[1])
    assert masks.shape[1:] == (48, 64)
    with SAM2VideoPredictor.from_pretrained(DEMO, backend="ort", vos_optimized=True) as video:
        assert isinstance(video, SAM2VideoPredictor)
        size = video.image_size
    with build_sam2_video_predictor_hf(DEMO, device="cpu", backend="ort") as video:
        assert video.image_size == size
    options = {"hydra_overrides_extra": ["++model.non_overlap_masks=true"], "backend": "ort"}
    with SAM2VideoPredictor.from_pretrained(DEMO, **options) as video:
        assert video.non_overlap_masks
    SAM2ImagePredictor.from_pretrained(DEMO, mode="eval", **options).close()
    with pytest.raises(InputError, match="num_maskmem"):
        SAM2VideoPredictor.from_pretrained(DEMO, hydra_overrides_extra=["++model.num_maskmem=3"])
    assert len(list(caches.iterdir())) == 1


@needs_export
def test_what_cannot_be_exported_is_told_in_its_own_sentence(caches, tmp_path):
    (tmp_path / "x.pt").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError) as caught:
        exported_model(tmp_path / "x.pt")
    assert str(caught.value).startswith(f"{tmp_path / 'x.pt'} is truncated or not a PyTorch")
    assert "\n" not in str(caught.value)
    assert list(caches.iterdir()) == []


@needs_export
def test_torch_is_not_imported_by_it(caches):
    code = (
        "import sys\n"
        "from qsam2_deploy.runtime import SAM2VideoPredictor\n"
        f"SAM2VideoPredictor.from_pretrained({str(DEMO)!r}, backend='ort')\n"
        "assert 'torch' not in sys.modules and 'sam2' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
