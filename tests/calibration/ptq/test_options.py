"""Settings of the methods, and finding methods by name."""

import pytest

from qsam2_deploy.calibration.ptq import PtqOptions, make_ptq, ptq_names
from qsam2_deploy.calibration.ptq.options import parse_ptq_options
from qsam2_deploy.errors import InputError


def test_options_are_read_in_their_kinds():
    found = parse_ptq_options(["iterations=20", "act_order=no", "drop=0.25", "act_order=YES"])
    assert found == PtqOptions(iterations=20, act_order=True, drop=0.25)
    assert parse_ptq_options([]) == PtqOptions()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("iterations", "name=value with one of act_order, batch"),
        ("magic=1", "but got 'magic=1'"),
        ("iterations=many", "iterations must be a whole number, but got 'many'"),
        ("damping=x", "damping must be a number"),
        ("act_order=2", "act_order must be yes or no"),
        ("iterations=0", "iterations must be at least 1, but got 0"),
        ("percentile=101", "above 50 and at most 100"),
        ("percentile=nan", "above 50 and at most 100"),
        ("drop=1", "below 1"),
        ("damping=0", "positive"),
        ("rounding_rate=inf", "positive"),
        ("seed=-1", "seed must be at least 0"),
    ],
)
def test_bad_options(text, message):
    with pytest.raises(InputError, match=message):
        parse_ptq_options([text])


def test_methods_have_names():
    assert ptq_names() == ("brecq", "gptq", "minmax", "mse", "percentile", "ptq4sam", "qdrop")
    for name in ptq_names():
        assert make_ptq(name).name == name
    with pytest.raises(InputError, match="'magic'; expected one of brecq, gptq"):
        make_ptq("magic")
