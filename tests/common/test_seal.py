import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qsam2_deploy._common.seal import DIGEST_KEY, metadata_entry, seal, verify
from qsam2_deploy.errors import ModelFileError


@given(st.binary(max_size=300))
def test_a_sealed_file_verifies(body):
    assert verify(body + seal(body), "m.onnx") == hashlib.sha256(body).hexdigest()


@given(st.binary(max_size=50), st.data())
def test_any_flipped_bit_is_refused(body, data):
    sealed = bytearray(body + seal(body))
    position = data.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[position // 8] ^= 1 << position % 8
    with pytest.raises(ModelFileError, match=r"m\.onnx is (damaged|truncated)"):
        verify(bytes(sealed), "m.onnx")


@given(st.binary(max_size=50), st.data())
def test_any_truncation_is_refused(body, data):
    sealed = body + seal(body)
    length = data.draw(st.integers(0, len(sealed) - 1))
    with pytest.raises(ModelFileError, match="truncated"):
        verify(sealed[:length], "m.onnx")


def test_appended_bytes_are_refused():
    with pytest.raises(ModelFileError, match="does not end with a digest"):
        verify(b"body" + seal(b"body") + b"\n", "m.onnx")


def test_a_changed_body_is_told_from_a_missing_ending():
    with pytest.raises(ModelFileError, match="do not match their SHA-256"):
        verify(b"other" + seal(b"body"), "m.onnx")


def test_a_sealed_file_can_be_sealed_again():
    once = b"body" + seal(b"body")
    assert verify(once + seal(once), "m.onnx") == hashlib.sha256(once).hexdigest()


def test_the_ending_is_an_ordinary_metadata_entry():
    onnx = pytest.importorskip("onnx")
    body = onnx.ModelProto(producer_name="someone").SerializeToString()
    model = onnx.ModelProto.FromString(body + seal(body))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries == {DIGEST_KEY: hashlib.sha256(body).hexdigest()}
    assert model.producer_name == "someone"


def test_entries_can_be_appended():
    onnx = pytest.importorskip("onnx")
    body = onnx.ModelProto(producer_name="someone").SerializeToString()
    model = onnx.ModelProto.FromString(body + metadata_entry("a.key", "value") + seal(body))
    assert [entry.key for entry in model.metadata_props] == ["a.key", DIGEST_KEY]
    assert model.metadata_props[0].value == "value"
