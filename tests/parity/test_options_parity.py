"""Options of the official builder that a model gets when it is opened, not when it is exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qsam2_deploy.predictors.official_options import official_options
from qsam2_deploy.predictors.shared_model import SharedModel
from qsam2_deploy.predictors.video_predictor import SAM2VideoPredictor
from tests.parity.pair import Clips, Pair
from tests.parity.shared import Float32Memories, official_memories
from tests.parity.variants import official_predictor


def test_without_postprocessing(pair: Callable[[str], Pair], clips: Clips) -> None:
    """Masks from the official predictor built so; with postprocessing they are others."""
    both = pair("usual")
    official = official_predictor(both.config, both.state)
    official.sam_mask_decoder.dynamic_multimask_via_stability = False
    official.binarize_mask_from_pts_for_mem_enc = False
    shared = both.shared(Float32Memories())
    rules = official_options(shared.spec.rules, 0, apply_postprocessing=False).rules
    ours = SAM2VideoPredictor(SharedModel(shared, rules), show_progress=False)
    with official_memories("float32"):
        expected = tracked(official, clips)
    span = np.ptp(expected)
    assert np.abs(tracked(ours, clips) - expected).max() < 1e-4 * span
    assert np.abs(tracked(both.exact, clips) - expected).max() > 1e-2 * span


def tracked(predictor: Any, clips: Clips) -> np.ndarray:
    """Return the logits of all frames after two clicks, for which a single mask is chosen."""
    state = predictor.init_state(str(clips.short))
    points = np.array([[40, 40], [60, 50]], np.float32)
    predictor.add_new_points_or_box(state, 0, 1, points=points, labels=np.array([1, 1], np.int32))
    return np.stack([np.asarray(logits) for _, _, logits in predictor.propagate_in_video(state)])


pytestmark = pytest.mark.filterwarnings("ignore:cannot import name '_C'")
