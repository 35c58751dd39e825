"""Whatever a file contains, it is either translated or refused with a one-sentence reason, within bounded time and
memory. Each problem that test_dl4j_fuzz.py has found has its own test here."""

import io
import json
import re
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.contract import LoadError, TensorSpec
from runtimes.dl4j.archive import Archive
from runtimes.dl4j.choices import NONE
from runtimes.dl4j.reader import model_bytes
from runtimes.dl4j.translate import translate_archive
from tests.unit.runtimes.dl4j import arrays, configurations, normalizers, zips
from tests.unit.runtimes.dl4j.configurations import (
    batch_normalization,
    bidirectional,
    convolution,
    dense,
    feed,
    graph,
    layer,
    multi_layer,
    output,
    plain,
    pooling,
    preprocessor,
    recurrent,
    vertex,
    wrapper,
)

Configuration = dict[str, Any]
SECONDS, BYTES = 10.0, 512 << 20
PLAIN = multi_layer(dense(2, 3), output(3, 2))
ROW = np.linspace(-1, 1, 2 * 3 + 3 + 3 * 2 + 2)


def load(path: Path, *shape: int) -> bytes:
    """Do what runtime.load does, without ONNX Runtime. shape: that of "in", as declared in model.toml."""
    declared = [TensorSpec("in", "FP32", shape)] if shape else []
    return model_bytes(str(path), declared, NONE._replace(convolution_1d="M1"))


def refused(made: Callable[[], Any]) -> str:
    began = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(LoadError) as caught:
            made()
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert 0 < len(message) < 1000
    assert message.isprintable()
    assert time.process_time() - began < SECONDS
    return message


def written(folder: Path, configuration: Configuration, count: int = 0, normalizer: bytes = b"") -> Path:
    """Write an uncompressed archive, because some of these would exceed the limit for expansion."""
    entries = {
        "configuration": json.dumps(configuration).encode(),
        "coefficients": arrays.array(np.linspace(-1, 1, count)),
    }
    if normalizer:
        entries["normalizer"] = normalizer
    return zipped(folder, zipfile.ZIP_STORED, **entries)


def zipped(folder: Path, how: int = zipfile.ZIP_DEFLATED, **entries: bytes) -> Path:
    """Write an archive from entries named without their extensions: configuration, coefficients, normalizer."""
    endings = {"configuration": ".json"}
    with zipfile.ZipFile(folder / "m.zip", "w", how) as file:
        for name, data in entries.items():
            file.writestr(name + endings.get(name, ".bin"), data)
    return folder / "m.zip"


WHOLE = {"configuration": json.dumps(PLAIN).encode(), "coefficients": arrays.array(ROW)}


def test_the_unmodified_model_is_served(tmp_path: Path) -> None:
    assert load(zipped(tmp_path, **WHOLE))


# Zips.


@pytest.mark.parametrize("how", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path: Path, how: int) -> None:
    assert "compressed in a way that DL4J does not write" in refused(lambda: load(zipped(tmp_path, how, **WHOLE)))


@pytest.mark.parametrize("entry", ["configuration", "coefficients", "normalizer"])
def test_a_bomb(tmp_path: Path, entry: str) -> None:
    path = zipped(tmp_path, **{**WHOLE, entry: bytes(65 << 20)})
    assert path.stat().st_size < 100_000
    message = refused(lambda: load(path))
    assert "expands to 68157440 bytes, which is too much" in message


@pytest.mark.parametrize("count", [10 << 20, 1 << 19])
def test_a_bomb_of_json(tmp_path: Path, count: int) -> None:
    """Every three bytes become a Python object of many bytes: 8 kB used to take seconds."""
    path = zipped(tmp_path, **{**WHOLE, "configuration": b'{"a":[' + b"{}," * count + b"{}]}"})
    assert "which is too much" in refused(lambda: load(path))


def test_an_entry_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.zip", "w") as file:
        file.writestr("configuration.json", WHOLE["configuration"])
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("configuration.json", WHOLE["configuration"])
    assert "has the entry 'configuration.json' twice" in refused(lambda: load(tmp_path / "m.zip"))


def test_no_entry_is_a_path(tmp_path: Path) -> None:
    """Entries that DL4J does not write are ignored, whatever their names."""
    path = zipped(tmp_path, **WHOLE)
    with zipfile.ZipFile(path, "a") as file:
        for name in ("../../outside", "/tmp/outside", "con\\..\\x", "é\n", "x" * 60000):
            file.writestr(name, b"x")
    before = sorted(tmp_path.iterdir())
    assert load(path)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("entry", ["configuration", "coefficients"])
def test_a_bomb_that_says_that_it_is_no_bomb(tmp_path: Path, entry: str) -> None:
    """The expansion used to be computed from the compressed size in the directory, which can lie."""
    path = zipped(tmp_path, **{**WHOLE, entry: bytes(65 << 20)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, fields_of_directory(bytes(data), list(WHOLE).index(entry)) + 20, 0xFFFFFFF0)
    path.write_bytes(data)
    assert "which is too much" in refused(lambda: load(path))


def test_a_zip_within_a_zip(tmp_path: Path) -> None:
    inner = zipped(tmp_path, **WHOLE).read_bytes()
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as file:
        file.writestr("model.zip", inner)
    assert "no entry configuration.json" in refused(lambda: load(tmp_path / "outer.zip"))


def fields_of_directory(data: bytes, place: int) -> int:
    """Return where the place-th entry of the zip's directory begins."""
    at = -1
    for _ in range(place + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    return at


@pytest.mark.parametrize(
    ("offset", "code", "value"),
    [
        (8, "H", 1),  # encrypted
        (8, "H", 0x20),  # patched
        (8, "H", 0x41),  # strongly encrypted
        (10, "H", 99),  # AES
        (20, "I", 3),  # the compressed size
        (24, "I", 3),  # the size
        (24, "I", 1 << 20),
        (24, "I", 0xFFFFFFF0),
        (42, "I", 0),  # its offset: that of another entry
        (42, "I", 0x7FFFFFFF),
    ],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_directory_that_lies(tmp_path: Path, place: int, offset: int, code: str, value: int) -> None:
    path = zipped(tmp_path, **WHOLE)
    data = bytearray(path.read_bytes())
    at = fields_of_directory(bytes(data), place) + offset
    if struct.unpack_from("<" + code, data, at)[0] == value:
        pytest.skip("that is the truth")
    struct.pack_into("<" + code, data, at, value)
    path.write_bytes(data)
    message = refused(lambda: load(path))
    assert "archive" in message or "file" in message


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    path = zipped(tmp_path, zipfile.ZIP_STORED, **WHOLE)
    data = path.read_bytes()
    for length in range(0, len(data), 53):
        path.write_bytes(data[:length])
        assert refused(lambda: load(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "cannot be read" in refused(lambda: load(tmp_path))
    assert "cannot be read" in refused(lambda: load(tmp_path / "missing.zip"))


# Arrays.


def buffer(mode: str, length: int, kind: str, data: bytes) -> bytes:
    return arrays.utf(mode) + struct.pack(">i" if mode == "JAVACPP" else ">q", length) + arrays.utf(kind) + data


def shape(*numbers: int) -> bytes:
    return buffer("LONG_SHAPE", len(numbers), "LONG", struct.pack(f">{len(numbers)}q", *numbers))


VALUES = buffer("MIXED_DATA_TYPES", 2, "FLOAT", struct.pack(">2f", 1, 2))
TWO = shape(2, 1, 2, 1, 1, 0, 1, 99)
LIES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it ends where 2 more bytes"),
    "a mode that is none": (buffer("HDF5", 4, "LONG", bytes(32)), "a buffer of the mode 'HDF5'"),
    "a mode that is no text": (b"\x00\x02\xff\xff", "a string in it is not UTF-8"),
    "a mode that goes on": (b"\xff\xff" + b"x" * 100, "it ends where 65535"),
    "a shape that is FLOAT": (VALUES + VALUES, "its shape has the datatype 'FLOAT'"),
    "a shape of -1 numbers": (buffer("LONG_SHAPE", -1, "LONG", b""), "its shape consists of -1 numbers"),
    "a shape of 2^63 - 1 numbers": (buffer("LONG_SHAPE", (1 << 63) - 1, "LONG", b""), "its shape consists of 92233"),
    "a shape of 2^31 - 1 numbers": (buffer("JAVACPP", (1 << 31) - 1, "INT", b""), "its shape consists of 2147483647"),
    "a shape that ends": (buffer("LONG_SHAPE", 8, "LONG", bytes(63)), "it ends where 64"),
    "rank 33": (shape(33, *[1] * 66, 0, 1, 99) + VALUES, "its shape consists of 70 numbers"),
    "rank 33 in fewer": (shape(33, 1, 1, 1, 1, 0, 1, 99) + VALUES, "rank 33"),
    "rank -1": (shape(-1, 1, 2, 1, 1, 0, 1, 99) + VALUES, "rank -1"),
    "another rank than its numbers": (shape(1, 1, 2, 1, 1, 0, 1, 99) + VALUES, "rank 1 and consists of 8"),
    "a size below 0": (shape(2, -1, -2, 1, 1, 0, 1, 99) + VALUES, "its shape is \\[-1, -2\\]"),
    "sizes that overflow": (shape(2, 1 << 62, 1 << 62, 1, 1, 0, 1, 99) + VALUES, "2 values for the shape"),
    "sizes that overflow to 2": (shape(2, (1 << 63) + 1 - (1 << 63), 3, 1, 1, 0, 1, 99) + VALUES, "for the shape"),
    "32 sizes that overflow": (shape(32, *[1 << 62] * 32, *[1] * 32, 0, 1, 99) + VALUES, "for the shape"),
    "another order": (shape(2, 1, 2, 1, 1, 0, 1, 98) + VALUES, "the order 98"),
    "no row": (
        shape(2, 2, 2, 1, 1, 0, 1, 102) + buffer("MIXED_DATA_TYPES", 4, "FLOAT", bytes(16)),
        "its shape \\[2, 2\\] is not a single row",
    ),
    "values of -2": (TWO + buffer("MIXED_DATA_TYPES", -2, "FLOAT", b""), "-2 values"),
    "values of 2^62": (
        shape(2, 1, 1 << 62, 1, 1, 0, 1, 99) + buffer("MIXED_DATA_TYPES", 1 << 62, "FLOAT", b""),
        "it ends where",
    ),
    "values of INT": (TWO + buffer("MIXED_DATA_TYPES", 2, "INT", bytes(8)), "its values have the datatype 'INT'"),
    "values of BFLOAT16": (TWO + buffer("MIXED_DATA_TYPES", 2, "BFLOAT16", bytes(4)), "'BFLOAT16'"),
    "values of COMPRESSED": (TWO + buffer("MIXED_DATA_TYPES", 2, "COMPRESSED", bytes(8)), "'COMPRESSED'"),
    "values that end": (TWO + VALUES[:-1], "it ends where 8"),
    "more behind them": (TWO + VALUES + b"\0", "continues for 1 bytes"),
    "a text of zeros": (TWO + buffer("MIXED_DATA_TYPES", 2, "\0" * 20, bytes(8)), "its values have the datatype"),
}


@pytest.mark.parametrize("name", LIES)
def test_an_array_that_lies(tmp_path: Path, name: str) -> None:
    data, message = LIES[name]
    path = zipped(tmp_path, **{**WHOLE, "coefficients": data})
    assert re.search(f"coefficients.bin is broken: .*{message}", refused(lambda: load(path)))
    header = normalizers.standardize(([1], [1]))[: -2 * len(arrays.array(np.ones(1)))]
    if name != "no row":
        path = zipped(tmp_path, **WHOLE, normalizer=header + data)
        assert "normalizer.bin is broken" in refused(lambda: load(path))


@pytest.mark.parametrize(
    ("count", "message"), [(1, "it needs 6 more"), (16, "it needs 2 more"), (18, "1 parameters more")]
)
def test_too_few_and_too_many_parameters(tmp_path: Path, count: int, message: str) -> None:
    assert message in refused(lambda: load(written(tmp_path, PLAIN, count)))


def test_parameters_that_are_no_numbers_are_dl4js_affair(tmp_path: Path) -> None:
    """DL4J computes with NaN, and so does the runtime, without a warning (which would be an error here)."""
    for odd in (np.nan, np.inf, -np.inf, 1e38):
        zips.write(tmp_path / "m.zip", multi_layer(batch_normalization(1)), np.full(4, odd))
        assert load(tmp_path / "m.zip", -1, 1)


@pytest.mark.parametrize(("dtype", "bits"), [("HALF", "7d00"), ("FLOAT", "7fa00000"), ("DOUBLE", "7ff4000000000000")])
def test_signalling_nan(tmp_path: Path, dtype: str, bits: str) -> None:
    """numpy warns about signalling NaN, but not about others."""
    values = arrays.array(np.zeros(4), dtype)
    data = values[: -4 * (len(bits) // 2)] + bytes.fromhex(bits) * 4
    path = zipped(tmp_path, configuration=json.dumps(multi_layer(batch_normalization(1))).encode(), coefficients=data)
    assert load(path, -1, 1)
    pair = normalizers.standardize(([], []))[: -2 * len(arrays.array(np.zeros(0)))] + data * 2
    path = zipped(
        tmp_path, **{**WHOLE, "configuration": json.dumps(multi_layer(dense(4, 2))).encode()}, normalizer=pair
    )
    assert refused(lambda: load(path))


# JSON.

JSON: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "it is not JSON"),
    "no UTF-8": (b'{"confs": "\xff"}', "it is not JSON"),
    "UTF-16": ('{"confs": []}'.encode("utf-16"), "it is not JSON"),
    "a list": (b"[]", "it is not an object"),
    "a number": (b"1", "it is not an object"),
    "null": (b"null", "it is not an object"),
    "an empty object": (b"{}", "neither 'confs' nor 'vertices'"),
    "lists in lists": (b'{"confs":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "JSON|deeper"),
    "objects in objects": (b'{"confs":' * 100_000 + b"[]" + b"}" * 100_000, "JSON|deeper"),
    "70 levels": (b'{"confs":' + b"[" * 70 + b"]" * 70 + b"}", "deeper than 64"),
    "a number of 5000 digits": (b'{"confs": [' + b"9" * 5000 + b"]}", "not JSON|not a layer"),
    "a field twice": (b'{"confs": [], "confs": []}', "two fields of the same name"),
    "a nested field twice": (b'{"confs": [{"layer": 1, "layer": 2}]}', "two fields of the same name"),
    "half a pair": (b'{"confs": ["\\ud800"]}', "not Unicode"),
    "half a pair as a name": (b'{"vertices": {"\\udfff": 1}}', "not Unicode"),
    "no layers": (b'{"confs": []}', "has 0 layers"),
    "no vertices": (b'{"vertices": {}}', "has 0 layers"),
    "layers that are an object": (b'{"confs": {"0": {}}}', "neither"),
    "vertices that are a list": (b'{"vertices": []}', "neither"),
    "a layer that is a number": (b'{"confs": [1]}', "layer 0 is not a layer"),
    "a layer that is a list": (b'{"confs": [{"layer": []}]}', "layer 0 is not a layer"),
    "a layer without a class": (b'{"confs": [{"layer": {"nin": 1, "nout": 1}}]}', "layer 0 is not a layer"),
    "a class that is a number": (b'{"confs": [{"layer": {"@class": 1}}]}', "layer 0 is not a layer"),
    "a class of no name": (b'{"confs": [{"layer": {"@class": "org.nd4j."}}]}', "not covered|not determine"),
    "a class of two lines": (b'{"confs": [{"layer": {"@class": "a\\nb"}}]}', "a.b|not determine"),
    "a class of a million characters": (
        b'{"confs": [{"layer": {"@class": "' + b"x" * 10**6 + b'"}}]}',
        "xxx|not determine",
    ),
}


@pytest.mark.parametrize("name", JSON)
def test_json_that_says_something_else(tmp_path: Path, name: str) -> None:
    data, message = JSON[name]
    path = zipped(tmp_path, **{**WHOLE, "configuration": data})
    assert re.search(message, refused(lambda: load(path)))


def test_a_long_list_where_a_number_is_wanted(tmp_path: Path) -> None:
    for value in ([[1] * 10_000], "x" * 10**5, {"a": {"b": [[[]]] * 1000}}):
        message = refused(lambda value=value: load(written(tmp_path, multi_layer(dense(2, 3, nout=value)), 9)))
        assert "its field 'nOut' is" in message


FIELDS: dict[str, tuple[Configuration, str]] = {
    **{f"nIn {value!r:.20}": (dense(2, 3, nin=value), "'nIn'") for value in (0, -1, 1.0, "2", True, [2], 1 << 31)},
    "a row of 2^31 - 1": (dense((1 << 31) - 1, 1), "rows of sizes"),
    "nIn NaN": (dense(2, 3, nin=float("nan")), "'nIn'"),
    "many parameters": (dense(1 << 20, (1 << 31) - 1), "it needs 2251799812636672 more parameters"),
    "two fields": (dense(2, 3, nIn=5), "names differ only in case"),
    "a flag that is a number": (dense(2, 3, hasBias=1), "'hasBias'"),
    "a flag that is null": (dense(2, 3, hasBias=None), "'hasBias'"),
    "a flag that is a text": (dense(2, 3, hasBias="false"), "'hasBias'"),
    "an alpha that is NaN": (dense(2, 3, configurations.activation("ELU", alpha=float("nan"))), "'alpha'"),
    "an alpha of 1e300": (dense(2, 3, configurations.activation("ELU", alpha=1e300)), "'alpha'"),
    "an alpha of 10^400": (dense(2, 3, configurations.activation("ELU", alpha=10**400)), "'alpha'"),
    "an activation that is none": (dense(2, 3, "Nonsense"), "nonsense|Nonsense"),
    "an activation that is a list": (dense(2, 3) | {"activationFn": [], "activationFunction": "relu"}, "activation"),
    "a mode that is none": (convolution(2, 3, [2, 2], convolutionMode="same"), "'convolutionMode'"),
    # Its default differed from that of the other layers.
    "no mode in three dimensions": (
        convolution(2, 3, [2, 2, 2], name="Convolution3D", convolutionMode=None, dataFormat="NCDHW"),
        "'convolutionMode'",
    ),
    "a pooling that is none": (pooling("MEDIAN", [2, 2], [2, 2]), "'poolingType'"),
    "a kernel of 0": (pooling("MAX", [0, 2], [2, 2]), "'kernelSize'"),
    "a stride of 0": (pooling("MAX", [2, 2], [2, 0]), "'stride'"),
    # In one dimension, the second number has no meaning, and the first was not checked either.
    "a stride of 0 in one dimension": (pooling("MAX", [2], [0, 1], "Subsampling1DLayer"), "'stride'"),
    "a kernel of 0 in one dimension": (
        pooling("MAX", [2], [1], "Subsampling1DLayer") | {"kernelSize": [0, 1]},
        "'kernel",
    ),
    "a large kernel": (pooling("MAX", [1 << 15, 1 << 15], [1, 1]), "its kernel of"),
    "a large dilation": (convolution(2, 1, [1, 1], dilation=[1 << 30, 1]), "larger than"),
    "a large padding": (convolution(2, 1, [1, 1], padding=[1 << 30, 1]), "larger than"),
    # Dynamic sizes: the smallest request could demand gigabytes.
    "padding of an unknown size": (convolution(2, 1, [1, 1], padding=[1 << 16, 1 << 16]), "too large"),
    "zero padding of an unknown size": (plain("ZeroPaddingLayer", padding=[1 << 16] * 4), "too large"),
    "an enlarged unknown size": (plain("Upsampling2D", size=[1 << 12, 1 << 12]), "too large"),
    "a deconvolution's stride": (
        convolution(2, 1, [1, 1], name="Deconvolution2D", stride=[1 << 16, 1 << 16]),
        "too large",
    ),
    "an enlargement of 2^31": (plain("Upsampling2D", size=[1 << 31, 1]), "'size'"),
    "a vector repeated often": (plain("RepeatVector", n=(1 << 31) - 1), "it produces values of sizes"),
    "a vector repeated -1 times": (plain("RepeatVector", n=-1), "'n'"),
    "a block of 0": (plain("SpaceToDepthLayer", blockSize=0), "'blockSize'"),
    "a block of 2^31 - 1": (plain("SpaceToDepthLayer", blockSize=(1 << 31) - 1), "its block"),
    # ONNX's attribute has 64 bits, and ONNX Runtime allocates that many additional channels.
    "a reach of 1e30": (plain("LocalResponseNormalization", n=1e30), "'n'"),
    "a reach of -9": (plain("LocalResponseNormalization", n=-9), "'n'"),
    # An unknown format was mistaken for the default.
    **{
        f"{field} of {name}": (conf | {field: "nhwc"}, field)
        for name, field, conf in (
            ("enlarging", "format", plain("Upsampling2D", size=[2, 2])),
            ("enlarging volumes", "dataFormat", plain("Upsampling3D", size=[2, 2, 2])),
            ("padding", "dataFormat", plain("ZeroPaddingLayer", padding=[1, 1])),
            ("cropping", "dataFormat", plain("Cropping2D", cropping=[1, 1])),
            ("blocks", "dataFormat", plain("SpaceToDepthLayer", blockSize=2)),
            ("local response", "dataFormat", plain("LocalResponseNormalization")),
            ("loss", "format", layer("CnnLossLayer")),
            ("batch normalization", "cnn2DFormat", batch_normalization(1)),
            ("last steps", "rnnDataFormat", recurrent("LSTM", 1, 1)),
        )
    },
    "attention of more heads than outputs": (
        feed("SelfAttentionLayer", 1, 1, nheads=2, headSize=0, projectInput=True),
        "more heads than outputs",
    ),
    "an unknown format within": (
        wrapper("LastTimeStep", recurrent("LSTM", 1, 1, rnnDataFormat="TNC")),
        "'rnnDataFormat'",
    ),
    "two formats": (
        bidirectional("ADD", recurrent("LSTM", 1, 1)) | {"bwd": recurrent("LSTM", 1, 1, rnnDataFormat="NWC")},
        "different formats",
    ),
    "a wrapper of nothing": (plain("FrozenLayer", layer=None), "'layer'"),
    "a wrapper of a list": (plain("FrozenLayer", layer=[dense(2, 3)]), "'layer'"),
    "slopes of 70 sizes": (layer("PReLULayer", inputShape=[1] * 70), "expects activations of rank 71|input"),
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_says_something_else(tmp_path: Path, name: str) -> None:
    conf, message = FIELDS[name]
    shape = (-1, 1, 4, 4) if "LocalResponse" in conf["@class"] or "BatchNorm" in conf["@class"] else ()
    path = written(tmp_path, multi_layer(conf), 40)
    assert re.search(message, refused(lambda: load(path, *shape)))


DECLARED: dict[str, tuple[Configuration, tuple[int, ...], str]] = {
    # Sizes below 0 were mistaken for dynamic ones.
    "a deconvolution of nothing": (
        convolution(2, 1, [1, 1], name="Deconvolution2D", padding=[9, 9]),
        (-1, 2, 5, 5),
        "its padding of 9 leaves nothing",
    ),
    "a large vector": (plain("RepeatVector", n=1 << 20), (-1, 1 << 20), "it produces values of sizes"),
    "an enlarged image": (plain("Upsampling2D", size=[64, 64]), (-1, 3, 224, 224), "it produces values of sizes"),
    "a padded image": (plain("ZeroPaddingLayer", padding=[1 << 16] * 4), (-1, 3, 8, 8), "it produces values of sizes"),
    "attention of unknown features": (
        feed("SelfAttentionLayer", 4, 4, nheads=1, projectInput=False),
        (-1, -1, 5),
        "the number of its input's features is unknown",
    ),
    "attention over many steps": (
        feed("SelfAttentionLayer", 4, 4, nheads=1, projectInput=False),
        (-1, 4, 1 << 20),
        "it produces values of sizes",
    ),
    # One channel of a gigabyte became sixteen in ONNX Runtime.
    "one channel, padded": (
        convolution(1, 1, [1, 3], padding=[8000, 8000], hasBias=False),
        (-1, 1, 5, 5),
        "it produces values of sizes",
    ),
    "a deconvolution of many places by many weights": (
        convolution(1, 1, [1, 3], name="Deconvolution2D", stride=[1, 1], hasBias=False),
        (-1, 1, 1 << 14, 1 << 13),
        "it produces values of sizes",
    ),
    "a dilated kernel in mode Same over unknown sizes": (
        convolution(2, 2, [2, 2], convolutionMode="Same", dilation=[2, 2], stride=[2, 2]),
        (-1, 2, -1, -1),
        "dilated in mode Same",
    ),
}


@pytest.mark.parametrize("name", DECLARED)
def test_sizes_that_cannot_be(tmp_path: Path, name: str) -> None:
    conf, declared, message = DECLARED[name]
    path = written(tmp_path, multi_layer(conf), {"convolution": 18}.get(conf["@class"].rsplit(".")[-1].lower()[:11], 3))
    assert re.search(message, refused(lambda: load(path, *declared)))


def test_layers_that_enlarge_one_after_another(tmp_path: Path) -> None:
    """Each one alone stays within the limits."""
    for each in (
        plain("Upsampling1D", size=[16]),
        plain("Upsampling2D", size=[4, 4]),
        plain("ZeroPaddingLayer", padding=[256] * 4),
    ):
        message = refused(lambda each=each: load(written(tmp_path, multi_layer(*[each] * 20))))
        assert "too large" in message


@pytest.mark.parametrize("times", [40, 1000])
def test_wrappers_in_wrappers(tmp_path: Path, times: int) -> None:
    path = tmp_path / "m.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        before = '{"@class": "org.deeplearning4j.nn.conf.layers.misc.FrozenLayer", "layer": '
        text = before * times + json.dumps(dense(2, 3)) + "}" * times
        file.writestr("configuration.json", '{"confs": [{"layer": ' + text + "}]}")
        file.writestr("coefficients.bin", arrays.array(np.ones(9)))
    if times < 64:
        assert load(path)
    else:
        message = refused(lambda: load(path))
        assert "deeper than 64" in message or "RecursionError" in message


@pytest.mark.parametrize("count", [10_000, 30_000])
def test_many_layers(tmp_path: Path, count: int) -> None:
    text = json.dumps({"layer": {"@class": configurations.LAYERS + "DropoutLayer"}})
    marker = arrays.array(np.zeros(0))
    every = ('{"confs": [' + ",".join([text] * count) + "]}").encode()
    path = zipped(tmp_path, zipfile.ZIP_STORED, configuration=every, coefficients=marker)
    assert f"has {count} layers" in refused(lambda: load(path)) if count > 10_000 else load(path, -1, 5)


PREPROCESSORS: dict[str, Any] = {
    "a list": [preprocessor("CnnToFeedForward")],
    "a text": "none",
    "0": 0,
    "an empty list": [],
    "of no layer": {"7": preprocessor("CnnToFeedForward")},
    "a place with zeros": {"00": preprocessor("CnnToFeedForward")},
    "a number": {"0": 5},
    "none known": {"0": preprocessor("Unknown")},
    "nothing in it": {"0": preprocessor("ComposableInput", inputPreProcessors=None)},
    "an object in it": {"0": preprocessor("ComposableInput", inputPreProcessors={"0": preprocessor("CnnToRnn")})},
    "null in it": {"0": preprocessor("ComposableInput", inputPreProcessors=[None])},
    "another format": {
        "0": preprocessor("CnnToFeedForward", format="WHCN", inputHeight=1, inputWidth=1, numChannels=2)
    },
    "two formats": {
        "0": preprocessor(
            "FeedForwardToCnn3D", inputDepth=1, inputHeight=1, inputWidth=1, numChannels=2, isNCDHW=True, ncdhw=False
        )
    },
    "sizes that overflow": {
        "0": preprocessor("CnnToFeedForward", inputHeight=1 << 30, inputWidth=1 << 30, numChannels=1 << 30)
    },
}


@pytest.mark.parametrize("name", PREPROCESSORS)
def test_preprocessors_that_say_something_else(tmp_path: Path, name: str) -> None:
    """Those that were not objects used to be ignored."""
    path = written(tmp_path, PLAIN | {"inputPreProcessors": PREPROCESSORS[name]}, 17)
    assert refused(lambda: load(path))


# Graphs.

GELU = configurations.activation("GELU", precise=True)
SCALE = vertex("Scale", scaleFactor=0.5)


def chain(**fields: Any) -> Configuration:
    return graph(["in"], {"a": (dense(2, 3), ["in"]), "b": (SCALE, ["a"])}, ["b"]) | fields


def ordered(*names: Any) -> Configuration:
    return chain(topologicalOrderStr=list(names), topologicalOrder=list(range(len(names))))


GRAPHS: dict[str, tuple[Configuration, str]] = {
    "a cycle": (chain(vertexInputs={"a": ["b"], "b": ["a"]}), "depends on itself"),
    "itself": (chain(vertexInputs={"a": ["in"], "b": ["b"]}), "depends on itself"),
    "a missing vertex": (chain(vertexInputs={"a": ["in"], "b": ["c"]}), "vertex 'c', which it does not define"),
    "a missing output": (chain(networkOutputs=["c"]), "vertex 'c', which it does not define"),
    "no inputs of a vertex": (chain(vertexInputs={"a": ["in"], "b": []}), "'vertexInputs'"),
    "inputs that are a text": (chain(vertexInputs={"a": "in", "b": ["a"]}), "'vertexInputs'"),
    "inputs that are numbers": (chain(vertexInputs={"a": [1], "b": ["a"]}), "'vertexInputs'"),
    "inputs that are a list": (chain(vertexInputs=[["in"], ["a"]]), "'vertexInputs'"),
    "no outputs": (chain(networkOutputs=[]), "'networkOutputs'"),
    "no inputs": (chain(networkInputs=None), "'networkInputs'"),
    "an input of no name": (chain(networkInputs=[""]), "'networkInputs'"),
    "an input twice": (chain(networkInputs=["in", "in"]), "of the same name"),
    "an input that is a vertex": (chain(networkInputs=["in", "a"]), "of the same name"),
    # ONNX has no tensor that is both.
    "an output that is an input": (chain(networkOutputs=["in"]), "one that is also an input"),
    "an output twice": (chain(networkOutputs=["b", "b"]), "an output twice"),
    "an order with a stranger": (ordered("in", "a", "b", "c"), "order of vertices"),
    "an order without one": (ordered("in", "a"), "order of vertices"),
    "an order with one twice": (ordered("in", "a", "b", "b"), "order of vertices"),
    "an order backwards": (ordered("b", "a", "in"), "before its inputs"),
    "an order of numbers": (ordered(0, 1, 2), "'topologicalOrderStr'"),
    # DL4J uses them together or not at all. We used only the names, and assigned parameters to other layers.
    "an order without numbers": (chain(topologicalOrderStr=["in", "a", "b"]), "does not match"),
    "an order without names": (chain(topologicalOrder=[0, 1, 2]), "'topologicalOrderStr'"),
    "an order of fewer numbers": (ordered("in", "a", "b") | {"topologicalOrder": [0, 1]}, "does not match"),
    "a vertex that is a list": (chain(vertices={"a": [], "b": SCALE}), "vertex 'a' is not one"),
    "a vertex without a layer": (chain(vertices={"a": vertex("Layer", layerConf=None), "b": SCALE}), "not a layer"),
    "a frozen vertex of nothing": (chain(vertices={"a": vertex("Frozen", underlying=None), "b": SCALE}), "is not one"),
    "another operation": (
        graph(["in"], {"a": (dense(2, 3), ["in"]), "b": (vertex("ElementWise", op="Divide"), ["a", "a"])}, ["b"]),
        "'op'",
    ),
    "a layer of two": (graph(["in", "of"], {"a": (dense(2, 3), ["in", "of"])}, ["a"]), "it has 2 inputs"),
    "a shape of many sizes": (
        graph(["in"], {"a": (dense(2, 1), ["in"]), "b": (vertex("Reshape", newShape=[-1, *[1] * 70]), ["a"])}, ["b"]),
        "it produces values of sizes",
    ),
    "a shape of 10000 sizes": (
        graph(["in"], {"a": (dense(2, 1), ["in"]), "b": (vertex("Reshape", newShape=[0] * 10**4), ["a"])}, ["b"]),
        "it reshapes to",
    ),
    "a part from -1": (
        graph(["in"], {"a": (dense(2, 3), ["in"]), "b": (vertex("Subset", to=1, **{"from": -1}), ["a"])}, ["b"]),
        "'from'",
    ),
    "many stacked": (
        graph(["in"], {"a": (dense(2, 3), ["in"]), "b": (vertex("Stack"), ["a"] * 1000)}, ["b"]),
        "it stacks 1000 inputs",
    ),
    # A file of 50 kB produced 300,000 operators.
    "many read": (
        graph(["in"], {f"v{k}": (vertex("ElementWise", op="Max"), ["in"] * 60) for k in range(1000)}, ["v0"]),
        "more than 50000 inputs",
    ),
    "many operators": (
        graph(
            ["in"],
            {f"v{k}": (plain("ActivationLayer", activationFn=GELU), [f"v{k - 1}" if k else "in"]) for k in range(4000)}
            | {"d": (dense(2, 3), ["v3999"])},
            ["d"],
        ),
        "too many operators",
    ),
    # Each doubles a dynamic size: the rows, or the steps.
    "rows doubled 40 times": (
        graph(
            ["in"],
            {f"v{k}": (vertex("Stack"), [f"v{k - 1}" if k else "in"] * 2) for k in range(40)}
            | {"d": (dense(2, 3), ["v39"])},
            ["d"],
        ),
        "too large",
    ),
    "steps doubled 40 times": (
        graph(
            ["in"],
            {"v": (recurrent("LSTM", 2, 1), ["in"])}
            | {f"v{k}": (vertex("Merge", mergeAxis=2), [f"v{k - 1}" if k else "v"] * 2) for k in range(40)},
            ["v39"],
        ),
        "too large",
    ),
    "features doubled 40 times": (
        graph(
            ["in"],
            {"v": (dense(2, 3), ["in"])}
            | {f"v{k}": (vertex("Merge", mergeAxis=1), [f"v{k - 1}" if k else "v"] * 2) for k in range(40)},
            ["v39"],
        ),
        "it produces values of sizes",
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_cannot_be(tmp_path: Path, name: str) -> None:
    configuration, message = GRAPHS[name]
    path = written(tmp_path, configuration, {"steps doubled 40 times": 16}.get(name, 9 if "sizes" not in name else 3))
    assert re.search(message, refused(lambda: load(path)))


NAMES = (
    "DenseLayer",
    "weights",
    "bias",
    "sizes_1",
    "N",
    "in_1",
    "a b/c:0",
    "é\n",
    "\0",
    "",
    "x" * 100_000,
    "'%s",
    "..",
)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_any_kind(tmp_path: Path, name: str) -> None:
    """The names of generated tensors never collide with names in the file."""
    vertices = {name: (dense(2, 3), ["in"]), "DenseLayer_1": (dense(3, 2), [name]), "b": (SCALE, ["DenseLayer_1"])}
    named = graph(["in"], vertices, ["b", "DenseLayer_1"])
    if not name:
        assert refused(lambda: load(written(tmp_path, named, 17)))
    else:
        assert load(written(tmp_path, named, 17))
        assert refused(lambda: load(written(tmp_path, named, 5)))


# Normalizers.

NORMALIZERS: dict[str, tuple[bytes, str]] = {
    "of one more": (normalizers.standardize(([1, 2, 3], [1, 1, 1])), "3 values for the input 'in' with 2"),
    "means of two, deviations of three": (normalizers.standardize(([1, 2], [1, 1, 1])), "3 values for the input"),
    "bounds of two and three": (normalizers.min_max(([1, 2], [1, 1, 1])), "its bounds have 2 and 3"),
    "NaN": (normalizers.standardize(([1, float("nan")], [1, 1])), "numbers for the input"),
    "infinite deviations": (normalizers.standardize(([1, 1], [1, float("inf")])), "numbers for the input"),
    "beyond single precision": (normalizers.standardize(([1e300, 1], [1, 1]), dtype="DOUBLE"), "numbers for the input"),
    "an infinite range": (normalizers.min_max(([float("inf")] * 2, [float("inf")] * 2)), "numbers for the input"),
    "a range that is NaN": (normalizers.min_max(([0, 0], [1, 1]), target=(float("nan"), 1.0)), "numbers for the"),
    "pixels up to 0": (normalizers.image(largest_pixel=0.0), "its largest pixel is 0"),
    "pixels up to nothing": (normalizers.image(largest_pixel=1e-320), "numbers for the input"),
    "pixels up to NaN": (normalizers.image(largest_pixel=float("nan")), "numbers for the input"),
    "no values": (normalizers.standardize(([], [])), "0 values for the input"),
    "labels of others": (normalizers.standardize(([1, 1], [1, 1]), ([1] * 5, [1] * 5)), "5 values for the output"),
    "for more inputs than there are data": (
        normalizers.multi_standardize([([1], [1])])[:-8].replace(b"\0\0\0\1\xff", b"\0\0\3\1\xff"),
        "normalizer.bin is broken",
    ),
    "for no input": (normalizers.multi_standardize([]), "it is for 0 inputs"),
    "another kind": (normalizers.vgg16(), "'IMAGE_VGG16', which is not covered"),
    "a kind of two lines": (normalizers.vgg16().replace(b"VGG", b"\n\0\x7f"), "which is not covered"),
    "a user's own": (normalizers.custom("org.example.Mine"), "'CUSTOM', which is not covered"),
    "another header": (b"\0\3abc" + bytes(8), "does not begin as"),
    "another version": (normalizers.image().replace(b"\0\0\0\1", b"\0\0\0\2"), "does not begin as"),
    "more behind it": (normalizers.image() + b"\0", "continues for 1"),
    "nothing": (b"\0", "it ends where"),
}


@pytest.mark.parametrize("name", NORMALIZERS)
def test_a_normalizer_that_does_not_fit(tmp_path: Path, name: str) -> None:
    data, message = NORMALIZERS[name]
    path = zipped(tmp_path, **WHOLE, normalizer=data)
    assert re.search(message, refused(lambda: load(path)))


def test_a_normalizer_of_what_has_no_features(tmp_path: Path) -> None:
    """The pooling's output has only rows."""
    pooled = multi_layer(plain("GlobalPoolingLayer", poolingType="MAX", poolingDimensions=[1, 2], pnorm=2))
    labels = normalizers.standardize(([1], [1]), ([1], [1]))
    path = written(tmp_path, pooled, normalizer=labels)
    assert "the output 'out' has none" in refused(lambda: load(path, -1, 1, 3))


def test_a_zero_deviation_is_made_small(tmp_path: Path) -> None:
    assert load(zipped(tmp_path, **WHOLE, normalizer=normalizers.standardize(([1, 1], [0, 0]))))


# The rest of a file.


@pytest.mark.parametrize("datatype", ["BFLOAT16", "INT", "float", 5, [], ""])
def test_another_datatype(tmp_path: Path, datatype: Any) -> None:
    """This is the datatype of a network without parameters. Unknown ones were mistaken for FLOAT."""
    configuration = multi_layer(layer("ActivationLayer")) | {"dataType": datatype}
    zips.write(tmp_path / "m.zip", configuration, np.zeros(0))
    assert "dataType" in refused(lambda: load(tmp_path / "m.zip"))


def test_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("runtimes.dl4j.reader.translate_archive", full)
    assert "does not fit in memory" in refused(lambda: load(written(tmp_path, PLAIN, 17)))


def test_the_format_of_what_is_wrapped_twice(tmp_path: Path) -> None:
    """The last feature was selected instead of the last time step."""
    inner = bidirectional("CONCAT", recurrent("LSTM", 2, 3, rnnDataFormat="NWC"))
    model = translate_archive(
        Archive(multi_layer(wrapper("LastTimeStep", inner)), np.ones(2 * (2 * 12 + 3 * 12 + 12), np.float32), b""), {}
    )
    dims = model.graph.output[0].type.tensor_type.shape.dim
    assert [each.dim_value or each.dim_param for each in dims] == ["N", 6]


def test_a_long_name_is_shortened_in_messages(tmp_path: Path) -> None:
    conf = dense(2, 3) | {"layerName": "é\n\0" * 10_000}
    configuration = multi_layer(conf)
    configuration["confs"][0]["layer"]["layerName"] = "é\n\0" * 10_000
    assert len(refused(lambda: load(written(tmp_path, configuration, 3)))) < 300


def test_a_stream_is_no_zip(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("configuration.json", WHOLE["configuration"])
    (tmp_path / "m.zip").write_bytes(b"MZ" * 1000 + buffer.getvalue() + b"behind" * 20000)
    assert refused(lambda: load(tmp_path / "m.zip"))


def test_all_layers_that_are_not_covered_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, multi_layer(plain("CapsuleLayer"), dense(2, 3), plain("MaskZeroLayer"), output(3, 2)))
    message = refused(lambda: load(path))
    assert "layer 0 'layer0' (CapsuleLayer): CapsuleLayer is not covered" in message
    assert "layer 2 'layer2' (MaskZeroLayer): MaskZeroLayer is not covered" in message
    assert "DenseLayer" not in message


def test_so_many_layers_that_are_not_covered_that_not_all_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, multi_layer(*[plain("X" * 500)] * 5000))
    assert re.search(r"; and \d{4} more$", refused(lambda: load(path)))


LOCAL = {"activation": "TANH", "cm": "Truncate", "dilation": 1, "featureDim": 8, "hasBias": False, "inputSize": 9}
SEQUENCE = {**LOCAL, "kernel": 4, "nin": 2, "nout": 1, "outputSize": 2, "padding": 0, "paddingR": 0, "stride": 2}
PRIORS = {"dataType": "FLOAT", "shape": [1, 2], "data": [1.0, 2.0]}
ENCODER = {"encoderLayerSizes": [3], "decoderLayerSizes": [3], "pzxActivationFn": configurations.activation("Identity")}
CUSTOM = {"outputDistribution": {"@class": "org.example.Mine"}}
OTHER_FIELDS: dict[str, tuple[Configuration, tuple[int, ...], str]] = {
    "more places than fit": (plain("LocallyConnected1D", **{**SEQUENCE, "outputSize": 9}), (-1, 2, 9), "do not fit"),
    "places without end": (
        plain("LocallyConnected1D", **{**SEQUENCE, "outputSize": 1 << 30, "padding": 1 << 30}),
        (-1, 2, 9),
        "more values than",
    ),
    "an open number of steps": (plain("LocallyConnected1D", **SEQUENCE), (-1, 2, -1), "it needs fixed sizes"),
    "boxes of nothing": (plain("Yolo2OutputLayer"), (-1, 6, 2, 2), "'boundingBoxes' is not an array of pairs"),
    "boxes that are no numbers": (
        plain("Yolo2OutputLayer", boundingBoxes={**PRIORS, "data": [1.0, "2"]}),
        (-1, 6, 2, 2),
        "values that are no numbers",
    ),
    "too few channels": (plain("Yolo2OutputLayer", boundingBoxes=PRIORS), (-1, 5, 2, 2), "1 boxes do not divide"),
    "an encoder without layers": (
        feed("VariationalAutoencoder", 2, 3, **{**ENCODER, "encoderLayerSizes": []}),
        (-1, 2),
        "'encoderLayerSizes' must be a list",
    ),
    "a distribution of a user": (feed("VariationalAutoencoder", 2, 3, **ENCODER, **CUSTOM), (-1, 2), "is not covered"),
}


@pytest.mark.parametrize("name", OTHER_FIELDS)
def test_fields_of_other_layers(tmp_path: Path, name: str) -> None:
    conf, shape, message = OTHER_FIELDS[name]
    path = written(tmp_path, multi_layer(conf), 64)
    assert message in refused(lambda: load(path, *shape))
