"""The sizes that an engine takes, and what can be asked of the builder."""

import pytest

from qsam2_deploy.engines.tensorrt.options import BuildOptions, Limits
from qsam2_deploy.engines.tensorrt.profiles import component_profiles
from qsam2_deploy.errors import InputError
from qsam2_deploy.spec import (
    COMPONENTS,
    IMAGE_ENCODER,
    MASK_DECODER,
    MEMORY_ATTENTION,
    MEMORY_ENCODER,
    ModelSpec,
    TrackingRules,
)

SPEC = ModelSpec("tiny", 1024)


def test_nothing_of_the_encoder_is_dynamic():
    assert component_profiles(SPEC, IMAGE_ENCODER, Limits()) == ()


def test_memory_attention_has_a_static_profile_for_steady_state():
    warm_up, steady = component_profiles(SPEC, MEMORY_ATTENTION, Limits(objects=1, conditioning=2))
    assert warm_up.dimensions == {"B": (1, 1, 1), "F": (1, 7, 8), "N": (0, 16, 17)}
    assert steady.dimensions == {"B": (1, 1, 1), "F": (7, 7, 7), "N": (16, 16, 16)}
    shapes = [steady.shapes(t) for t in SPEC.component(MEMORY_ATTENTION).inputs]
    assert shapes[0] is None
    assert all(len(set(three)) == 1 for three in shapes[1:] if three is not None)
    assert shapes[1] == ((1, 7, 64, 64, 64),) * 3


@pytest.mark.parametrize("tracked", [1, 3, 7, 8, 20])
def test_every_frame_of_a_track_fits_a_profile(tracked):
    """With one prompted frame, what frame ``tracked`` attends to."""
    rules = TrackingRules()
    sizes = {
        "B": 1,
        "F": min(tracked, rules.num_maskmem),
        "N": min(tracked, rules.max_obj_ptrs_in_encoder),
    }
    fitting = [
        profile.name
        for profile in component_profiles(SPEC, MEMORY_ATTENTION, Limits())
        if all(low <= sizes[d] <= high for d, (low, _, high) in profile.dimensions.items())
    ]
    assert fitting == (["warm_up", "steady"] if tracked >= 16 else ["warm_up"])


def test_prompted_frames_are_in_the_limits():
    limits, rules = Limits(conditioning=5), TrackingRules()
    assert limits.memories(rules) == 5 + 6
    assert limits.pointers(rules) == 5 + 15


def test_shapes_of_the_decoder_follow_its_letters():
    (profile,) = component_profiles(SPEC, MASK_DECODER, Limits(objects=3, points=9))
    by_name = {t.name: profile.shapes(t) for t in SPEC.component(MASK_DECODER).inputs}
    assert by_name["point_coords"] == ((1, 1, 2), (1, 2, 2), (3, 9, 2))
    assert by_name["has_mask"] == ((1,), (1,), (3,))
    assert by_name["high_res_0"] is None


@pytest.mark.parametrize("component", COMPONENTS)
def test_ranges_are_ordered(component):
    for limits in (Limits(), Limits(1, 2, 1), Limits(9, 40, 30)):
        for profile in component_profiles(SPEC, component, limits):
            assert all(a <= b <= c for a, b, c in profile.dimensions.values())
    assert component != MEMORY_ENCODER or component_profiles(SPEC, component, Limits())


@pytest.mark.parametrize(
    ("name", "value"),
    [("workspace_mib", 0), ("optimization_level", 6), ("optimization_level", -1),
     ("hardware_compatibility", "all")],
)  # fmt: skip
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=name):
        BuildOptions(**{name: value})


@pytest.mark.parametrize("name", ["objects", "points", "conditioning"])
def test_limits_that_are_too_small_are_refused(name):
    with pytest.raises(InputError, match=f"{name} must be at least"):
        Limits(**{name: 0})


@pytest.mark.parametrize(
    ("builder", "options", "timing_cache", "message"),
    [
        ("tensorrt-rtx", BuildOptions(), True, "no timing cache"),
        ("tensorrt-rtx", BuildOptions(version_compatible=True), False, "no version compat"),
        ("tensorrt-rtx", BuildOptions(hardware_compatibility="ampere_plus"), False, "no hardware"),
        ("tensorrt", BuildOptions(compute_capabilities=("8.9",)), False, "no compute capability"),
    ],
)
def test_options_of_the_other_library_are_refused(builder, options, timing_cache, message):
    with pytest.raises(InputError, match=message):
        options.check_builder(builder, timing_cache=timing_cache)
    other = ({"tensorrt", "tensorrt-rtx"} - {builder}).pop()
    options.check_builder(other, timing_cache=timing_cache)
