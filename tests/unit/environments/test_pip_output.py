"""Lines that several releases of pip print."""

import pytest

from gateway.environments.pip import Output


@pytest.mark.parametrize(
    ("line", "progress"),
    [
        ("Collecting torch==2.13.0 (from -r requirements.txt (line 1))", "looking for torch"),
        ("  Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl (180.2 MB)", "downloading torch (180.2 MB)"),
        ("  Downloading https://x/nvidia_nccl_cu13-9.1-py3-none.whl (500MB)", "downloading nvidia-nccl-cu13 (500 MB)"),
        ("Downloading torch-2.13.0-cp311-cp311-linux_x86_64.whl.metadata (29 kB)", ""),
        ("  Using cached numpy-2.4.6-cp311-cp311-linux_x86_64.whl (16 MB)", "using numpy from pip's cache"),
        ("  Building wheel for tiny (pyproject.toml): started", "building tiny from its source"),
        ("Building wheels for collected packages: tiny", ""),
        ("Installing collected packages: numpy, torch", "installing 2 packages"),
        ("Installing collected packages: numpy", "installing 1 package"),
        ("Requirement already satisfied: numpy in ./lib", ""),
        ("WARNING: You are using pip version 21.2.4; however, version 26.0 is available.", ""),
        ("Successfully installed numpy-2.4.6", ""),
    ],
)  # fmt: skip
def test_progress(line, progress):
    assert Output().feed(line) == progress


RETRY = "WARNING: Retrying (Retry(total=4, connect=None, redirect=None, status=None)) after connection broken by "
NOT_FOUND = "ERROR: Could not find a version that satisfies the requirement torch==9.9 (from versions: {})"
NO_MATCH = "ERROR: No matching distribution found for torch==9.9"


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            [
                "ERROR: Ignored the following versions that require a different python version: 3.0 Requires",
                NOT_FOUND.format("1.0, 2.1, 2.2, 2.3"),
                NO_MATCH,
            ],
            "pip could not find torch==9.9 for Python 3.11: the newest versions in its index are 2.1, 2.2, 2.3",
        ),
        (
            [NOT_FOUND.format("none"), NO_MATCH],
            "pip could not find torch==9.9 for Python 3.11: its index has no version for this Python and platform",
        ),
        (
            [
                RETRY + "'NewConnectionError('<HTTPConnection object at 0x7f>: Failed to establish a new connection: "
                "[Errno -3] Temporary failure in name resolution')': /simple/torch/",
                NOT_FOUND.format("none"),
                NO_MATCH,
            ],
            "pip could not reach its package index for torch==9.9 (temporary failure in name resolution): "
            "check the network and 'pip config list'",
        ),
        (
            [
                "Could not fetch URL https://x/torch/: There was a problem confirming the ssl certificate: - skip",
                NOT_FOUND.format("none"),
            ],
            "pip could not reach its package index for torch==9.9 (its certificate is not trusted): "
            "check the network and 'pip config list'",
        ),
        (
            ["ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"],
            "the disk became full while pip installed: free some, or set MODELPORT_HOME and TMPDIR elsewhere",
        ),
        (
            ["Collecting a", "ERROR: Cannot install a==1 and b==2: they conflict.", "ERROR: ResolutionImpossible"],
            "pip failed: Cannot install a==1 and b==2: they conflict",
        ),
        (
            ["ERROR: Could not open requirements file: /home/me/.cache/x/requirements.txt is a directory"],
            "pip failed: Could not open requirements file: requirements.txt is a directory",
        ),
        (["Collecting a", "something odd", "WARNING: ignored"], "pip failed: something odd"),
        ([], "pip failed: it printed nothing"),
    ],
)  # fmt: skip
def test_the_sentence_of_a_failure(lines, sentence):
    output = Output()
    for line in lines:
        output.feed(line)
    assert output.failure(1, "3.11") == sentence


def test_a_kill_and_the_last_lines():
    output = Output()
    for number in range(40):
        output.feed(f"line {number}")
    assert output.failure(-9, "3.11").startswith("pip was killed by SIGKILL, probably because")
    assert list(output.lines) == [f"line {number}" for number in range(25, 40)]
