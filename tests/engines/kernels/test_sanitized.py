"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer: their tests, hostile calls."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qsam2_deploy.engines.onnxruntime.kernels.library import SOURCES
from tools.fuzz_kernels.__main__ import fuzz, table
from tools.fuzz_kernels.calls import random_call
from tools.fuzz_kernels.child import model_of
from tools.fuzz_kernels.sanitized import COMPILER, build_sanitized, preloaded, sanitizer_environment

OPERATORS = (
    "QuantizedAttention",
    "QuantizedConv",
    "QuantizedLinear",
    "QuantizedLinearCodes",
    "RotaryCodes",
)


def test_calls_are_the_same_each_time():
    models = [model_of(random_call(3, number)) for number in (0, 1, 0)]
    assert models[0] == models[2] != models[1]
    assert {random_call(3, number).operator for number in range(60)} == {*OPERATORS}


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory) -> Path:
    if shutil.which(COMPILER) is None or preloaded() is None:
        pytest.skip("there is no gcc with AddressSanitizer")
    return build_sanitized(tmp_path_factory.mktemp("sanitized") / "kernels.so")


@pytest.mark.slow
def test_the_operators_own_tests(sanitized):
    names = [*Path(__file__).parent.glob("test_*_operator.py")]
    names.append(Path(__file__).with_name("test_hostile_calls.py"))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, names)],
        env=sanitizer_environment(QSAM2_TEST_KERNELS=str(sanitized)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, (result.stdout + result.stderr)[-8000:]
    assert " passed" in result.stdout


@pytest.mark.slow
def test_hostile_calls(sanitized):
    findings = fuzz(sanitized, seed=7, first=0, count=4000)
    assert not findings.reports, findings.reports[0][1]
    assert {*findings.outcomes} == {*OPERATORS}
    for operator, outcomes in findings.outcomes.items():
        assert min(outcomes["computed"], outcomes["refused when opened"]) > 40, operator
    print(table(findings))


PLANTED = {
    "one dimension beyond its place": (
        "tensor_op.c",
        "if (given->rank > DIMENSIONS_MAX)",
        "if (given->rank > 2 * DIMENSIONS_MAX)",
    ),
    "a row beyond the last": (
        "linear_op.c",
        "work.rows = x.count / layer->weight.depth;",
        "work.rows = x.count / layer->weight.depth + 1;",
    ),
    "a table that is not looked at": ("rotary_op.c", "given.sizes[1] != work->half", "0"),
    "a sum that overflows": ("conv_op.c", "*values[i] > DEPTH_MAX", "0"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_found(sanitized, tmp_path, fault):
    """What the tool says of sound kernels is worth nothing unless it sees that others are not."""
    name, sound, unsound = PLANTED[fault]
    copy = Path(shutil.copytree(SOURCES, tmp_path / "src"))
    text = (copy / name).read_text()
    assert text.count(sound) == 1
    (copy / name).write_text(text.replace(sound, unsound))
    library = build_sanitized(tmp_path / "kernels.so", copy)
    for first in range(0, 4000, 400):
        reports = fuzz(library, seed=0, first=first, count=400).reports
        if reports:
            assert "Sanitizer" in reports[0][1] or "runtime error" in reports[0][1]
            return
    pytest.fail("the fault was not found")
