"""The builder uses nothing that one of the supported versions does not have."""

from pathlib import Path
from typing import Any

import pytest

from qsam2_deploy.engine_build.build import engine_from_onnx
from qsam2_deploy.engines.tensorrt.engine_file import read_engine
from qsam2_deploy.engines.tensorrt.library import TENSORRT, TENSORRT_RTX, library_from_module
from qsam2_deploy.engines.tensorrt.options import BuildOptions
from qsam2_deploy.errors import EngineError, InputError
from tests import tensorrt_double as doubles


def build(double: Any, version: str, model: Path, output: Path, **other: Any) -> None:
    name = TENSORRT_RTX if "rtx" in version else TENSORRT
    library = library_from_module(name, double.module)
    engine_from_onnx(model, output, precision="int4", library=library, show_progress=False, **other)


def all_options(version: str, folder: Path) -> dict[str, Any]:
    """Return every option that the library has."""
    if "rtx" in version:
        return {"options": BuildOptions(64, 3, compute_capabilities=("8.6", "8.9"))}
    options = BuildOptions(64, 3, "ampere_plus", version_compatible=True)
    return {"options": options, "timing_cache": folder / "timings"}


@pytest.mark.parametrize(
    ("version", "verbose"),
    [
        *((version, True) for version in doubles.VERSIONS),
        (doubles.VERSIONS[-1], False),
        *(
            pytest.param(version, False, marks=pytest.mark.slow)
            for version in doubles.VERSIONS[:-1]
        ),
    ],
)
def test_every_call_is_in_the_list(version, verbose, quantized_path, tmp_path):
    heard: list[str] = []
    listen = (lambda severity, text: heard.append(text)) if verbose else None
    for other in ({}, all_options(version, tmp_path)):
        double = doubles.fresh_double(version)
        build(double, version, quantized_path, tmp_path / "m.engine", on_message=listen, **other)
        double.check()
        assert not double.rejections
        assert double.names_called.count("Builder.build_serialized_network") == 4
        assert read_engine(tmp_path / "m.engine").header.builder_version in version


@pytest.mark.parametrize("version", doubles.VERSIONS)
def test_a_value_that_the_version_lacks_is_one_sentence(version, quantized_path, tmp_path):
    if "rtx" in version:
        options, message = BuildOptions(compute_capabilities=("9.9",)), "no compute capability SM99"
    else:
        options = BuildOptions(hardware_compatibility="same_compute_capability")
        message = "no hardware compatibility SAME_COMPUTE_CAPABILITY"
    double = doubles.fresh_double(version)
    if "rtx" in version or "10.3" in version:
        with pytest.raises(InputError, match=message):
            build(double, version, quantized_path, tmp_path / "m.engine", options=options)
    else:
        build(double, version, quantized_path, tmp_path / "m.engine", options=options)
        double.check()


@pytest.mark.parametrize("version", doubles.VERSIONS)
def test_faults_of_the_parser_and_the_builder(version, quantized_path, tmp_path):
    fault = doubles.ParserFault("not so", 2, "image_encoder/layer", "Erf")
    for script, message in (
        (doubles.Script(faults=[fault]), r"refuses the layer image_encoder/layer \(Erf\): not so"),
        (doubles.Script(build_fails=True), "cannot build image_encoder"),
    ):
        double = doubles.fresh_double(version, script)
        with pytest.raises(EngineError, match=message):
            build(double, version, quantized_path, tmp_path / "m.engine")
        double.check()
    assert not list(tmp_path.iterdir())
