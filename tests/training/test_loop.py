"""The loop: resuming, failures, validation, and that a model learns."""

from dataclasses import replace

import pytest
import torch

from qsam2_deploy.errors import CheckpointError, InputError, TrainingError
from qsam2_deploy.training.config import LossWeights, PromptPolicy, Stage, TrainConfig
from qsam2_deploy.training.distributed import World
from qsam2_deploy.training.run import loop
from qsam2_deploy.training.run.log import read_log
from qsam2_deploy.training.run.validate import ClipValidation
from tests.support.marks import slow
from tests.training.small import (
    CLIPS,
    CPU,
    IMAGES,
    SIZE,
    FixedClip,
    assert_equal_states,
    new_run,
    square_clip,
    stop_before,
    tiny_model,
)


def contents(run):
    state = run.state
    parts = (state.model, state.average, state.optimizer)
    return [state.step, *(part.state_dict() for part in parts)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of all five steps without an interruption."""
    run = new_run(tmp_path_factory.mktemp("whole"), from_scratch=True)
    run.train()
    return run


def interrupted(folder, step, **changes):
    """A run that stops before ``step``, as with Ctrl-C."""
    run = new_run(folder, from_scratch=True, **changes)
    stop_before(run, step)
    return run


@pytest.mark.parametrize(("step", "saved"), [(1, None), (3, 2), slow(2, 2), slow(4, 4)])
def test_a_resumed_run_is_bit_exact(tmp_path, whole, step, saved):
    """In the first stage, at the boundary, and in the second; saves come every two steps."""
    interrupted(tmp_path, step)
    run = new_run(tmp_path, from_scratch=True, model=tiny_model(seed=99))
    if saved is None:
        with pytest.raises(CheckpointError, match="there is no training state"):
            run.resume()
        return
    run.resume()
    assert run.state.step == saved
    run.train()
    assert_equal_states(contents(run), contents(whole))
    steps = [line["step"] for line in read_log(run.log.path)]
    assert steps == [1, 2, 3, 4, 5]
    losses = [[line["losses"] for line in read_log(r.log.path)] for r in (run, whole)]
    assert losses[0] == losses[1]


def test_training_moves_every_part_and_the_average_follows(whole):
    start = new_run(whole.state_path.parent, from_scratch=True)
    first, last = start.model.state_dict(), whole.model.state_dict()
    moved = {name for name in first if not torch.equal(first[name], last[name])}
    for part in (
        "sam2.image_encoder.trunk",
        "sam2.image_encoder.neck",
        "sam2.memory_attention",
        "sam2.memory_encoder",
        "sam2.sam_mask_decoder.transformer",
        "sam2.sam_prompt_encoder.point_embeddings",
        "sam2.obj_ptr_proj",
        "affinity",
    ):
        assert any(name.startswith(part) for name in moved), part
    average = whole.average.state_dict()
    assert any(not torch.equal(average[n], last[f"sam2.{n}"]) for n in average)
    assert not any(p.requires_grad for p in whole.average.parameters())
    assert not whole.average.training


def test_a_finished_run_can_be_resumed(whole):
    run = new_run(whole.state_path.parent, from_scratch=True)
    run.resume()
    run.train()
    assert_equal_states(contents(run), contents(whole))


def test_another_recipe_is_refused(whole):
    for changes in ({"seed": 1}, {"ema": 0.5}, {"stages": (IMAGES, replace(CLIPS, frames=3))}):
        run = new_run(whole.state_path.parent, from_scratch=True, **changes)
        before = whole.state_path.read_bytes()
        with pytest.raises(CheckpointError, match="another recipe, seed, architecture or data"):
            run.resume()
        assert whole.state_path.read_bytes() == before


def test_losses_and_their_names(whole):
    lines = read_log(whole.log.path)
    shared = {"mask", "dice", "iou", "object", "total"}
    assert set(lines[0]["losses"]) == shared | {"affinity"}
    assert set(lines[-1]["losses"]) == shared
    assert [line["stage"] for line in lines] == ["images"] * 2 + ["clips"] * 3
    for line in lines:
        parts = [value for name, value in line["losses"].items() if name != "total"]
        assert line["losses"]["total"] == pytest.approx(sum(parts), abs=1e-3)


def broken_at(step, run):
    real = loop.clip_losses

    def losses(*arguments, **options):
        found = real(*arguments, **options)
        return found | {"dice": found["dice"] * float("nan")} if run.state.step == step else found

    return losses


def test_a_loss_that_is_not_finite(tmp_path, monkeypatch, whole):
    run = new_run(tmp_path, from_scratch=True)
    monkeypatch.setattr(loop, "clip_losses", broken_at(3, run))
    with pytest.raises(
        TrainingError,
        match=r"the loss \(dice\) is not finite at step 3; the last good state is in .*run.state",
    ):
        run.train()
    monkeypatch.undo()
    good = new_run(tmp_path, from_scratch=True)
    good.resume()
    assert good.state.step == 2
    good.train()
    assert_equal_states(contents(good), contents(whole))


def test_not_finite_before_any_state(tmp_path, monkeypatch):
    run = new_run(tmp_path)
    monkeypatch.setattr(loop, "clip_losses", broken_at(0, run))
    with pytest.raises(TrainingError, match="not finite at step 0; no state was saved yet; check"):
        run.train()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def infinite(monkeypatch):
    """Give a function that makes a gradient of a run infinite in some steps."""

    def make(run, is_bad):
        parameter, real = run.sam2.maskmem_tpos_enc, torch.Tensor.backward

        def backward(self, *arguments, **options):
            real(self, *arguments, **options)
            if is_bad(run.state.step):
                parameter.grad = torch.full_like(parameter, float("inf"))

        monkeypatch.setattr(torch.Tensor, "backward", backward)

    return make


def notes(run):
    return {line["step"]: line["note"] for line in read_log(run.log.path) if "note" in line}


INFINITE = "the gradient of sam2.maskmem_tpos_enc (parameters: 1) is not finite"


def test_a_gradient_that_is_not_finite_skips_its_step(tmp_path, infinite):
    run = new_run(tmp_path, stages=(replace(IMAGES, steps=1),), ema=0.0)
    before = {name: value.clone() for name, value in run.sam2.state_dict().items()}
    infinite(run, lambda step: True)
    run.train()
    assert_equal_states(dict(run.sam2.state_dict()), before)
    assert notes(run) == {1: f"{INFINITE}; this step was skipped"}


def test_gradients_that_stay_infinite_end_the_run(tmp_path, infinite):
    changes = {"stages": (replace(IMAGES, steps=20),), "save_every": 2}
    run = new_run(tmp_path, **changes)
    infinite(run, lambda step: step >= 2)
    with pytest.raises(TrainingError) as failure:
        run.train()
    said = str(failure.value)
    assert said.startswith(f"{INFINITE}, in 10 steps in a row; the last good state is in ")
    assert f"{run.state_path}; start anew with a lower learning rate" in said
    assert list(notes(run)) == list(range(3, 12))
    good = new_run(tmp_path, **changes)
    good.resume()
    assert good.state.step == 2


def test_a_good_step_between_infinite_gradients_lets_the_run_go_on(tmp_path, infinite, monkeypatch):
    monkeypatch.setattr(loop, "_MOST_SKIPPED", 3)
    run = new_run(tmp_path, stages=(replace(IMAGES, steps=6),), save_every=1)
    infinite(run, lambda step: step in (0, 1, 3, 4))
    run.train()
    assert list(notes(run)) == [1, 2, 4, 5]
    optimizer = run.state.optimizer.state_dict()["state"]
    assert {float(state["step"]) for state in optimizer.values()} == {2.0}
    run = new_run(tmp_path, stages=(replace(IMAGES, steps=6),))
    infinite(run, lambda step: True)
    with pytest.raises(TrainingError, match="is not finite, in 3 steps in a row; "):
        run.train()


def test_full_disk(tmp_path, monkeypatch):
    run = new_run(tmp_path, save_every=1)
    real, calls = torch.save, []

    def save(content, target):
        calls.append(content["step"])
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(content, target)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(InputError, match=r"run.state: the disk is full; free some space"):
        run.train()
    assert calls == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.log.jsonl", "run.state"]
    other = new_run(tmp_path, save_every=1)
    other.resume()
    assert other.state.step == 1


def test_validation_does_not_change_training(tmp_path, whole):
    scored = []

    def validate(model):
        scored.append(model)
        torch.rand(5)
        return {"J&F": 50.0}

    run = new_run(tmp_path, from_scratch=True, validate=validate, validate_every=2)
    before = torch.get_rng_state()
    assert run._scores() == {"J&F": 50.0}
    assert torch.equal(torch.get_rng_state(), before)
    run.train()
    assert_equal_states(contents(run), contents(whole))
    assert all(model is run.average for model in scored)
    scores = [line["step"] for line in read_log(run.log.path) if "scores" in line]
    assert scores == [2, 4, 5]  # every second step and at the end of each stage


def test_a_stage_of_another_size_can_be_validated(tmp_path):
    """Clips of the last stage's size score every stage."""
    stages = (replace(IMAGES, steps=1), replace(CLIPS, steps=1, image_size=96))
    validate = ClipValidation([square_clip(2, 96)])
    run = new_run(tmp_path, stages=stages, validate=validate)
    run.train()
    assert len([line for line in read_log(run.log.path) if "scores" in line]) == 2
    assert run.sam2.image_size == run.average.image_size == 96


def test_what_a_later_stage_lacks_is_said_first(tmp_path):
    run = new_run(tmp_path, stages=(IMAGES, replace(CLIPS, data={"videos": 1.0})))
    with pytest.raises(InputError, match="stage clips trains on 'videos'"):
        run.train()
    assert run.state.step == 0
    two = World(0, 2, torch.device("cpu"))
    run = new_run(tmp_path, stages=(replace(IMAGES, clips=2), CLIPS))
    run.world = two
    with pytest.raises(InputError, match=r"a batch of 1 clips .stage clips. cannot be shared"):
        run.train()
    assert list(tmp_path.iterdir()) == []


def test_the_object_score_is_set_when_a_stage_begins(tmp_path, monkeypatch):
    biases = []
    monkeypatch.setattr(loop, "set_object_bias", lambda model, logit: biases.append((model, logit)))
    stages = (replace(IMAGES, steps=1), replace(CLIPS, steps=2, object_bias=-0.5))
    run = new_run(tmp_path, stages=stages)
    run.train()
    assert biases == [(run.sam2, -0.5), (run.average, -0.5)]
    biases.clear()
    run.state.step = 2  # as after a resume within the stage
    run.train()
    assert biases == []


def test_bfloat16(tmp_path):
    run = new_run(tmp_path, precision="bfloat16", stages=(replace(CLIPS, steps=1),))
    run.train()
    assert all(p.dtype == torch.float32 for p in run.model.parameters())
    assert read_log(run.log.path)[0]["losses"]["total"] > 0


def test_only_the_first_process_writes(tmp_path):
    run = new_run(tmp_path, stages=(replace(IMAGES, steps=1),))
    run.world = World(1, 1, CPU.device)
    run.train()
    assert run.state.step == 1
    assert list(tmp_path.iterdir()) == []


LEARNING = TrainConfig(
    stages=(
        Stage(
            "learn",
            steps=40,
            frames=2,
            clips=1,
            image_size=SIZE,
            learning_rate=(2e-3, 2e-4),
            mask_loss="balanced",
            losses=LossWeights(affinity=1.0),
            prompts=PromptPolicy(points=0.7, box=0.5, corrections=0),
        ),
    ),
    from_scratch=True,
    warmup_steps=5,
    ema=0.9,
    log_every=5,
    save_every=1000,
)


@pytest.mark.slow
def test_a_model_learns(tmp_path):
    validate = ClipValidation([square_clip(3)])
    run = new_run(tmp_path, LEARNING, sources={"generated": FixedClip()}, validate=validate)
    before = run._scores()
    run.train()
    lines = read_log(run.log.path)
    losses = [line["losses"]["total"] for line in lines if "losses" in line]
    after = lines[-1]["scores"]
    assert losses[-1] < 0.2 * losses[0]
    assert before["IoU box"] < 40
    assert before["J&F"] < 60
    assert min(after.values()) > 80
