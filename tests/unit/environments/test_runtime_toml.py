"""Valid and invalid runtime.toml files, and third-party runtimes."""

import importlib
import logging
import sys
from pathlib import Path

import pytest

from gateway.environments.errors import BrokenRuntime
from gateway.environments.runtime import GPU_IMAGE, Format, discover, of_gpu_image, read_runtime

FULL = """
title = "Acme"
pythons = ">=3.8,<3.12"
platforms = ["linux-x86_64", "macos-arm64"]
[requirements]
cpu = ["acme==1.0", "numpy==1.23.5"]
cuda = ["acme-cuda==1.0"]
[download_mb]
cpu = 45
cuda = 2500.5
[env]
ACME_THREADS = "{threads}"
[[formats]]
platform = "acme_model"
files = ["*.acme"]
zip_entry = "*/code/*"
beside = ["*.params"]
artifact = "folder"
[[formats]]
platform = "acme_text"
files = ["*.txt", "*.text"]
head = "acme[0-9]"
by_name = true
"""


@pytest.fixture
def folder(tmp_path):
    def make(text: str, path: str = "acme") -> Path:
        made = tmp_path / path
        made.mkdir(parents=True)
        (made / "runtime.toml").write_text(text)
        (made / "runtime.py").write_text("raise AssertionError('a runtime is never imported by the gateway')\n")
        return made

    return make


def test_everything_that_it_may_say(folder):
    where = folder(FULL)
    runtime = read_runtime(where, "acme")
    assert (runtime.name, runtime.title, runtime.folder, runtime.pythons) == ("acme", "Acme", where, ">=3.8,<3.12")
    assert runtime.platforms == ("linux-x86_64", "macos-arm64")
    assert runtime.requirements == {"cpu": ("acme==1.0", "numpy==1.23.5"), "cuda": ("acme-cuda==1.0",)}
    assert runtime.download_mb == {"cpu": 45, "cuda": 2500.5}
    assert runtime.env == {"ACME_THREADS": "{threads}"}
    assert runtime.formats == (
        Format("acme_model", ("*.acme",), "*/code/*", ("*.params",), "folder"),
        Format("acme_text", ("*.txt", "*.text"), None, (), "file", head="acme[0-9]", by_name=True),
    )


def test_what_it_may_leave_out(folder):
    runtime = read_runtime(folder('title = "A"\npythons = ">=3.8"\n'), "a")
    assert (runtime.platforms, runtime.requirements, runtime.download_mb, runtime.formats) == ((), {}, {}, ())


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('title = "Acme"', "", "'title' is missing; expected a string"),
        ('title = "Acme"', "title = 1", "'title' is 1; expected a string"),
        ('title = "Acme"', 'title = "Acme"\ntitel = 1', "there is no key 'titel'; the keys are title, pythons"),
        (">=3.8,<3.12", "3.8", "'pythons' is '3.8'; expected a range of Python versions, such as '>=3.11,<3.15'"),
        (
            '"macos-arm64"',
            '"amiga"',
            "'platforms' is ['linux-x86_64', 'amiga']; expected a list of values from linux-x86_64",
        ),
        ('["acme-cuda==1.0"]', '"acme"', "'requirements.cuda' is 'acme'; expected a list of strings"),
        ("cuda = 2500.5", "tpu = 1", "there is no key 'download_mb.tpu'; the keys are cpu, cuda"),
        ("cpu = 45", 'cpu = "45"', "'download_mb.cpu' is '45'; expected a number of megabytes"),
        ('"{threads}"', "1", "'env.ACME_THREADS' is 1; expected a string"),
        ('files = ["*.acme"]', "", "'formats[0].files' is missing; expected a list of file patterns"),
        ('"folder"', '"disk"', "'formats[0].artifact' is 'disk'; expected one of file, folder"),
        ('"acme_text"', "[]", "'formats[1].platform' is []; expected a string"),
        ('"acme[0-9]"', '"acme["', "'formats[1].head' is 'acme['; expected a regular expression"),
        (
            "[requirements]",
            'prepare = "../x.py"\n[requirements]',
            "'prepare' is '../x.py'; expected the name of a file in the same folder",
        ),
        (
            "[requirements]",
            'prepare = "no.py"\n[requirements]',
            "'prepare' is 'no.py'; expected the name of a file in the same folder",
        ),
        ("[[formats]]", "[formats]", "is not TOML"),
        ("[requirements]", "fallback_for = 7\n[requirements]", "'fallback_for' is 7; expected a string"),
        (
            "[requirements]",
            'gpu_image = "amd"\n[requirements]',
            "'gpu_image' is 'amd'; expected one of cuda, cpu, none",
        ),
        ('"acme_text"', '"acme_text"\ntriton_backend = 1', "'formats[1].triton_backend' is 1; expected a string"),
        ("[env]", "[env", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_its_file_and_key(folder, before, after, complaint):
    assert before in FULL
    where = folder(FULL.replace(before, after))
    with pytest.raises(BrokenRuntime) as caught:
        read_runtime(where, "acme")
    assert str(caught.value).startswith(str(where / "runtime.toml"))
    assert complaint in str(caught.value)


def test_a_folder_with_one_file_missing(folder, tmp_path):
    where = folder(FULL)
    (where / "runtime.py").unlink()
    with pytest.raises(BrokenRuntime, match=r"no runtime\.py"):
        read_runtime(where, "acme")
    with pytest.raises(BrokenRuntime, match="cannot be read: No such file"):
        read_runtime(tmp_path, "acme")


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """distribution(name, entry="package") makes Python find an installed distribution with this entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def make(name: str, **entries: str) -> None:
        described = tmp_path / f"{name}-1.0.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{entry} = {package}\n" for entry, package in entries.items())
        (described / "entry_points.txt").write_text(f"[modelport.runtimes]\n{lines}")
        importlib.invalidate_caches()

    return make


def test_ours_are_found_by_the_same_mechanism():
    assert {"onnx", "torchscript", "savedmodel", "mxnet", "tflite"} <= set(discover())


def test_triton_calls_who_serves_a_format_by_its_backend_and_others_go_by_their_names():
    known = discover()
    assert known["onnx"].backend("onnxruntime_onnx") == "onnxruntime"
    assert known["torchscript"].backend("pytorch_libtorch") == "pytorch"
    assert known["torchscript"].backend("torch_export") == "torchscript"
    assert known["savedmodel"].backend("tensorflow_savedmodel") == "tensorflow"
    assert known["mxnet"].backend("mxnet_symbol") == "mxnet"


def test_what_it_says_for_triton_for_exports_and_for_people(folder):
    text = FULL.replace("[requirements]", 'licenses = "Acme: MIT"\ngpu_image = "cpu"\n[requirements]')
    text += 'triton_backend = "acme_triton"\nexport_format = "text"\n'
    runtime = read_runtime(folder(text), "acme")
    assert (runtime.licenses, runtime.gpu_image) == ("Acme: MIT", "cpu")
    assert [runtime.backend(name) for name in ("acme_text", "acme_model")] == ["acme_triton", "acme"]
    assert [runtime.export_format(name) for name in ("acme_text", "acme_model", "other")] == ["text", "", ""]


def test_the_image_has_each_of_ours_in_one_way_and_says_which_licenses_it_downloads():
    named = {how: of_gpu_image(how) for how in GPU_IMAGE}
    assert sorted(name for names in named.values() for name in names) == sorted(discover())
    assert all(runtime.licenses for runtime in discover().values())


def test_a_third_partys_is_found_and_not_imported(folder, distribution, tmp_path):
    top = folder(FULL, "acme_top")
    nested = folder(FULL, "acme_parent/runtimes/nested")
    for package in (top, tmp_path / "acme_parent", nested):
        (package / "__init__.py").write_text("raise AssertionError('imported')\n")
    distribution("acme", acme="acme_top", nested="acme_parent.runtimes.nested")
    found = discover()
    assert found["acme"].folder == top
    assert found["nested"].folder == nested
    assert "onnx" in found
    assert not [name for name in sys.modules if name.startswith("acme")]


def test_a_broken_one_is_left_out_with_a_warning_and_ours_stay(folder, distribution, caplog):
    folder("title = ", "acme_broken")
    folder(FULL, "acme_onnx")
    distribution("acme", broken="acme_broken", absent="acme_absent.there", onnx="acme_onnx")
    with caplog.at_level(logging.WARNING, "environments"):
        found = discover()
    assert {"onnx", "torchscript"} <= set(found)
    assert found["onnx"].title != "Acme"
    assert not {"broken", "absent"} & set(found)
    messages = [record.getMessage() for record in caplog.records]
    assert any("'broken' is skipped" in line and "is not TOML" in line for line in messages)
    assert any("'absent' is skipped" in line and "'acme_absent.there', which is not" in line for line in messages)
    assert any("'onnx' is skipped" in line and "the name is taken" in line for line in messages)
