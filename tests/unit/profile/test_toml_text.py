"""Keys are set in a model.toml, of which everything else stays as it is."""

import subprocess
import tomllib
from pathlib import Path

import pytest

from gateway.profile.recommendation import Setting
from gateway.profile.toml_text import NotEditable, patch, with_settings
from gateway.repository.model_toml import ModelToml

SETTINGS = {
    "max_batch_size": Setting(16, "16 rows take 4 ms"),
    "threads": Setting(2, "a second thread helps"),
    "queue_delay_ms": Setting(0.5, "the target leaves time"),
}
COMMENTED = """\
# What we serve.
threads = 8  # licensed cores
device = "cpu"

# How clients send images.
[preprocess]
size = [8, 8]
threads = 3
"""


def test_a_file_is_written_where_there_is_none() -> None:
    text = with_settings("", SETTINGS)
    assert ModelToml.model_validate(tomllib.loads(text)).queue_delay_ms == 0.5
    assert text.startswith("# modelport profile: 16 rows take 4 ms\nmax_batch_size = 16\n")


def test_comments_and_tables_stay() -> None:
    text = with_settings(COMMENTED, SETTINGS)
    assert set(COMMENTED.splitlines()) - set(text.splitlines()) == {"threads = 8  # licensed cores"}
    assert "# modelport profile: a second thread helps\nthreads = 2  # licensed cores\n" in text
    assert text.index("queue_delay_ms") < text.index("# How clients send images.\n[preprocess]")
    assert tomllib.loads(text)["preprocess"] == {"size": [8, 8], "threads": 3}


def test_the_next_profile_replaces_its_own_comments() -> None:
    long = {"threads": Setting(4, "words " * 40)}
    once = with_settings(with_settings(COMMENTED, long), SETTINGS)
    assert with_settings(once, SETTINGS) == once == with_settings(COMMENTED, SETTINGS)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('"threads" = 8', id="a quoted key, without a line break at the end"),
        pytest.param("parameters = {threads = 1}\nthreads=8\n", id="a key of the same name in a table of one line"),
        pytest.param("batch_sizes = [\n  1,\n  2,\n]\n[[inputs]]\nname = 'x'\n", id="a list over several lines"),
    ],
)
def test_other_ways_to_write_it(text: str) -> None:
    assert tomllib.loads(with_settings(text, SETTINGS)) == {
        **tomllib.loads(text),
        "max_batch_size": 16,
        "threads": 2,
        "queue_delay_ms": 0.5,
    }


def test_line_ends_and_unusual_characters_stay() -> None:
    dos = "\ufeff" + COMMENTED.replace("\n", "\r\n").replace("cores", "co\u2028res")
    text = with_settings(dos, SETTINGS)
    assert text.count("\r\n") == text.count("\n")
    assert text.startswith("\ufeff# What we serve.\r\n")
    assert "\r\nthreads = 2  # licensed co\u2028res\r\n" in text


def test_what_cannot_be_edited_by_line_is_refused() -> None:
    with pytest.raises(NotEditable, match="set the keys"):
        with_settings('labels = {a = """\nthreads = 1\n"""}\n', SETTINGS)


@pytest.mark.parametrize("before", ["", COMMENTED, COMMENTED.rstrip(), COMMENTED.replace("\n", "\r\n")])
def test_the_patch_applies(before: str, tmp_path: Path) -> None:
    after = with_settings(before, SETTINGS)
    file = tmp_path / "model.toml"
    if before:
        file.write_bytes(before.encode())
    (tmp_path / "change.patch").write_bytes(patch(before, after).encode())
    subprocess.run(["git", "apply", "change.patch"], cwd=tmp_path, check=True, env={"GIT_CEILING_DIRECTORIES": "/"})
    assert file.read_bytes() == after.encode()
    assert patch(after, after) == ""
