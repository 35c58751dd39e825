"""Reasons name files, but not their folders or where they were compiled."""

import pytest

from runtimes.redaction import reason_of, redacted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("cannot open /srv/models/m/1/model.onnx: No such file", "cannot open model.onnx: No such file"),
        ("cannot open '/srv/my models/m/1/net v2.onnx'", "cannot open 'net v2.onnx'"),
        (r"cannot open C:\models\m\model.onnx", "cannot open model.onnx"),
        (r"cannot open '\\store\share\model.onnx'", "cannot open 'model.onnx'"),
        ("it failed. See https://pytorch.org/docs/stable/cuda.html for more", "it failed. for more"),
        ("no kernel (see https://example.org/a/b)", "no kernel"),
        ("cannot reach store-7.internal:9000", "cannot reach another host"),
        ("cannot reach 10.1.2.3:80 now", "cannot reach another host now"),
        ("/build/core/session.cc:118: rank is 3", "rank is 3"),
        ('File "/srv/x/net.py", line 12, in forward', ""),
        ("at tensorflow/core/ops.cc:12: wrong size", "at wrong size"),
        ("float/double differs, rows 3/4, ratio 1.5.2.1x", "float/double differs, rows 3/4, ratio 1.5.2.1x"),
        ("input 'model/dense/x' has shape [1, 4]", "input 'model/dense/x' has shape [1, 4]"),
        ("12:30:01 version 2.13.0", "12:30:01 version 2.13.0"),
    ],
)  # fmt: skip
def test_a_message_keeps_names_and_loses_places(text: str, wanted: str) -> None:
    assert redacted(text) == wanted


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (RuntimeError("the shapes differ"), "the shapes differ"),
        (RuntimeError('  \nFile "/srv/x/net.py", line 12, in forward\nthe shapes differ\nmore'), "the shapes differ"),
        (AssertionError(), "AssertionError without a message"),
        (ValueError("/build/core/session.cc:118: "), "ValueError without a message"),
    ],
)
def test_there_is_a_reason_for_every_exception(error: Exception, wanted: str) -> None:
    assert reason_of(error) == wanted
