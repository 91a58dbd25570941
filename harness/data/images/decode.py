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

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from harness.data.images.folder import Place
from harness.data.images.opening import MAX_PIXELS, UnreadableError, by_pillow, formats, opened
from harness.data.images.pieces import Piece, Small, pixels_at, read_piece

MAX_BYTES = 256 * 2**20
ORIENTATION = 0x0112  # EXIF's tag
MIRRORED, TURNED = (2, 4, 5, 7), {3: 2, 4: 2, 5: 3, 6: 3, 7: 1, 8: 1}  # its values; then quarters against the clock

Pixels = npt.NDArray[np.uint8]


def pixels_of(place: Place, decoder: str, as_viewed: bool) -> Pixels:
    """RGB pixels (H, W, 3) of an image, wherever it lies; raises as `read` and `decode` do."""
    return pixels_at(place) if isinstance(place, Small) else decode(read(place), decoder, as_viewed)


def read(place: Place) -> bytes:
    """The content of a file, or of the part of one that is an image.

    Raises:
        UnreadableError: no such file, no permission, not a regular file, an empty or an unreasonably large one.
    """
    if isinstance(place, Small):
        raise TypeError("a small picture has pixels, and no file's content")
    if isinstance(place, Piece):
        return read_piece(place, MAX_BYTES)
    try:
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not hold it up
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


def _orientation(content: bytes) -> int:
    """How EXIF says that the picture is turned, 1 to 8; 1, which is upright, if it says nothing."""

    def said(readable: bytes) -> int:
        with Image.open(io.BytesIO(readable), formats=formats()) as image:
            if image.format == "TIFF":  # Pillow turns these by itself
                return 1
            return int(image.getexif().get(ORIENTATION, 1))

    try:
        return by_pillow(said, content)
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
        with opened(readable) as image:
            shown = opaque(image) if as_viewed else image
            return np.array(shown.convert("RGB"))  # a copy: torch warns of memory that may not be written

    return by_pillow(pixels, content)
