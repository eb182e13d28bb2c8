"""The auxiliary loss."""

from dataclasses import replace

import torch

from qsam2_deploy.training.inputs.batch import batch_from_clips
from qsam2_deploy.training.model.affinity import AffinityHead, object_ids
from tests.training.small import SIZE, generated_batch, square_clip


def test_object_ids():
    batch = generated_batch(2, frames=2)
    ids = object_ids(batch, (16, 16))
    assert ids.shape == (2, 2, 16, 16)
    stride = SIZE // 16
    for t in range(2):
        for number, clip in enumerate(batch.clip_of.tolist()):
            mask = batch.masks[t, number, stride // 2 :: stride, stride // 2 :: stride]
            assert mask.any() or t > 0
            assert bool((ids[t, clip][mask] >= number + 1).all())
    assert set(ids[:, 1].unique().tolist()) - {0} == {
        n + 1 for n, clip in enumerate(batch.clip_of.tolist()) if clip == 1
    }


def features(batch, width=32, *, informed):
    """A pyramid that holds the masks, or random numbers."""
    torch.manual_seed(0)
    pyramid = []
    for stride, channels in ((4, width // 8), (8, width // 4), (16, width)):
        side = SIZE // stride
        maps = torch.randn(batch.frame_count * batch.clip_count, channels, side, side)
        if informed:
            ids = object_ids(batch, (side, side)).flatten(0, 1)[:, None]
            maps = (ids > 0) * 2.0 - 1.0 + 0.1 * maps
        pyramid.append(maps)
    return pyramid


def trained_loss(pyramid, batch):
    torch.manual_seed(0)
    head = AffinityHead(32)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        loss = head(pyramid, batch)
        loss.backward()
        optimizer.step()
    return float(loss.detach())


def test_low_only_where_features_tell_objects_apart():
    batch = batch_from_clips([square_clip(2)], objects=1)
    informed = trained_loss(features(batch, informed=True), batch)
    random = trained_loss([torch.zeros_like(m) for m in features(batch, informed=False)], batch)
    assert informed < 0.1
    assert random > 0.5


def test_images_and_frames_without_objects():
    batch = generated_batch(1, frames=1)
    empty = replace(batch, masks=batch.masks & False)
    full = replace(batch, masks=batch.masks | True)
    for item in (batch, empty, full):
        loss = AffinityHead(32)(features(item, informed=False), item)
        assert loss.isfinite()
        assert loss > 0
