"""One streaming pass gives what numpy computes from all values at once."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from qsam2_deploy.calibration.data import CalibrationImages
from qsam2_deploy.calibration.histogram import BINS, Histogram
from qsam2_deploy.calibration.statistics import collect_statistics, is_heldout, layer_groups
from qsam2_deploy.errors import Qsam2Error


def _images(count: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, 5, 7, 6, generator=generator) * (i + 1) for i in range(count)]


def test_streaming_equals_all_at_once():
    layer, images = nn.Linear(6, 2), _images(8)
    found = collect_statistics(layer, {"l": layer}, images, count=8, grams=True)["l"]
    rows = [x.double().numpy().reshape(-1, 6) for x in images]
    used = np.concatenate([r for i, r in enumerate(rows) if i % 4 != 3])
    heldout = np.concatenate([r for i, r in enumerate(rows) if i % 4 == 3])
    assert found.gram is not None
    assert found.heldout_gram is not None
    np.testing.assert_allclose(found.gram, used.T @ used, rtol=1e-12)
    np.testing.assert_allclose(found.heldout_gram, heldout.T @ heldout, rtol=1e-12)
    assert (found.tokens, found.heldout_tokens) == (len(used), len(heldout))
    values = np.concatenate(rows)
    assert found.count == values.size
    assert found.mean == pytest.approx(values.mean(), rel=1e-9)
    assert found.std == pytest.approx(values.std(), rel=1e-9)
    assert found.mean_abs == pytest.approx(np.abs(values).mean(), rel=1e-9)
    assert found.absmax == np.abs(values).max()
    assert (found.low, found.high) == (values.min(), values.max())
    assert float(found.values().absmax) == pytest.approx(found.absmax)
    assert float(found.histogram.counts.sum()) == values.size


def test_nothing_is_held_out_of_few_images():
    layer = nn.Linear(6, 2)
    found = collect_statistics(layer, {"l": layer}, _images(3), count=3, grams=True)["l"]
    assert found.heldout_tokens == 0
    assert found.heldout_gram is not None
    assert not found.heldout_gram.any()
    assert [is_heldout(i, 4) for i in range(4)] == [False, False, False, True]


def test_layers_come_in_running_order_and_hooks_go():
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.first(x))

    model = Backwards()
    layers = {"last": model.last, "first": model.first}
    found = collect_statistics(model, layers, _images(1), count=1, grams=False)
    assert list(found) == ["first", "last"]
    assert found["first"].gram is None
    assert not model.last._forward_pre_hooks


def test_numbers_that_are_not_finite_are_named():
    layer, images = nn.Linear(6, 2), _images(2)
    images[1][0, 0, 0, 0] = torch.inf
    with pytest.raises(Qsam2Error, match="inputs of the layer l are not finite"):
        collect_statistics(layer, {"l": layer}, images, count=2, grams=True)
    assert not layer._forward_pre_hooks


def test_the_image_of_a_number_that_is_not_finite_is_named(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for index, path in enumerate(paths):
        Image.new("RGB", (8, 8), (100 * index,) * 3).save(path)
    layer = nn.Linear(4, 2)

    def model(image: torch.Tensor) -> None:
        layer(torch.where(image > 1.0, torch.inf, image))

    images = CalibrationImages(paths, 4)
    with pytest.raises(
        Qsam2Error, match=f"layer l are not finite .* image {re.escape(str(paths[2]))};"
    ):
        collect_statistics(model, {"l": layer}, images, count=3, grams=False)
    pixels = [np.full((4, 4, 3), 100 * index, np.uint8) for index in range(3)]
    frames = CalibrationImages(pixels, 4, [f"frame {7 * n} of a.mp4" for n in range(3)])
    with pytest.raises(Qsam2Error, match=r"frame 14 of a\.mp4;"):
        collect_statistics(model, {"l": layer}, frames, count=3, grams=False)
    with pytest.raises(Qsam2Error, match="image number 3;"):
        collect_statistics(model, {"l": layer}, list(frames), count=3, grams=False)


def test_sampled_tokens_bound_the_gram_matrix_alone():
    layer, images = nn.Linear(6, 2), _images(8)
    whole = collect_statistics(layer, {"l": layer}, images, count=8, grams=True)["l"]
    found, again = (
        collect_statistics(layer, {"l": layer}, images, count=8, grams=True, most_tokens=9)["l"]
        for _ in range(2)
    )
    assert whole.tokens == 6 * 35
    assert (found.tokens, found.heldout_tokens) == (6 * 9, 2 * 9)
    assert found.gram is not None
    assert again.gram is not None
    assert torch.equal(found.gram, again.gram)
    rows = torch.cat([x.reshape(-1, 6) for i, x in enumerate(images) if i % 4 != 3]).double()
    # A sum over some of the rows: what is left is a Gram matrix too.
    rest = torch.linalg.eigvalsh(rows.T @ rows - found.gram)
    assert float(rest.min()) > 0
    assert torch.equal(found.histogram.counts, whole.histogram.counts)
    assert (found.count, found.std) == (whole.count, whole.std)


def test_a_layer_that_ran_on_nothing_is_named():
    layer = nn.Linear(6, 2)
    empty = [torch.zeros(0, 6)]
    with pytest.raises(Qsam2Error, match="the layer l never ran"):
        collect_statistics(layer, {"l": layer}, empty, count=1, grams=True)


def test_a_layer_that_never_runs_is_named():
    layer = nn.Linear(6, 2)
    with pytest.raises(Qsam2Error, match="the layer other never ran"):
        collect_statistics(layer, {"other": nn.Linear(3, 3)}, _images(1), count=1, grams=True)


def test_groups_respect_the_budget():
    layers = {str(i): nn.Linear(10, 1) for i in range(5)}
    one = 2 * 8 * 10 * 10
    assert [len(g) for g in layer_groups(layers, 2 * one)] == [2, 2, 1]
    assert [len(g) for g in layer_groups(layers, 1)] == [1] * 5
    assert [list(g) for g in layer_groups(layers, 100 * one)] == [list(layers)]


def test_a_histogram_grows_and_keeps_every_value():
    rng, histogram = np.random.default_rng(0), Histogram()
    batches = [np.zeros(3), *(rng.standard_normal(1000) * s for s in (0.1, 5.0, 0.3, 40.0))]
    for batch in batches:
        histogram.add(torch.from_numpy(batch).float(), float(np.abs(batch.astype("f")).max()))
    values = np.concatenate(batches)
    assert histogram.counts.sum() == len(values)
    assert histogram.limit >= np.abs(values).max()
    width = 2 * histogram.limit / BINS
    cumulative = np.cumsum(histogram.counts.numpy())
    for quantile in (0.1, 0.5, 0.9):
        bin_index = np.searchsorted(cumulative, quantile * len(values))
        centre = float(histogram.centres()[bin_index])
        assert abs(centre - np.sort(values)[int(quantile * len(values))]) < 2 * width + 1e-3
