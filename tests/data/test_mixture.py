from collections import Counter

import numpy as np
import pytest

from qsam2_deploy.data.clips.mixture import Mixture
from qsam2_deploy.data.sample import Clip
from qsam2_deploy.errors import InputError


class Named:
    def __init__(self, name):
        self.name = name

    def clip(self, index, *, frames, size):
        shape = (frames, size, size)
        masks = np.zeros((frames, 1, size, size), bool)
        return Clip(np.zeros((*shape, 3), np.uint8), masks, f"{self.name} {index}")


A, B, C = Named("a"), Named("b"), Named("c")


def test_proportions_follow_the_weights():
    mixture = Mixture([(A, 1.0), (B, 3.0), (C, 0.0)])
    counts = Counter(mixture.clip(i, frames=1, size=2).name.split()[0] for i in range(2000))
    assert counts["c"] == 0
    assert abs(counts["a"] / 2000 - 0.25) < 0.03


def test_choice_depends_on_seed_and_index_alone():
    first, second, other = (Mixture([(A, 1.0), (B, 1.0)], seed=s) for s in (4, 4, 5))
    choices = [[m.source(i).name for i in range(64)] for m in (first, second, other)]
    assert choices[0] == choices[1]
    assert choices[0] != choices[2]


def test_index_is_passed_on():
    assert Mixture([(A, 1.0)]).clip(17, frames=2, size=4).name == "a 17"


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -0.5], [float("nan"), 1.0]])
def test_bad_weights_are_refused(weights):
    with pytest.raises(InputError, match=r"mixture needs at least one source|weights must be"):
        Mixture([(A, w) for w in weights])
