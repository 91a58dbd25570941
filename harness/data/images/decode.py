"""One file to pixels, by the decoder that was chosen; what cannot be read is an error that says why.

`fast` reads JPEG files by libjpeg-turbo (simplejpeg) and gives everything else to Pillow: PNG under a JPEG's name,
CMYK, and files with the slightest damage. Both give the same pixels. A grey image is repeated in three channels. The
published protocols take the pixels as Pillow converts them to RGB; a user's own pictures are taken as a viewer shows
them: turned by their EXIF data, transparent parts over white, 16 bits scaled to 8. Of an animation, the first frame.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError

MAX_PIXELS = 89_478_485  # where Pillow itself warns of an image bomb; 256 MiB of RGB
MAX_BYTES = 256 * 2**20
FORMATS = [  # none whose reader runs a program
    *("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000"),
    *(["AVIF"] if find_spec("PIL.AvifImagePlugin") else []),  # Pillow 11.3
    *("DDS", "ICO", "PCX", "SGI", "TGA"),  # the last has no mark of its own
]

ORIENTATION = 0x0112  # EXIF's tag
MIRRORED, TURNED = (2, 4, 5, 7), {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}  # its values; then quarters against the clock

PNG_MARK = b"\x89PNG\r\n\x1a\n"
PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of which Pillow refuses long ones
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of ISO 23008-12, annex B

Pixels = npt.NDArray[np.uint8]
Read = TypeVar("Read")


class UnreadableError(Exception):
    """Why a file gives no image, in a few words."""


def read(path: bytes) -> bytes:
    """The content of a file.

    Raises:
        UnreadableError: no such file, no permission, not a regular file, an empty or an unreasonably large one.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold it up
        with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123  # no path, a descriptor
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise UnreadableError("not a file")
            if not 0 < facts.st_size <= MAX_BYTES:
                raise UnreadableError("an empty file" if facts.st_size == 0 else f"{facts.st_size:,} bytes")
            return file.readall()
    except OSError as error:
        raise UnreadableError(error.strerror or type(error).__name__) from error


def decode(content: bytes, decoder: str, as_viewed: bool = False) -> Pixels:
    """RGB pixels (H, W, 3) of an image file's content; `decoder` is `fast` or `pil`.

    Args:
        content: of the file.
        decoder: `fast` or `pil`.
        as_viewed: whether the pixels are those that a viewer shows.

    Raises:
        UnreadableError: not an image, a damaged one, or one of more than `MAX_PIXELS` pixels.
    """
    pixels = _decode_jpeg(content) if decoder == "fast" else None
    if pixels is None:
        pixels = _decode_by_pillow(content, as_viewed)
    return _turned(pixels, _orientation(content)) if as_viewed else pixels


def mode_of(content: bytes) -> str:
    """Pillow's mode of an image file's content, such as `L` for a grey picture; its pixels are not decoded.

    Raises:
        UnreadableError: not an image, or one whose head is damaged.
    """

    def mode(readable: bytes) -> str:
        with Image.open(io.BytesIO(readable), formats=FORMATS) as image:
            return str(image.mode)

    return _by_pillow(mode, content)


def open_whole(content: bytes) -> Image.Image:
    """The picture of an image file's content, as Pillow decodes it.

    Raises:
        UnreadableError: as `decode` does.
    """

    return _by_pillow(_opened, content)


def _opened(readable: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(readable), formats=FORMATS)
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(f"{image.width} x {image.height} pixels: an image bomb")
    image.load()
    return image


def _by_pillow(read: Callable[[bytes], Read], content: bytes) -> Read:
    """What `read` makes of a file's content or, where Pillow refuses a PNG's metadata, of the content without it.

    Raises:
        UnreadableError: for every error, in a few words.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what cannot be read is an error anyway
            try:
                return read(content)
            except Exception:
                bare = _without_metadata(content)
                if bare == content:
                    raise
                return read(bare)
    except (UnreadableError, KeyboardInterrupt):
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableError("too many pixels: an image bomb") from error
    except UnidentifiedImageError as error:
        raise UnreadableError(_kind_of_no_image(content)) from error
    except Exception as error:  # a damaged file can fail in any way while it is parsed
        raise UnreadableError(" ".join(f"{error}".split()) or type(error).__name__) from error


def _without_metadata(content: bytes) -> bytes:
    """A PNG without text and colour profile; any other content as it is."""
    if not content.startswith(PNG_MARK):
        return content
    kept, start = [PNG_MARK], len(PNG_MARK)
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")  # length, kind, the chunk, its checksum
        if content[start + 4 : start + 8] not in PNG_METADATA:
            kept.append(content[start:end])
        start = end
    return b"".join(kept)


def _kind_of_no_image(content: bytes) -> str:
    if content[4:8] == b"ftyp" and content[8:12] in HEIC:
        return "a HEIC picture: save it as JPEG or PNG"
    return "not an image"


def _orientation(content: bytes) -> int:
    """How EXIF says that the picture is turned, 1 to 8; 1, which is upright, if it says nothing."""

    def said(readable: bytes) -> int:
        with Image.open(io.BytesIO(readable), formats=FORMATS) as image:
            if image.format == "TIFF":  # Pillow turns these by itself
                return 1
            return int(image.getexif().get(ORIENTATION, 1))

    try:
        return _by_pillow(said, content)
    except UnreadableError:  # damaged metadata can fail in any way, and the pixels are there
        return 1


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    turned = np.rot90(pixels, TURNED.get(orientation, 0))
    return np.ascontiguousarray(turned[:, ::-1] if orientation in MIRRORED else turned)


def opaque(image: Image.Image) -> Image.Image:
    """Eight bits a channel, and white where the picture is transparent; Pillow's own conversion cuts both off."""
    if image.mode.startswith("I"):  # 16 bits, grey
        levels = np.asarray(image).astype(np.int64).clip(0, 65_535)
        return Image.fromarray(((levels * 255 + 32_767) // 65_535).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableError("floating-point pixels, of which nothing says what is white: save it with 8 or 16 bits")
    if image.has_transparency_data:
        picture = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return image


def _decode_jpeg(content: bytes) -> Pixels | None:
    """The pixels of a JPEG file; None for a file that Pillow has to read."""
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in ("YCbCr", "Gray") or width * height > MAX_PIXELS:
            return None
        pixels: Pixels = simplejpeg.decode_jpeg(content, "RGB", strict=True)
    except ValueError:
        return None
    return pixels


def _decode_by_pillow(content: bytes, as_viewed: bool) -> Pixels:
    def pixels(readable: bytes) -> Pixels:
        with _opened(readable) as image:
            shown = opaque(image) if as_viewed else image
            return np.array(shown.convert("RGB"))  # a copy: torch warns of memory that may not be written

    return _by_pillow(pixels, content)
