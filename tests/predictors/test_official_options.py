from __future__ import annotations

import pytest

from qsam2_deploy.errors import InputError
from qsam2_deploy.predictors.official_options import official_options
from qsam2_deploy.spec import TrackingRules

RULES = TrackingRules()


def test_nothing_asked_for_nothing_changed() -> None:
    found = official_options(RULES, 1024)
    assert found.rules == RULES
    assert found.predictor == {}


def test_without_postprocessing() -> None:
    rules = official_options(RULES, 1024, apply_postprocessing=False).rules
    assert not rules.dynamic_multimask_via_stability
    assert not rules.binarize_mask_from_pts_for_mem_enc
    back = official_options(rules, 1024, ["++model.binarize_mask_from_pts_for_mem_enc=true"])
    assert back.rules.binarize_mask_from_pts_for_mem_enc


def test_options_of_the_predictor_and_rules_of_the_tracker() -> None:
    found = official_options(
        RULES,
        1024,
        [
            "++model.non_overlap_masks=true",
            "+model.fill_hole_area=8",
            "model.max_cond_frames_in_attn=4",
            "++model.sam_mask_decoder_extra_args.dynamic_multimask_stability_thresh=1",
            "++model.compile_image_encoder=True",
            "++model.image_size=1024",
            "++model.num_maskmem=7",
        ],
    )
    assert found.predictor == {"non_overlap_masks": True, "fill_hole_area": 8}
    assert found.rules.max_cond_frames_in_attn == 4
    assert found.rules.dynamic_multimask_stability_thresh == 1.0


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("++model.image_size=512", "this one has 1024; export it again with: --image-size 512"),
        ("++model.num_maskmem=3", "is part of an exported model, and this one has 7"),
        ("++model._target_=mine.Predictor", "changes what the network computes"),
        ("++model.pred_obj_scores=false", "export the checkpoint again"),
        ("++model.non_overlap_masks=7", "must have a value of the type bool"),
        ("++model.fill_hole_area=true", "must have a value of the type int"),
        ("non_overlap_masks=true", "is no override of the model"),
        ("++model.non_overlap_masks", "is no override of the model"),
    ],
)
def test_refused(override: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        official_options(RULES, 1024, [override])
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)
