"""Every reader of YAML files says the same about the same fault."""

import sys

import pytest

from qsam2_deploy._common.yaml import read_yaml
from qsam2_deploy.calibration.plan import read_plan
from qsam2_deploy.errors import CheckpointError, InputError, MissingDependencyError
from qsam2_deploy.quant.checkpoints.architecture import read_config
from qsam2_deploy.training.recipe import read_recipe

READERS = {"plan": read_plan, "recipe": read_recipe, "configuration": read_config}
FAULTS = {
    "cannot read the {} {}: No such file or directory; check the path": None,
    "the {} {} is not valid YAML: it is not a text file": b"\xff\xfe\x00\x80",
    "the {} {} is not valid YAML: line 2: ": b"a: [1\nb: 2",
    "the {} {} is not valid YAML: line 1: could not determine a constructor": b"a: !!python/x 1",
}


@pytest.mark.parametrize("what", READERS)
@pytest.mark.parametrize("message", FAULTS)
def test_one_wording(tmp_path, what, message):
    path = tmp_path / "file.yaml"
    content = FAULTS[message]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        READERS[what](path)
    assert str(caught.value).startswith(message.format(what, path))
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, CheckpointError) == (what == "configuration")


def test_content_is_plain(tmp_path):
    path = tmp_path / "file.yaml"
    path.write_text("a: [1, x]\nb: {c: true}\n", encoding="utf-8")
    assert read_yaml(path, "file") == {"a": [1, "x"], "b": {"c": True}}


def test_without_pyyaml(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"reading the plan needs .*pyyaml"):
        read_yaml(tmp_path / "plan.yaml", "plan")
