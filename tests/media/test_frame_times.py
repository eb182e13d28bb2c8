"""When the frames of an overlay are shown."""

from fractions import Fraction

import pytest

from qsam2_deploy.media.writing.frame_times import FrameTimes

RATES = [
    Fraction(25),
    Fraction(30000, 1001),
    Fraction(24000, 1001),
    Fraction(1, 2),
    Fraction(160, 19),
]


def seconds(times, given):
    return [float(times.place(time) * times.time_base) for time in given]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("digits", [3, 6, None])
def test_constant_rate_stays_exact(rate, digits):
    """Also where the file rounds to milliseconds, and with frames that begin anywhere."""
    times = FrameTimes(rate)
    for index in range(1000):
        time = 7.3 + float(index / rate)
        place = times.place(time if digits is None else round(time, digits))
        assert place * times.time_base == index / rate


def test_unknown_times_are_of_constant_rate():
    assert seconds(FrameTimes(Fraction(25)), [None] * 4) == [0, 0.04, 0.08, 0.12]


def test_variable_rate_is_kept():
    given = [2.0, 2.042, 2.125, 2.292, 4.0]
    placed = seconds(FrameTimes(Fraction(24)), given)
    assert placed == pytest.approx([t - 2 for t in given], abs=0.001)


def test_times_that_go_back_are_replaced_and_later_distances_kept():
    given = [0.0, 0.04, 9.0, 1.0, 1.04, 1.3, 1.3, None, 1.5]
    expected = [0, 0.04, 9.0, 9.04, 9.08, 9.34, 9.38, 9.42, 9.58]
    assert seconds(FrameTimes(Fraction(25)), given) == pytest.approx(expected, abs=0.002)


def test_length_of_the_last_frame():
    times = FrameTimes(Fraction(25))
    assert times.length(None) * times.time_base == Fraction(1, 25)
    assert times.length(0.041) * times.time_base == Fraction(1, 25)
    assert float(times.length(0.5) * times.time_base) == 0.5
