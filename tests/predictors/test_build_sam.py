import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.errors import InputError, ModelFileError
from qsam2_deploy.predictors.build_sam import build_sam2, build_sam2_video_predictor
from qsam2_deploy.predictors.image_predictor import SAM2ImagePredictor
from qsam2_deploy.predictors.video_predictor import SAM2VideoPredictor

CONFIG = "configs/sam2.1/sam2.1_hiera_t.yaml"


@pytest.fixture
def model(model_path, tmp_path) -> Path:
    return Path(shutil.copy(model_path, tmp_path / "sam2.onnx"))


@pytest.mark.parametrize(
    "name", ["sam2.onnx", "sam2.pt", pytest.param("sam2.pth", marks=pytest.mark.slow)]
)
def test_an_official_script_finds_the_exported_model(model, name):
    predictor = build_sam2_video_predictor(
        CONFIG, str(model.with_name(name)), device="cuda", vos_optimized=True, threads=1
    )
    with predictor:
        assert isinstance(predictor, SAM2VideoPredictor)
        assert predictor.image_size == 64


def test_the_model_may_stand_in_place_of_the_configuration(model):
    with build_sam2_video_predictor(model, threads=1) as predictor:
        assert predictor.image_size == 64


def test_options_reach_the_predictor(model):
    options: dict[str, Any] = {
        "fill_hole_area": 8, "non_overlap_masks": True, "clear_non_cond_mem_around_input": True,
        "add_all_frames_to_correct_as_cond": True,
    }  # fmt: skip
    with build_sam2_video_predictor(CONFIG, model, threads=1, **options) as predictor:
        assert {name: getattr(predictor, name) for name in options} == options


def test_it_runs(model, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "video").mkdir()
    for index in range(3):
        image = Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8))
        image.save(tmp_path / "video" / f"{index}.png")
    with build_sam2_video_predictor(CONFIG, model, threads=1) as predictor:
        state = predictor.init_state(str(tmp_path / "video"))
        predictor.add_new_points_or_box(state, 0, 1, points=[(20, 20)], labels=[1])
        results = list(predictor.propagate_in_video(state))
    assert [frame for frame, _, _ in results] == [0, 1, 2]
    assert all(np.isfinite(masks).all() for _, _, masks in results)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None,), "no model was given; pass the path of a model.onnx"),
        ((CONFIG,), "no model was given"),
        ((CONFIG, "none/sam2.onnx"), r"there is no model none/sam2\.onnx"),
        ((CONFIG, "none/sam2.pt"), r"run: qsam2-export none/sam2\.pt none/sam2\.onnx"),
    ],
)
def test_refused(arguments, message):
    with pytest.raises(ModelFileError, match=message):
        build_sam2_video_predictor(*arguments)


def test_overrides_of_what_is_done_with_the_outputs_are_taken(model: Path) -> None:
    overrides = ["++model.non_overlap_masks=true", "++model.max_cond_frames_in_attn=2"]
    with build_sam2_video_predictor(
        CONFIG, model, hydra_overrides_extra=overrides, apply_postprocessing=False, threads=1
    ) as predictor:
        assert predictor.non_overlap_masks
        assert predictor.spec.rules.max_cond_frames_in_attn == 2
        assert not predictor.spec.rules.dynamic_multimask_via_stability
    with pytest.raises(InputError, match="changes what the network computes"):
        build_sam2_video_predictor(CONFIG, model, hydra_overrides_extra=["++model.x=1"])


def test_predictors_share_an_engine(model: Path) -> None:
    shared = build_sam2(CONFIG, model, threads=1, backend="ort")
    image = np.zeros((8, 8, 3), np.uint8)
    first, second = SAM2ImagePredictor(shared), SAM2ImagePredictor(shared)
    for predictor in (first, second):
        predictor.set_image(image)
    first.close()
    assert second.predict(box=[1, 1, 5, 5], multimask_output=False)[0].shape == (1, 8, 8)
    second.close()
    with pytest.raises(NotImplementedError, match="cannot be trained"):
        shared.to("cuda").eval().train()
