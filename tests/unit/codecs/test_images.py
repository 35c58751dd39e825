"""Each key of [preprocess], compared with pixels from numpy or from Pillow used differently; and rejected images."""

import contextlib
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gateway.codecs import images
from gateway.codecs.decoding_limit import LARGE_PIXELS, DecodingLimit
from gateway.codecs.images import File, image_tensor
from gateway.domain.image_processing import Preprocess
from gateway.errors import InvalidRequest, ModelportError, Overloaded, TooLarge
from runtimes.tensors import to_array
from tests.support.image_files import chunk, noise, png, save

MOST = 1 << 20
GRAY: dict[str, Any] = {"color": "GRAY", "mean": (0.0,), "std": (1.0,)}


def read(*files: bytes, datatype: str = "UINT8", most: int = MOST, **keys: Any) -> np.ndarray:
    """Return the tensor; by default as [height, width, channels] of one image."""
    layout = keys.pop("layout", "")
    preprocess = Preprocess(layout=layout or "NHWC", **{"size": (4, 6), **keys})
    named = [File(f"file {number}", data) for number, data in enumerate(files, 1)]
    tensor = image_tensor(named, preprocess, "x", datatype, most)
    assert (tensor.name, tensor.datatype) == ("x", datatype)
    return to_array(tensor) if layout else to_array(tensor)[0]


def test_of_its_own_size_an_image_stays_as_it_is() -> None:
    pixels = noise(4, 6)
    for interpolation in ("nearest", "box", "bilinear", "bicubic", "lanczos"):
        for resize in ("stretch", "crop", "pad"):
            assert (read(save(pixels), interpolation=interpolation, resize=resize) == pixels).all()


def test_layouts() -> None:
    pixels, file = noise(4, 6), save(noise(4, 6))
    assert (read(file, file, layout="NHWC") == [pixels, pixels]).all()
    assert (read(file, file, layout="NCHW") == np.array([pixels, pixels]).transpose(0, 3, 1, 2)).all()
    assert (read(file, file, layout="flat") == np.array([pixels, pixels]).reshape(2, -1)).all()
    grey = save(noise(4, 6, 1))
    assert (read(grey, layout="NHW", **GRAY) == noise(4, 6, 1)[None]).all()
    assert (read(grey, layout="NCHW", **GRAY) == noise(4, 6, 1)[None, None]).all()


def test_several_images_keep_their_order() -> None:
    first, second = np.full((9, 9, 3), 10, np.uint8), np.full((5, 3, 3), 200, np.uint8)
    rows = read(save(first), save(second), layout="flat")
    assert [set(row) for row in rows.tolist()] == [{10}, {200}]


def test_colours() -> None:
    pixels = noise(4, 6)
    assert (read(save(pixels), color="BGR") == pixels[..., ::-1]).all()
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    assert np.abs(read(save(pixels), **GRAY)[..., 0] - luma).max() <= 0.51
    grey = noise(4, 6, 1)
    assert (read(save(grey)) == np.repeat(grey[..., None], 3, axis=2)).all()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_formats_without_loss(kind: str) -> None:
    assert (read(save(noise(4, 6), kind, lossless=True)) == noise(4, 6)).all()


def test_gif_and_jpeg() -> None:
    grey = noise(4, 6, 1)
    assert (read(save(grey, "GIF"), **GRAY)[..., 0] == grey).all()
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    assert np.abs(read(save(flat, "JPEG", quality=95)).astype(int) - (200, 100, 50)).max() <= 4
    cmyk = Image.fromarray(flat).convert("CMYK")
    assert np.abs(read(save(cmyk, "JPEG", quality=95)).astype(int) - (200, 100, 50)).max() <= 4


def test_levels() -> None:
    pixels = noise(4, 6)
    keys: dict[str, Any] = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    expected = (pixels * (1 / 255) - keys["mean"]) / keys["std"]
    assert (read(save(pixels), datatype="FP32", **keys) == expected.astype(np.float32)).all()
    assert (read(save(pixels), datatype="FP16", **keys) == expected.astype(np.float16)).all()
    assert (read(save(pixels), datatype="FP64", **keys) == expected).all()
    keys["color"] = "BGR"
    expected = (pixels[..., ::-1] * (1 / 255) - keys["mean"]) / keys["std"]  # mean and std are in the model's order
    assert (read(save(pixels), datatype="FP32", **keys) == expected.astype(np.float32)).all()


def test_invert_precedes_scale_and_integers_are_rounded() -> None:
    pixels = noise(4, 6, 1)
    made = read(save(pixels), datatype="FP32", invert=True, scale=16 / 255, **GRAY)[..., 0]
    assert made == pytest.approx((255 - pixels.astype(np.float64)) * 16 / 255, abs=1e-5)
    assert (read(save(pixels), scale=0.1, **GRAY)[..., 0] == np.rint(pixels * 0.1)).all()
    signed = read(save(pixels), datatype="INT8", color="GRAY", mean=(128.0,), std=(1.0,))[..., 0]
    assert (signed == pixels.astype(int) - 128).all()


def test_nearest_and_box_by_whole_numbers() -> None:
    pixels = noise(4, 6)
    large = pixels.repeat(5, axis=0).repeat(5, axis=1)
    assert (read(save(large), interpolation="nearest") == pixels).all()
    assert (read(save(large), interpolation="box") == pixels).all()
    means = noise(20, 30).reshape(4, 5, 6, 5, 3).mean(axis=(1, 3))
    assert np.abs(read(save(noise(20, 30)), interpolation="box") - means).max() <= 1


def _triangles(full: int, part: int) -> np.ndarray:
    """Return weights [part, full] of linear interpolation, which averages when it downscales."""
    scale = full / part
    wide = max(scale, 1.0)
    away = np.abs((np.arange(full) + 0.5)[None] - ((np.arange(part) + 0.5) * scale)[:, None]) / wide
    weights = np.maximum(0, 1 - away)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("size", [(13, 29), (3, 2), (40, 5)])
def test_bilinear(size: tuple[int, int]) -> None:
    pixels = noise(*size)
    expected = np.einsum("yh,hwc,xw->yxc", _triangles(size[0], 4), pixels, _triangles(size[1], 6))
    assert np.abs(read(save(pixels)) - expected).max() <= 1.01


@pytest.mark.parametrize("name", ["bicubic", "lanczos"])
def test_other_interpolations_are_pillows(name: str) -> None:
    expected = Image.fromarray(noise(13, 29)).resize((6, 4), Image.Resampling[name.upper()])
    assert (read(save(noise(13, 29)), interpolation=name) == np.asarray(expected)).all()


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (37, 23), (8, 90), (5, 5)])
@pytest.mark.parametrize("shorter", [0, 16, 19])
def test_crop_is_scaled_and_then_cut(size: tuple[int, int], shorter: int) -> None:
    height, width = size
    side = shorter or 16
    scaled = (side, side * height // width) if width <= height else (side * width // height, side)
    left, top = round((scaled[0] - 16) / 2), round((scaled[1] - 16) / 2)
    whole = Image.fromarray(noise(*size)).resize(scaled, Image.Resampling.BILINEAR)
    expected = np.asarray(whole.crop((left, top, left + 16, top + 16))).astype(int)
    made = read(save(noise(*size)), size=(16, 16), resize="crop", shorter_side=shorter)
    assert np.abs(made - expected).max() <= 1


def test_crop_to_a_size_that_is_not_square() -> None:
    columns = np.zeros((10, 30, 3), np.uint8) + np.arange(30, dtype=np.uint8)[None, :, None]
    made = read(save(columns), size=(10, 12), resize="crop", interpolation="nearest")
    assert made[0, :, 0].tolist() == list(range(9, 21))
    rows = read(save(columns.transpose(1, 0, 2)), size=(12, 10), resize="crop", interpolation="nearest")
    assert rows[:, 0, 0].tolist() == list(range(9, 21))


def test_pad_keeps_proportions() -> None:
    wide = np.full((4, 16, 3), 90, np.uint8)
    made = read(save(wide), size=(8, 8), resize="pad", fill=114)
    expected = np.full((8, 8, 3), 114)
    expected[3:5] = 90
    assert (made == expected).all()
    thin = read(save(np.full((500, 1), 90, np.uint8)), size=(8, 8), resize="pad", invert=True, **GRAY)[..., 0]
    assert thin[:, 3].tolist() == [255 - 90] * 8
    assert set(np.delete(thin, 3, axis=1).ravel().tolist()) == {255}


def test_transparency_is_white() -> None:
    pixels = noise(4, 6, 4)
    alpha = pixels[..., 3:] / 255
    expected = pixels[..., :3] * alpha + 255 * (1 - alpha)
    for kind in ("PNG", "WEBP"):
        made = read(save(pixels, kind, lossless=True, exact=True))
        assert np.abs(made - expected).max() <= 1.01, kind
    grey = np.dstack([noise(4, 6, 1), pixels[..., 3]])
    expected = grey[..., :1] * alpha + 255 * (1 - alpha)
    assert np.abs(read(save(Image.fromarray(grey, "LA")), **GRAY) - expected).max() <= 1.01


def test_palettes() -> None:
    indexed = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) % 3, "P")
    indexed.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    colors = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
    expected = colors[np.arange(24).reshape(4, 6) % 3]
    assert (read(save(indexed)) == expected).all()
    expected = expected.copy()
    expected[np.arange(24).reshape(4, 6) % 3 == 1] = 255
    assert (read(save(indexed, transparency=1)) == expected).all()
    assert (read(save(indexed, "GIF", transparency=1)) == expected).all()


def test_black_and_white_of_one_bit() -> None:
    bits = np.arange(24).reshape(4, 6) % 5 == 0
    assert (read(save(Image.fromarray(bits)), **GRAY)[..., 0] == bits * 255).all()


def test_of_16_bits_the_upper_8_count() -> None:
    deep = np.random.default_rng(3).integers(0, 65536, (4, 6), dtype=np.uint16)
    assert (read(save(deep), **GRAY)[..., 0] == deep >> 8).all()
    assert (read(save(deep))[..., 1] == deep >> 8).all()
    colors = np.random.default_rng(3).integers(0, 65536, (4, 6, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colors)
    assert (read(png(6, 4, 16, 2, rows)) == colors >> 8).all()


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
    9: lambda a: a,
}


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_orientation(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    expected = TURNS[orientation](noise(4, 6))
    made = read(save(noise(4, 6), kind, lossless=True, exif=exif), size=expected.shape[:2])
    assert (made == expected).all()


def test_orientation_of_a_jpeg() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    top = np.zeros((32, 16, 3), np.uint8)
    top[:16] = 255
    made = read(save(top, "JPEG", quality=95, exif=exif), size=(16, 32), **GRAY)[..., 0]
    assert made[:, :14].max() < 20
    assert made[:, 18:].min() > 235


def test_exif_that_cannot_be_read_turns_nothing() -> None:
    assert (read(save(noise(4, 6), exif=b"Exif\0\0MM\0*garbage")) == noise(4, 6)).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [Image.fromarray(np.full((4, 6), level, np.uint8)) for level in (30, 200, 90)]
    moving = save(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
    assert set(read(moving, **GRAY).ravel().tolist()) == {30}


def test_data_after_an_image_is_ignored() -> None:
    assert (read(save(noise(4, 6)) + b"more" * 100) == noise(4, 6)).all()


# Rejected images.


def assert_rejected(kind: type[ModelportError], says: str, *files: bytes, **keys: Any) -> None:
    with pytest.raises(kind) as caught:
        read(*files, **keys)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"II*\0" + bytes(50),
        b"BM",
        b"P6 1 1 255 abc",
    ],
    ids=["nothing", "text", "SVG", "PDF", "TIFF", "BMP's mark alone", "PPM"],
)
def test_files_that_are_not_images(data: bytes) -> None:
    assert_rejected(InvalidRequest, "damaged" if data == b"BM" else "send JPEG, PNG, WebP, BMP or GIF", data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_truncated_images(kind: str) -> None:
    file = save(noise(30, 40), kind)
    for length in (16, 40, len(file) // 2, len(file) * 9 // 10):
        assert_rejected(InvalidRequest, "file 2 is", save(noise(4, 6)), file[:length])


def test_an_image_with_too_many_pixels_is_not_decoded() -> None:
    row = b"\0" * 5001
    bomb = png(5000, 5000, 8, 0, row * 5000)
    assert len(bomb) < 30_000
    assert_rejected(TooLarge, "file 1 has 5000 x 5000 pixels", bomb)
    for kind in ("GIF", "WEBP", "JPEG", "BMP"):
        file = save(Image.new("L" if kind != "WEBP" else "RGB", (3000, 2000)), kind)
        assert_rejected(TooLarge, "3000 x 2000 pixels", file)
    assert_rejected(TooLarge, "too many pixels", png(2**31 - 1, 2**31 - 1, 8, 0, b""))


def test_the_pixels_of_all_images_count() -> None:
    file = save(np.zeros((300, 300, 3), np.uint8))
    assert read(file, file, layout="NHWC").shape == (2, 4, 6, 3)
    assert_rejected(TooLarge, "file 3 has 300 x 300", file, file, file)


def test_the_tensor_counts() -> None:
    assert_rejected(TooLarge, "2 images make an input of", *[save(noise(4, 6))] * 2, size=(300, 300), datatype="FP32")


def test_a_narrow_image_is_not_widened_at_its_full_height() -> None:
    thin = png(1, 30_000, 8, 0, bytes(60_000))
    assert_rejected(TooLarge, "too tall", thin, size=(4, 200))
    for resize in ("crop", "pad"):
        assert not read(thin, size=(4, 200), resize=resize).any()
    assert not read(thin, size=(4, 6)).any()


def test_headers_in_very_many_pieces() -> None:
    many = chunk(b"teXt", b"") * 30_000
    assert_rejected(InvalidRequest, "too many pieces", png(6, 4, 8, 0, bytes(28), many))
    plain = save(noise(4, 6), "JPEG")
    assert_rejected(InvalidRequest, "too many pieces", plain[:2] + b"\xff\xfe\0\2" * 30_000 + plain[2:])
    assert_rejected(InvalidRequest, "too many pieces", plain[:20] + b"\0" * 30_000 + plain[20:])
    gif = save(noise(4, 6, 1), "GIF")
    start = gif.index(b",")
    assert_rejected(
        InvalidRequest, "too many pieces", gif[:start] + b"!\xfe" + b"\xffx" * 128 * 3000 + b"\0" + gif[start:]
    )


def test_pixels_in_very_many_pieces() -> None:
    rows = zlib.compress(bytes(28))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 6, 4, 8, 0, 0, 0, 0))
    pieces = chunk(b"IDAT") * 30_000
    assert_rejected(
        InvalidRequest, "too many pieces", b"\x89PNG\r\n\x1a\n" + head + pieces + chunk(b"IDAT", rows) + chunk(b"IEND")
    )
    single = b"".join(chunk(b"IDAT", rows[at : at + 1]) for at in range(len(rows)))
    assert not read(b"\x89PNG\r\n\x1a\n" + head + single + chunk(b"IEND"), **GRAY).any()


def test_very_many_scans() -> None:
    file = save(noise(64, 64), "JPEG", progressive=True)
    assert read(file).shape == (4, 6, 3)
    start = file.rindex(b"\xff\xda")
    assert_rejected(InvalidRequest, "scans", file[:-2] + file[start:-2] * 300 + file[-2:])


SAMPLES = [save(noise(9, 7), kind) for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF")] + [
    save(noise(9, 7, 4)), save(Image.fromarray(noise(9, 7)).convert("CMYK"), "JPEG", progressive=True),
    save(noise(9, 7), exif=Image.Exif()),
]  # fmt: skip


@given(
    st.sampled_from(SAMPLES),
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=8),
    st.binary(max_size=40),
)
@settings(max_examples=600, deadline=None)
def test_corrupted_images_are_read_or_rejected(
    sample: bytes, length: int, spots: list[tuple[int, int]], tail: bytes
) -> None:
    damaged = bytearray(sample)
    for offset, value in spots:
        damaged[offset % len(damaged)] = value
    file = bytes(damaged[: max(len(damaged) - length, 4)]) + tail if length < 200 else bytes(damaged)
    with contextlib.suppress(InvalidRequest, TooLarge):
        assert read(file).shape == (4, 6, 3)


@given(
    st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"RIFF\0\1\0\0WEBP"]),
    st.binary(max_size=300),
)
@settings(max_examples=300, deadline=None)
def test_garbage_with_a_good_beginning_is_rejected(beginning: bytes, garbage: bytes) -> None:
    with pytest.raises((InvalidRequest, TooLarge)):
        read(beginning + garbage)


def test_data_that_a_camera_appends_is_not_counted() -> None:
    file = save(noise(64, 64), "JPEG", progressive=True)
    assert np.array_equal(read(file + b"\xff\xda" * 1000), read(file))


def test_many_large_images_are_decoded_at_a_time_if_they_are_small_enough_together() -> None:
    limit, pixels = DecodingLimit(), LARGE_PIXELS + 1
    together = Barrier(8, timeout=60)

    def decode() -> None:
        with limit.reserve(pixels, 4 * pixels):
            together.wait()

    with ThreadPoolExecutor(8) as pool:
        for each in [pool.submit(decode) for _ in range(8)]:
            each.result()


def test_a_large_image_waits_while_others_have_the_pixels_of_two_of_the_largest() -> None:
    limit, largest = DecodingLimit(), 3 * LARGE_PIXELS

    def decode() -> int:
        with limit.reserve(largest, largest):
            return limit._pixels

    with ThreadPoolExecutor(1) as pool:
        with limit.reserve(largest, largest), limit.reserve(largest, largest):
            waiting = pool.submit(decode)
            while not limit._queue.locked() and not waiting.done():
                time.sleep(0)
        assert waiting.result() <= 2 * largest
    assert limit._pixels == 0


def test_values_are_the_same_whether_they_are_looked_up_or_the_levels_themselves() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    file = save(pixels)
    for datatype in ("FP16", "BF16", "FP32", "FP64", "UINT8", "INT32", "INT64"):
        for scale, inverted in ((1.0, False), (1.0, True), (2.0, False), (1 / 255, False)):
            if datatype == "UINT8" and scale == 2:
                continue  # out of range
            keys = {**GRAY, "size": (16, 16), "scale": scale, "invert": inverted}
            levels = (255.0 - pixels if inverted else pixels) * scale
            expected = levels if datatype[0] in "FB" else np.rint(levels)
            found = read(file, datatype=datatype, layout="NHW", **keys)[0]
            assert found.tobytes() == expected.astype(found.dtype).tobytes()


def test_the_tensor_is_written_into_the_memory_that_is_given() -> None:
    sizes: list[int] = []
    memory = bytearray(b"x" * 4 * 100 * 100 * 3)

    def allocate(size: int) -> bytearray:
        sizes.append(size)
        return memory

    pixels, preprocess = noise(100, 100), Preprocess((100, 100), layout="NHWC")
    tensor = image_tensor([File("it", save(pixels))], preprocess, "x", "FP32", MOST, allocate)
    assert sizes == [len(memory)]
    assert np.frombuffer(memory, np.float32).tolist() == pixels.ravel().tolist()
    assert np.shares_memory(np.frombuffer(tensor.data, np.uint8), np.frombuffer(memory, np.uint8))


class Room:
    """Reserves up to `most` bytes, and notes what was reserved."""

    def __init__(self, most: int) -> None:
        self.most, self.used, self.taken = most, 0, list[int]()

    @contextlib.contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        if self.used + size > self.most:
            raise Overloaded("no room")
        self.used += size
        self.taken.append(size)
        yield
        self.used -= size


def decode(room: Room, file: bytes, size: tuple[int, int] = (4, 6), number: int = 1) -> None:
    preprocess, most = Preprocess(size, layout="NHWC"), 64 << 20
    image_tensor([File("it", file)] * number, preprocess, "x", "UINT8", most, bytearray, room.reserve)


def test_the_memory_of_large_images_and_tensors_is_reserved_while_it_is_used() -> None:
    few, many = (1200 * 1000 * 4 * copies for copies in (images._COPIES, images._MANY_COPIES))
    for file, size, taken in (
        (save(Image.new("RGB", (1200, 1000))), (4, 6), [few, few]),
        (save(Image.new("RGBA", (1200, 1000))), (4, 6), [many, many]),
        (save(Image.new("RGB", (1200, 1000)), "WEBP"), (4, 6), [many, many]),
        (save(Image.new("RGB", (9, 9))), (1600, 1600), [2 * 1600 * 1600 * 3]),
        (save(Image.new("RGB", (1000, 1000))), (4, 6), []),
    ):
        room = Room(1 << 30)
        decode(room, file, size, number=2)
        assert (room.taken, room.used) == (taken, 0)


def test_an_image_for_which_there_is_no_room_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "_load", None)
    with pytest.raises(Overloaded):
        decode(Room(1 << 20), save(Image.new("RGB", (2000, 2000))))


def test_an_image_waits_for_room_that_another_one_has(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(2000 * 2000 * 4 * images._COPIES)
    file, load, changed = save(Image.new("RGB", (2000, 2000))), images._load, images._DECODING._changed
    decoding, waiting, wait = [0], Event(), changed.wait

    def wait_for_others(timeout: float | None = None) -> bool:
        waiting.set()
        return wait(timeout)

    def count(*arguments: Any) -> Any:
        decoding[0] += 1
        assert decoding[0] == 1
        waiting.wait()
        loaded = load(*arguments)
        decoding[0] -= 1
        return loaded

    monkeypatch.setattr(changed, "wait", wait_for_others)
    monkeypatch.setattr(images, "_load", count)
    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(decode, room, file) for _ in range(2)]:
            done.result()
    assert (len(room.taken), room.used) == (2, 0)
