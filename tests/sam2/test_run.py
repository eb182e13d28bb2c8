"""Scripts that were written for ``sam2``, in the shapes that people write, run without a change."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qsam2_deploy.errors import Qsam2Error
from qsam2_deploy.predictors.build_sam import build_sam2_video_predictor
from tests.predictors.fake_backend import FakeBackend
from tests.support.drawn_clip import drawn_clip

FRAMES = 4

# What most public scripts begin with, on a machine with a GPU or not.
PREAMBLE = """
import json, sys
import numpy as np
import torch
from PIL import Image
torch.autocast(device_type="cuda", dtype=torch.bfloat16).__enter__()
if torch.cuda.get_device_properties(0).major >= 8:
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
"""

VIDEO = """
from sam2.build_sam import build_sam2_video_predictor

@torch.inference_mode()
def main(folder):
    predictor = build_sam2_video_predictor(
        "configs/sam2.1/sam2.1_hiera_t.yaml", "model.pt", device=device, vos_optimized=False,
        hydra_overrides_extra=["++model.non_overlap_masks=true"], apply_postprocessing=True,
    )
    state = predictor.init_state(video_path=folder, async_loading_frames=False)
    predictor.reset_state(state)
    predictor.add_new_points_or_box(
        inference_state=state, frame_idx=0, obj_id=1,
        points=torch.tensor([[20, 20]], dtype=torch.float32), labels=np.array([1], np.int32),
    )
    found = []
    for index, ids, logits in predictor.propagate_in_video(state):
        mask = (logits[0] > 0.0).cpu().numpy()
        picture = (logits[0] > 0.0).permute(1, 2, 0).cpu().numpy().astype(np.uint8) * 255
        assert picture.shape == (state["video_height"], state["video_width"], 1)
        assert 0 <= torch.sigmoid(logits[0]).max().item() <= 1
        assert (picture[..., 0] > 0).sum() == mask.squeeze().sum()
        found.append(int(mask.sum()))
    assert predictor.non_overlap_masks and predictor.to(device).eval() is predictor
    assert state["num_frames"] == len(found) and state.get("obj_ids") == ids
    print(json.dumps(found))

main(sys.argv[1])
"""

IMAGE = """
from sam2.build_sam import build_sam2
from sam2.sam2_image_predictor import SAM2ImagePredictor

model = build_sam2("sam2_hiera_t.yaml", "model.pt", device=device, apply_postprocessing=False)
predictor = SAM2ImagePredictor(model.to(device).eval())
image = np.array(Image.open(sys.argv[1] + "/00000.png").convert("RGB"))
with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
    predictor.set_image(image)
    masks, scores, logits = predictor.predict(
        point_coords=np.array([[20, 20]]), point_labels=np.array([1]), multimask_output=True)
    masks, logits = masks[np.argsort(scores)[::-1]], logits[np.argsort(scores)[::-1]]
    again, _, _ = predictor.predict(
        point_coords=[[20, 20]], point_labels=[1], mask_input=logits[0][None, :, :],
        multimask_output=False)
    boxes = torch.tensor([[5.0, 5.0, 30.0, 30.0], [8.0, 2.0, 40.0, 38.0]])
    both, _, _ = predictor.predict(box=boxes, multimask_output=False)
assert predictor.model.image_size == 64 and predictor.device == torch.device("cpu")
# As labelling backends keep the embeddings of images.
kept = {"image_embed": predictor._features["image_embed"].clone(),
        "high_res_feats": [x.detach().cpu() for x in predictor._features["high_res_feats"]]}
other = SAM2ImagePredictor(model)
other._features, other._orig_hw, other._is_image_set = kept, list(predictor._orig_hw), True
same, _, _ = other.predict(box=boxes.cpu().numpy(), multimask_output=False)
assert (same == both).all() and both.shape == (2, 1, *image.shape[:2])
print(json.dumps([int(m.sum()) for m in (*masks, again, *both)]))
"""

CAMERA = """
from sam2.build_sam import build_sam2_camera_predictor
predictor = build_sam2_camera_predictor("../sam2/configs/sam2.1_hiera_t_512.yaml", "model.pt")
found = []
for index in range(4):
    frame = np.array(Image.open(sys.argv[1] + f"/{index:05d}.png").convert("RGB"))
    if index == 0:
        predictor.load_first_frame(frame)
        _, ids, logits = predictor.add_new_prompt(
            frame_idx=0, obj_id=(1,), bbox=np.array([[5, 5], [30, 30]], dtype=np.float32))
    else:
        ids, logits = predictor.track(frame)
    all_mask = np.zeros((*frame.shape[:2], 1), dtype=np.uint8)
    for i in range(0, len(ids)):
        all_mask |= (logits[i] > 0.0).permute(1, 2, 0).cpu().numpy().astype(np.uint8)
    found.append(int(all_mask.sum()))
assert predictor.condition_state["num_frames"] == 4 and ids == [(1,)]
print(json.dumps(found))
"""


OTHER_SIZE = """
from sam2.build_sam import build_sam2
build_sam2("x.yaml", "model.onnx", hydra_overrides_extra=["++model.image_size=512"])
"""


@pytest.fixture(scope="module")
def folder(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a model beside the name of a checkpoint, and a clip."""
    made = tmp_path_factory.mktemp("scripts")
    shutil.copy(model_path, made / "model.onnx")
    (made / "clip").mkdir()
    for index, frame in enumerate(drawn_clip(FRAMES, 48, 64)):
        Image.fromarray(frame).save(made / "clip" / f"{index:05d}.png")
    return made


def run(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(source)
    line = [sys.executable, "-m", "qsam2_deploy.cli.run", "--backend", "ort", "--threads", "1"]
    line += [*options, "script.py", "clip"]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)


def printed(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("source", [VIDEO, IMAGE, CAMERA], ids=["video", "image", "camera"])
def test_a_script_needs_no_torch(folder: Path, source: str) -> None:
    """With the stand-in for torch, and where torch is installed the same with it."""
    found = printed(run(folder, PREAMBLE + source, "--torch", "stand-in"))
    assert any(found)
    if source is VIDEO:
        assert found == masks_of(folder)


def masks_of(folder: Path) -> list[int]:
    """Do what the script does, with the predictor itself."""
    with build_sam2_video_predictor(
        None, folder / "model.onnx", backend="ort", threads=1, non_overlap_masks=True
    ) as predictor:
        state = predictor.init_state(folder / "clip")
        predictor.add_new_points_or_box(state, 0, 1, points=[[20, 20]], labels=[1])
        return [int((logits > 0).sum()) for _, _, logits in predictor.propagate_in_video(state)]


@pytest.mark.parametrize(
    "source",
    [
        VIDEO,
        pytest.param(IMAGE, marks=pytest.mark.slow),
        pytest.param(CAMERA, marks=pytest.mark.slow),
    ],
    ids=["video", "image", "camera"],
)
def test_results_are_tensors_where_torch_is_installed(folder: Path, source: str) -> None:
    pytest.importorskip("torch", reason="this is about torch itself")
    told = 'import torch; assert torch.__version__[0] != "0" and not hasattr(torch, "_function")\n'
    real = printed(run(folder, told + PREAMBLE + source, "--torch", "installed"))
    if source is VIDEO:
        assert real == masks_of(folder)
    else:
        assert real == printed(run(folder, PREAMBLE + source, "--torch", "stand-in"))


def test_one_model_for_every_checkpoint(folder: Path, tmp_path: Path) -> None:
    source = PREAMBLE + VIDEO.replace("model.pt", "checkpoints/sam2.1_hiera_large.pt")
    model = str(folder / "model.onnx")
    found = printed(run(folder, source, "--torch", "stand-in", "--model", model))
    assert found == masks_of(folder)
    refused = run(folder, source, "--torch", "stand-in")
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "run: qsam2-export checkpoints/sam2.1_hiera_large.pt" in refused.stderr
    assert "script.py:" in refused.stderr


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("import sam2.modeling.backbones.hieradet", "it answers what predicts masks"),
        ("import torch.utils.data", "stand-in for torch of qsam2-run has not; run: pip install"),
        ("import torch; torch.linalg", "the script uses torch.linalg"),
        (
            OTHER_SIZE,
            "--image-size 512",
        ),
    ],
)  # fmt: skip
def test_what_is_not_answered_is_said(folder: Path, source: str, sentence: str) -> None:
    result = run(folder, source, "--torch", "stand-in")
    assert result.returncode != 0
    assert sentence in result.stderr


def test_the_script_owns_its_exit_status_and_arguments(folder: Path) -> None:
    result = run(
        folder, "import sys; print(sys.argv, __name__); sys.exit(7)", "--torch", "stand-in"
    )
    assert result.returncode == 7
    assert result.stdout.split() == ["['script.py',", "'clip']", "__main__"]


def test_a_script_that_is_not_there(tmp_path: Path) -> None:
    line = [sys.executable, "-m", "qsam2_deploy.cli.run", "absent.py"]
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == (
        "qsam2-run: error: there is no script absent.py; expected a Python file\n"
    )


def test_the_modules_are_there_by_our_name(model_path: Path) -> None:
    from qsam2_deploy.sam2.build_sam import build_sam2
    from qsam2_deploy.sam2.sam2_image_predictor import SAM2ImagePredictor

    predictor = SAM2ImagePredictor(build_sam2(None, model_path, threads=1, backend="ort"))
    predictor.set_image(np.zeros((8, 8, 3), np.uint8))
    assert predictor.predict(box=[1, 1, 5, 5], multimask_output=False)[0].shape == (1, 8, 8)


@pytest.mark.usefixtures("hub_cache")
def test_a_name_that_the_hub_does_not_have() -> None:
    from qsam2_deploy.sam2.build_sam import build_sam2_video_predictor_hf

    with pytest.raises(Qsam2Error, match="nobody/nothing"):
        build_sam2_video_predictor_hf("nobody/nothing")


def test_the_mask_generator_shares_the_model_and_ignores_what_it_does_not_know() -> None:
    from qsam2_deploy.predictors.shared_model import SharedModel
    from qsam2_deploy.sam2.automatic_mask_generator import SAM2AutomaticMaskGenerator

    backend = FakeBackend()
    model = SharedModel(backend)
    generator = SAM2AutomaticMaskGenerator(
        model, 2, pred_iou_thresh=0.0, stability_score_thresh=0.0, apply_postprocessing=False
    )
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    assert generator.generate(image)[0]["segmentation"].shape == (40, 50)
    with SAM2AutomaticMaskGenerator(model, points_per_side=1) as other:
        other.generate(image)
        assert backend.entered == 1
