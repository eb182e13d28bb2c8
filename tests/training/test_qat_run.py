"""The loop with a quantized model: resuming, checkpointing, failures, and that it learns."""

from dataclasses import replace

import pytest
import torch

from qsam2_deploy.errors import TrainingError
from qsam2_deploy.quant.layers.attention import (
    attentions,
    product_plan,
    quantize_attentions,
    quantized_attentions,
)
from qsam2_deploy.quant.layers.modules import quantized_layers
from qsam2_deploy.training.config import (
    DistillWeights,
    ImageBatches,
    LossWeights,
    PromptPolicy,
    QuantizerTraining,
    Stage,
    TrainConfig,
)
from qsam2_deploy.training.run.log import read_log
from tests.support.quantized_model import quantize_in_place
from tests.training.small import (
    MASK_ONLY,
    SIZE,
    FixedClip,
    assert_equal_states,
    new_run,
    stop_before,
)
from tests.training.small import tiny_model as float_model

DISTILL = DistillWeights(features=1.0, masks=1.0, scores=1.0)
RATES = (1e-4, 1e-5)
CONFIG = TrainConfig(
    stages=(
        Stage("images", 2, 1, 1, SIZE, learning_rate=RATES, distill=DISTILL),
        Stage(
            "clips", 4, 2, 1, SIZE, objects=1, learning_rate=RATES, distill=DISTILL,
            images=ImageBatches(every=3, clips=2), prompts=PromptPolicy(corrections=1),
        ),
    ),
    warmup_steps=1,
    ema=0.9,
    quantizers=QuantizerTraining(observe_first=2, observe_every=2, freeze=0.3, lower=((0.5, 8),)),
    log_every=1,
    save_every=1,
)  # fmt: skip


LAYERS = (
    "image_encoder.trunk.blocks.0.attn",
    "image_encoder.trunk.blocks.1.mlp",
    "memory_attention.layers.0.cross_attn_image",
    "memory_encoder.out_proj",
    "sam_mask_decoder.transformer.layers.0.mlp",
    "sam_mask_decoder.conv_s0",
)
"""Some of every part; starting the quantizers of all would take a test's time."""


def quantized_model(bits=4):
    return quantize_in_place(float_model(), bits, only=LAYERS)


def qat_run(folder, config=CONFIG, *, bits=4, **changes):
    return new_run(folder, config, model=quantized_model(bits), teacher=float_model(), **changes)


def contents(run):
    state = run.state
    return [state.step, *(p.state_dict() for p in (state.model, state.average, state.optimizer))]


def statistics(model):
    return {n: b.clone() for n, b in model.named_buffers() if n.endswith((".sigma", ".clip"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of all six steps, and the statistics after each of them."""
    run = qat_run(tmp_path_factory.mktemp("whole"))
    real, seen = run._end_step, []

    def watching(batch):
        notes = real(batch)
        seen.append(statistics(run.sam2))
        return notes

    run._end_step = watching
    run.train()
    return run, seen


@pytest.mark.parametrize(
    "stop", [3, *(pytest.param(step, marks=pytest.mark.slow) for step in (1, 5))]
)
def test_a_resumed_run_is_bit_exact(tmp_path, whole, stop):
    """Before, at and after the change of widths."""
    run = qat_run(tmp_path)
    stop_before(run, stop)
    other = qat_run(tmp_path)
    other.resume()
    assert other.state.step == stop
    bits = {layer.input_quantizer.grid.bits for layer in quantized_layers(other.average).values()}
    assert bits == {8 if stop < 3 else 4}
    other.train()
    assert_equal_states(contents(other), contents(whole[0]))
    notes = [
        [line["note"] for line in read_log(r.log.path) if "note" in line] for r in (other, whole[0])
    ]
    assert notes[0] == notes[1]
    assert notes[0] == [
        "the lowest width is 4 bits from now on",
        "the statistics of the quantizers are frozen from now on",
    ]


def test_the_end_of_a_run(whole):
    run, seen = whole
    for model in (run.sam2, run.average):
        for layer in quantized_layers(model).values():
            assert layer.weight_quantizer.grid.bits == layer.input_quantizer.grid.bits == 4
            assert torch.isfinite(layer.weight_quantizer.scale).all()
    assert_equal_states(seen[-1], seen[-2])  # frozen
    moved = sum(not torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    assert moved > 0.9 * len(seen[0]) / 2
    learned = [n for n, p in run.sam2.named_parameters() if n.endswith("log_alpha")]
    start = quantized_model().state_dict()
    changed = [n for n in learned if not torch.equal(run.sam2.state_dict()[n], start[n])]
    assert len(changed) > 0.9 * len(learned)
    lines = [line for line in read_log(run.log.path) if "losses" in line]
    names = {"mask", "dice", "iou", "object", "features", "teacher mask", "teacher score", "total"}
    assert all(set(line["losses"]) == names for line in lines)


SHORT = replace(
    CONFIG,
    stages=(replace(CONFIG.stages[1], steps=2, images=None, prompts=MASK_ONLY, frames=3),),
    quantizers=QuantizerTraining(freeze=0.0),
)


def test_recomputed_activations_are_not_observed_again(tmp_path):
    runs = []
    for recompute in (False, True):
        (tmp_path / str(recompute)).mkdir()
        run = qat_run(tmp_path / str(recompute), SHORT, bits=8, checkpoint_activations=recompute)
        calls = []
        quantizer = run.sam2.image_encoder.trunk.blocks[0].attn.qkv.input_quantizer
        observe = quantizer.observe
        quantizer.observe = lambda x, calls=calls, real=observe: (calls.append(len(x)), real(x))
        ran = []
        quantizer.register_forward_hook(lambda *_, ran=ran: ran.append(1))
        run.train()
        assert len(calls) == 2  # once a step
        assert len(ran) == (4 if recompute else 2)
        runs.append(run)
    plain, recomputed = runs
    for name, value in statistics(plain.sam2).items():
        torch.testing.assert_close(recomputed.sam2.get_buffer(name), value, rtol=1e-5, atol=1e-7)
    for name, value in plain.sam2.state_dict().items():
        torch.testing.assert_close(recomputed.sam2.state_dict()[name], value, rtol=0, atol=1e-4)


def test_bfloat16(tmp_path):
    stage = replace(SHORT.stages[0], steps=1, frames=2)
    run = qat_run(tmp_path, SHORT, stages=(stage,), precision="bfloat16")
    seen = []
    layer = run.sam2.image_encoder.trunk.blocks[1].mlp.layers[1]
    layer.input_quantizer.register_forward_hook(
        lambda quantizer, args, out: seen.append((args[0], out, quantizer.scale))
    )
    run.train()
    x, y, scale = seen[0]
    assert x.dtype == y.dtype == torch.bfloat16
    codes = (x.float() / scale).round().clamp(-8, 7)
    assert torch.equal(y, (codes * scale).bfloat16())
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert read_log(run.log.path)[0]["losses"]["total"] > 0


def test_a_frame_with_features_that_are_not_finite_is_named(tmp_path):
    run = qat_run(tmp_path, SHORT)
    real = run.sam2.forward_image

    def broken(images):
        found = real(images)
        levels = list(found["backbone_fpn"])
        levels[2] = levels[2].clone()
        levels[2][1, 0, 0, 0] = float("nan")
        return {**found, "backbone_fpn": levels}

    run.sam2.forward_image = broken
    before = statistics(run.sam2)
    with pytest.raises(
        TrainingError,
        match=r"not finite at step 0; .*the features of frame 1 of generated clip 0 are not finite",
    ):
        run.train()
    assert_equal_states(statistics(run.sam2), before)


def test_a_quantized_model_learns_from_its_teacher_without_labels(tmp_path):
    stage = Stage(
        "learn", 25, 1, 1, SIZE, learning_rate=(1e-3, 1e-4), prompts=PromptPolicy(corrections=0),
        losses=LossWeights(0, 0, 0, 0), distill=DistillWeights(features=1.0, masks=1.0),
    )  # fmt: skip
    config = TrainConfig((stage,), warmup_steps=2, ema=0.0, log_every=5, save_every=100)
    run = qat_run(tmp_path, config, bits=3, sources={"generated": FixedClip()})
    run.train()
    losses = [line["losses"] for line in read_log(run.log.path) if "losses" in line]
    assert losses[-1]["features"] < 0.6 * losses[0]["features"]
    assert losses[-1]["total"] < 0.6 * losses[0]["total"]


# ------------------------------------------------------------------ attention products
@pytest.mark.parametrize("recomputed", [False, True])
def test_attention_products_are_trained_like_layers(tmp_path, recomputed):
    """Their statistics move once, at the end of a step, whatever runs how often before that."""
    model = quantized_model(8)
    plan = dict.fromkeys(attentions(model), product_plan("lsc"))
    for attention in quantize_attentions(model, plan).values():
        for quantizer in attention.product.quantizers.values():
            quantizer.warm_start(*map(torch.tensor, (4.0, 1.0, 0.0)))
    clips = replace(CONFIG.stages[1], steps=2, images=None)
    run = new_run(
        tmp_path, CONFIG, model=model, teacher=float_model(), stages=(clips,),
        quantizers=QuantizerTraining(observe_first=2, freeze=0.0),
        checkpoint_activations=recomputed,
    )  # fmt: skip
    products = {n: a.product for n, a in quantized_attentions(run.sam2).items()}
    parts = {f"{n}.{k}": q for n, p in products.items() for k, q in p.quantizers.items()}
    before = {name: float(quantizer.sigma) for name, quantizer in parts.items()}
    real, seen = run._end_step, []

    def watching(batch):
        seen.append({name: float(quantizer.sigma) for name, quantizer in parts.items()})
        notes = real(batch)
        seen.append({name: float(quantizer.sigma) for name, quantizer in parts.items()})
        return notes

    run._end_step = watching
    run.train()
    assert seen[0] == before
    assert seen[2] == seen[1]
    assert all(seen[1][name] != before[name] for name in parts)
    assert all(seen[3][name] != seen[1][name] for name in parts)
    learned = [quantizer.log_alpha.item() for quantizer in parts.values()]
    assert len(set(learned)) > len(learned) / 2
