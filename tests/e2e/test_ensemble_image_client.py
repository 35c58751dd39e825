"""Triton's example program for ensembles, unmodified: files of images → a decoder in Python → a classifier in ONNX."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.client_environments import client_python, run_client
from tests.support.gateway_process import Gateway
from tests.support.triton_examples import example_program

# No file ends with a zero byte: the program's numpy array of bytes would lose it.
COLOURS = {"a.ppm": (250, 1, 1), "b.ppm": (1, 250, 1), "c.ppm": (1, 1, 250)}


@pytest.mark.runtime("onnx")
@pytest.mark.runtime("python")
def test_the_program_gets_the_labels_of_its_images(
    gateway: Callable[..., Gateway], runtime_python: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("onnx")
    from tests.support.triton_models import add_image_ensemble

    program = example_program("ensemble_image_client.py")
    python = client_python("tritonclient", "tritonclient[all]==2.73.0")
    runtime_python("onnx")
    runtime_python("python")
    add_image_ensemble(tmp_path / "repository")
    images = tmp_path / "images"
    images.mkdir()
    for name, colour in COLOURS.items():
        Image.fromarray(np.full((40, 30, 3), colour, np.uint8)).save(images / name)
    running = gateway(tmp_path / "repository", "--allow-python").wait_ready()
    for protocol, url in (("HTTP", running.http), ("gRPC", running.grpc)):
        answer = run_client(python, program, "-i", protocol, "-u", url, "-c", "2", str(images))
        assert "PASS" in answer
        # The scores are softmaxes of (250, 1, 1) / 255.
        best = [line.strip() for line in answer.splitlines() if line.strip().startswith("0.570")]
        assert [line.partition(" ")[2] for line in best] == ["(0) = red", "(1) = green", "(2) = blue"], answer
