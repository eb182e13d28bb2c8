"""The pass through a clip against upstream's SAM2Train; gradients; sizes."""

from types import SimpleNamespace

import pytest
import torch

from qsam2_deploy.quant.checkpoints.architecture import build_model, effective_config
from qsam2_deploy.training.config import LossWeights
from qsam2_deploy.training.inputs.prompts import PromptPlan
from qsam2_deploy.training.model.clip_model import ClipModel, set_image_size
from qsam2_deploy.training.model.losses import clip_losses
from tests.support.small_config import small_config
from tests.support.weights import random_state_dict
from tests.training.small import SIZE, generated_batch, lively_model, tiny_config, tiny_model


class Draws:
    """In place of upstream's generator: the next number of a list, and the first other frame."""

    def __init__(self, numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)

    def choice(self, frames, count, replace):
        return torch.tensor(list(frames)[:count])


def upstream_model(upstream, draws, corrections):
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    config = effective_config(small_config(SIZE))["model"]
    del config["fill_hole_area"]  # of the video predictor alone
    config["_target_"] = "training.model.sam2.SAM2Train"
    model = instantiate(
        OmegaConf.create(config),
        prob_to_use_pt_input_for_train=0.5,
        prob_to_use_box_input_for_train=0.5,
        prob_to_sample_from_gt_for_train=0.5,
        num_frames_to_correct_for_train=2,
        rand_frames_to_correct_for_train=False,
        add_all_frames_to_correct_as_cond=True,
        num_correction_pt_per_frame=corrections,
    )
    model.rng = Draws(draws)
    model.load_state_dict(random_state_dict(model))
    return model.train()


# What upstream's generator says: below 0.5 is points, then below 0.5 a box, then for each
# correction click below 0.5 from the true mask.
CASES = {
    "mask": ([0.9], PromptPlan("mask")),
    "box": ([0.1, 0.1, 0.9, 0.1, 0.9, 0.1], PromptPlan("box", (0, 1), (False, True))),
    "click": ([0.1, 0.9, 0.9, 0.9, 0.9, 0.9], PromptPlan("click", (0, 1), (False, False))),
}


@pytest.mark.parametrize("case", CASES)
def test_equal_to_upstream(upstream, case):
    draws, plan = CASES[case]
    batch = generated_batch(2, frames=3)
    assert batch.clip_of.tolist() != batch.clip_of.unique().tolist()  # clips with several objects
    theirs = upstream_model(upstream, draws, corrections=2)
    ours = ClipModel(lively_model(), affinity=False).train()
    data = SimpleNamespace(
        flat_img_batch=batch.images,
        masks=batch.masks,
        num_frames=3,
        flat_obj_to_img_idx=torch.stack([batch.images_of(t) for t in range(3)]),
    )
    with torch.no_grad():
        torch.manual_seed(7)  # both draw clicks in the same order
        wanted = theirs(data)
        torch.manual_seed(7)
        found = ours(batch, plan, False)
    assert theirs.rng.numbers == []
    assert found.affinity is None
    assert len(found.frames) == 3
    for frame, (prediction, output) in enumerate(zip(found.frames, wanted, strict=True)):
        assert len(prediction.masks) == 1 + 2 * (frame in plan.corrected)
        for name, values in (
            ("multistep_pred_multimasks_high_res", prediction.masks),
            ("multistep_pred_ious", prediction.ious),
            ("multistep_object_score_logits", prediction.object_scores),
        ):
            torch.testing.assert_close(values, output[name], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            prediction.chosen, output["pred_masks_high_res"], rtol=1e-5, atol=1e-5
        )


def test_the_prompt_of_the_first_frame_reaches_the_last():
    """Else the comparison with upstream would say nothing about the memory."""
    model = ClipModel(lively_model(), affinity=False).train()
    batch = generated_batch(1)
    with torch.no_grad():
        masks = [model(batch, PromptPlan("mask"), False).frames[2].chosen]
        batch.masks[0] = batch.masks[0].roll(SIZE // 2, -1)
        masks.append(model(batch, PromptPlan("mask"), False).frames[2].chosen)
    assert (masks[0] - masks[1]).abs().max() > 1e-2


COMPONENTS = (
    "image_encoder.trunk.patch_embed",
    "image_encoder.trunk.blocks.0",
    "image_encoder.neck",
    "memory_attention.layers.0.cross_attn_image",
    "memory_attention.layers.1.self_attn",
    "memory_encoder.mask_downsampler",
    "memory_encoder.fuser",
    "memory_encoder.out_proj",
    "maskmem_tpos_enc",
    "sam_mask_decoder.transformer",
    "sam_mask_decoder.output_hypernetworks_mlps",
    "sam_mask_decoder.iou_prediction_head",
    "sam_mask_decoder.pred_obj_score_head",
    "sam_mask_decoder.conv_s0",
    "obj_ptr_proj",
    "obj_ptr_tpos_proj",
)


def gradients(model, batch, plan):
    torch.manual_seed(3)
    found = model(batch, plan, model.affinity is not None)
    losses = clip_losses(
        found.frames, batch.masks, object_count=1, weights=LossWeights(), mask_loss="focal"
    )
    total = torch.stack(list(losses.values())).sum()
    if found.affinity is not None:
        total = total + found.affinity
    model.zero_grad()
    total.backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("plan", "more"),
    [
        (PromptPlan("mask"), ("mask_downsample",)),
        (PromptPlan("box", (0, 1), (False,)), ("sam_prompt_encoder.point_embeddings",
                                               "sam_prompt_encoder.mask_downscaling")),
    ],
    ids=["mask", "box"],
)  # fmt: skip
def test_gradients_reach_every_component(plan, more):
    model = ClipModel(lively_model().requires_grad_(True), affinity=False).train()
    found = gradients(model, generated_batch(2), plan)
    for component in COMPONENTS + more:
        mine = [g for name, g in found.items() if name.startswith(f"sam2.{component}")]
        assert mine, component
        assert max(float(g.abs().max()) for g in mine) > 1e-9, component
    assert all(bool(g.isfinite().all()) for g in found.values())


def test_later_frames_train_the_memory():
    """The loss of the last frame alone moves what the first frame put into the memory."""
    model = ClipModel(lively_model().requires_grad_(True), affinity=False).train()
    batch = generated_batch(1)
    model(batch, PromptPlan("mask"), False).frames[2].chosen.square().mean().backward()
    for parameter in (
        model.sam2.memory_encoder.out_proj.weight,
        model.sam2.memory_attention.layers[0].cross_attn_image.v_proj.weight,
        model.sam2.obj_ptr_proj.layers[0].weight,
        model.sam2.image_encoder.trunk.patch_embed.proj.weight,
    ):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0


def test_checkpointed_activations_give_the_same_gradients():
    batch, plan = generated_batch(1, frames=2), PromptPlan("box", (0,), (True,))
    found = []
    for recompute in (False, True):
        torch.manual_seed(0)
        model = ClipModel(
            tiny_model().requires_grad_(True), affinity=True, checkpoint_activations=recompute
        )
        found.append(gradients(model.train(), batch, plan))
    assert found[0].keys() == found[1].keys()
    assert any(name.startswith("affinity") for name in found[0])
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


@pytest.mark.parametrize("plan", [PromptPlan("mask"), PromptPlan("box")], ids=["mask", "box"])
def test_another_image_size_gives_what_a_model_built_for_it_gives(plan):
    batch = generated_batch(1, frames=3, size=128)
    built = ClipModel(lively_model(128), affinity=False).eval()
    switched = lively_model(64)
    set_image_size(switched, 128)
    results = []
    for model in (built, ClipModel(switched, affinity=False).eval()):
        torch.manual_seed(0)
        with torch.no_grad():
            results.append([frame.chosen for frame in model(batch, plan, False).frames])
    torch.testing.assert_close(results[0], results[1])
    assert (results[0][2] - results[0][1]).abs().max() > 1e-3


def test_image_size_can_be_changed_back():
    model = build_model(tiny_config(64))
    expected = dict(vars(model.sam_prompt_encoder))
    set_image_size(model, 128)
    assert model.sam_prompt_encoder.mask_input_size == (32, 32)
    set_image_size(model, 64)
    for name in ("input_image_size", "image_embedding_size", "mask_input_size"):
        assert getattr(model.sam_prompt_encoder, name) == expected[name]
    assert (model.image_size, model.sam_image_embedding_size) == (64, 4)
