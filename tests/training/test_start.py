"""What the start of training from scratch promises."""

import torch

from qsam2_deploy.quant.checkpoints.architecture import build_model
from qsam2_deploy.training.run.start import start_from_scratch
from tests.support.small_config import small_config
from tests.training.small import SIZE, generated_batch

CELLS = SIZE // 16


def models():
    """The same model without and with the start."""
    found = []
    for start in (False, True):
        torch.manual_seed(0)
        model = build_model(small_config(SIZE))
        if start:
            torch.manual_seed(1)
            start_from_scratch(model)
        found.append(model)
    return found


@torch.no_grad()
def self_matches(model):
    """Share of pixels whose memory attention is highest at the pixel's own memory."""
    torch.manual_seed(2)
    side = 8
    pixels = torch.randn(4, 64, side, side)
    masks = torch.randn(4, 1, 16 * side, 16 * side)
    memory = model.memory_encoder(pixels, masks)["vision_features"]
    shares = []
    for layer in model.memory_attention.layers:
        attention = layer.cross_attn_image
        queries = attention.q_proj(pixels.flatten(2).transpose(1, 2))
        keys = attention.k_proj(memory.flatten(2).transpose(1, 2))
        best = (queries @ keys.transpose(1, 2)).argmax(-1)
        shares.append((best == torch.arange(side**2)).float().mean())
    return float(min(shares))


def test_memory_is_matched_by_content():
    plain, started = models()
    assert self_matches(plain) < 0.1
    assert self_matches(started) > 0.5


@torch.no_grad()
def found_clicks(model):
    """Share of clicks at which the decoder's attention to the image peaks, worst layer."""
    encoder = model.sam_prompt_encoder
    image = encoder.get_dense_pe().flatten(2).transpose(1, 2)
    cells = torch.cartesian_prod(torch.arange(CELLS), torch.arange(CELLS))
    coords = 16.0 * cells.flip(1)[:, None] + 8  # x, y of the centres
    labels = torch.ones(len(cells), 1, dtype=torch.int32)
    clicks = encoder(points=(coords, labels), boxes=None, masks=None)[0][:, 0][None]
    transformer = model.sam_mask_decoder.transformer
    attentions = [layer.cross_attn_token_to_image for layer in transformer.layers]
    shares = []
    for attention in (*attentions, transformer.final_attn_token_to_image):
        queries = attention._separate_heads(attention.q_proj(clicks), attention.num_heads)
        keys = attention._separate_heads(attention.k_proj(image), attention.num_heads)
        best = (queries @ keys.transpose(-1, -2)).sum(1).argmax(-1)[0]
        shares.append((best == torch.arange(CELLS**2)).float().mean())
    return float(min(shares))


def test_decoder_attention_peaks_at_the_click():
    plain, started = models()
    assert found_clicks(plain) < 0.5
    assert found_clicks(started) == 1.0


def test_objects_start_as_present():
    _, model = models()
    batch = generated_batch(2, frames=1)
    with torch.no_grad():
        features = model.forward_image(batch.images)["backbone_fpn"]
        outputs = model._forward_sam_heads(
            features[-1],
            point_inputs={
                "point_coords": torch.full((2, 1, 2), 30.0),
                "point_labels": torch.ones(2, 1, dtype=torch.int32),
            },
            high_res_features=features[:2],
            multimask_output=True,
        )
    assert bool((outputs[6] > 1).all())
    assert outputs[1].min() > -1000  # the masks were not blanked


def test_only_numbers_change():
    plain, started = models()
    one, other = plain.state_dict(), started.state_dict()
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    changed = {name for name in one if not torch.equal(one[name], other[name])}
    assert changed
    assert all(
        name.startswith(("sam_", "memory_encoder.", "memory_attention.")) for name in changed
    )


def test_architectures_without_a_score_or_a_narrow_memory():
    config = small_config(SIZE, d_model=32, memory_dim=32, pred_obj_scores=False,
                          pred_obj_scores_mlp=False, fixed_no_obj_ptr=False,
                          no_obj_embed_spatial=False, proj_tpos_enc_in_obj_ptrs=True)  # fmt: skip
    model = build_model(config)
    before = model.sam_mask_decoder.transformer.layers[0].cross_attn_token_to_image.q_proj.weight
    before = before.clone()
    start_from_scratch(model)
    after = model.sam_mask_decoder.transformer.layers[0].cross_attn_token_to_image.q_proj.weight
    assert not torch.equal(before, after)
