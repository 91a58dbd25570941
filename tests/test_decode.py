"""One file to pixels: what is odd is read like Pillow reads it, what is bad is an error, by both decoders alike."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageOps

from harness.data.images import decode as decode_module
from harness.data.images import opening
from harness.data.images.decode import decode, read
from harness.data.images.opening import UnreadableError

BOTH = pytest.mark.parametrize("decoder", ["fast", "pil"])
RNG = np.random.default_rng(0)
PICTURE = np.kron(RNG.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)  # 48 x 64 pixels


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


RGB = Image.fromarray(PICTURE)
JPEG = encoded(RGB, "JPEG", quality=90)
EXIF = Image.Exif()
EXIF[0x0112] = 6  # turned by 90 degrees
PALETTE = RGB.quantize(16)
ODD = {
    "JPEG": JPEG,
    "progressive": encoded(RGB, "JPEG", progressive=True),
    "without subsampling": encoded(RGB, "JPEG", subsampling=0),
    "grey": encoded(RGB.convert("L"), "JPEG"),
    "CMYK": encoded(RGB.convert("CMYK"), "JPEG"),
    "PNG": encoded(RGB, "PNG"),
    "16-bit PNG": encoded(Image.fromarray(PICTURE[..., 0].astype(np.uint16) * 257), "PNG"),
    "palette with transparency": encoded(PALETTE, "PNG", transparency=bytes(range(0, 256, 16))),
    "grey with alpha": encoded(RGB.convert("LA"), "PNG"),
    "EXIF rotation": encoded(RGB, "JPEG", exif=EXIF),
    "bytes behind the end": JPEG + b"more",
    "GIF": encoded(PALETTE, "GIF"),
    "1x1": encoded(RGB.crop((0, 0, 1, 1)), "JPEG"),
    "1x10000": encoded(Image.fromarray(RNG.integers(0, 256, (10_000, 1, 3), dtype=np.uint8)), "JPEG"),
}


@BOTH
@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_read_as_pillow_reads_it(kind: str, decoder: str) -> None:
    pixels = decode(ODD[kind], decoder)
    assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    assert np.array_equal(pixels, by_pillow(ODD[kind]))


def test_exif_rotation_is_not_applied() -> None:
    assert decode(ODD["EXIF rotation"], "fast").shape == (48, 64, 3)


@BOTH
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_is_what_pillow_makes_of_exif_rotation(orientation: int, kind: str, decoder: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(RGB, kind, exif=exif)
    wanted = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
    pixels = decode(content, decoder, as_viewed=True)
    assert np.array_equal(pixels, np.asarray(wanted))
    assert pixels.shape[0] == (48 if orientation < 5 else 64)


@BOTH
def test_upright_without_exif_or_with_a_number_of_its_own(decoder: str) -> None:
    odd = Image.Exif()
    odd[0x0112] = 9
    for content in (JPEG, encoded(RGB, "JPEG", exif=odd), JPEG + b"more"):
        assert np.array_equal(decode(content, decoder, as_viewed=True), decode(content, decoder))


def test_ordinary_jpeg_does_not_go_through_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode_module, "_decode_by_pillow", lambda *_: pytest.fail("Pillow was asked"))
    for kind in ("JPEG", "progressive", "without subsampling", "grey", "EXIF rotation"):
        decode(ODD[kind], "fast")


def with_text(kind: str, behind: bool = False) -> bytes:
    """A turned PNG with more text or a larger colour profile than Pillow takes, before or behind its pixels."""
    long = b"x" * 2**21
    turned = encoded(RGB, "PNG", exif=EXIF)
    deflated = zlib.compress(long)
    chunks = {
        "zTXt": [chunk(b"zTXt", b"Comment\0\0" + deflated)],
        "iTXt": [chunk(b"iTXt", b"Comment\0\1\0\0\0" + deflated)],
        "iCCP": [chunk(b"iCCP", b"profile\0\0" + deflated)],
        "70 chunks": [chunk(b"zTXt", b"Comment%d\0\0" % i + zlib.compress(long[: 2**20 - 1])) for i in range(70)],
        "damaged": [chunk(b"zTXt", b"Comment\0\0no stream"), chunk(b"iCCP", b"\0")],
    }
    at = turned.index(b"IEND") - 4 if behind else len(turned) - len(turned[33:])
    return turned[:at] + b"".join(chunks[kind]) + turned[at:]


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@BOTH
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind the pixels"])
@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP", "70 chunks", "damaged"])
def test_metadata_costs_no_picture(kind: str, behind: bool, decoder: str) -> None:
    content = with_text(kind, behind)
    assert np.array_equal(decode(content, decoder), PICTURE)
    assert np.array_equal(decode(content, decoder, as_viewed=True), np.rot90(PICTURE, 3))  # EXIF's turn is kept


@BOTH
def test_a_picture_of_two_is_a_jpeg(decoder: str) -> None:
    content = encoded(RGB, "MPO", save_all=True, append_images=[RGB.rotate(180)])
    assert np.array_equal(decode(content, decoder), by_pillow(content))


@BOTH
def test_heic_is_named(decoder: str) -> None:
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    with pytest.raises(UnreadableError, match="a HEIC picture: save it as JPEG or PNG"):
        decode(content, decoder)


@BOTH
@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_file_is_unreadable(tenths: int, decoder: str) -> None:
    with pytest.raises(UnreadableError):
        decode(JPEG[: len(JPEG) * tenths // 10], decoder)


def bomb() -> bytes:
    """A PNG of 300 megapixels in a few bytes: only its header is true."""
    header = struct.pack(">IIBBBBB", 20_000, 15_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def jpeg_bomb() -> bytes:
    """A JPEG whose header says 20,000 x 15,000."""
    at = JPEG.index(b"\xff\xc0") + 5
    return JPEG[:at] + struct.pack(">HH", 15_000, 20_000) + JPEG[at + 4 :]


@BOTH
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"this is text", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (bomb(), "an image bomb"),
        (jpeg_bomb(), "an image bomb"),
        (JPEG[:200] + bytes(50) + JPEG[250:300], "cannot load this image|not an image"),  # Pillow 13 says the former
    ],
    ids=["text", "PostScript", "PNG bomb", "JPEG bomb", "zeros"],
)
def test_what_is_bad_is_unreadable(content: bytes, reason: str, decoder: str) -> None:
    with pytest.raises(UnreadableError, match=reason):
        decode(content, decoder)


def test_an_image_just_above_the_limit_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (decode_module, opening):
        monkeypatch.setattr(module, "MAX_PIXELS", 48 * 64 - 1)
    for content in (JPEG, ODD["PNG"]):
        with pytest.raises(UnreadableError, match="64 x 48 pixels: an image bomb"):
            decode(content, "fast")


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"12345")
    monkeypatch.setattr(decode_module, "MAX_BYTES", 4)
    reasons = {
        "empty": "an empty file",
        "broken": "No such file",
        "folder": "not a file|Is a directory",
        "pipe": "not a file",
        "large": "5 bytes",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableError, match=reason):
            read(os.fsencode(tmp_path / name))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_no_permission_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(JPEG)
    (tmp_path / "secret").chmod(0)
    with pytest.raises(UnreadableError, match="Permission denied"):
        read(os.fsencode(tmp_path / "secret"))


def test_a_refused_permission_is_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(UnreadableError, match="Permission denied"):
        read(b"anything")


def test_both_decoders_agree_on_real_pictures() -> None:
    sample = ROOT.parent / "shared" / "data" / "imagenet-sample" / "val"
    if not sample.is_dir():
        pytest.skip("the ImageNet pictures are not at ../shared/data/imagenet-sample")
    for path in sorted(sample.rglob("*.JPEG"))[::5]:
        content = read(os.fsencode(path))
        assert np.array_equal(decode(content, "fast"), decode(content, "pil"))
