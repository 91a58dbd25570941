"""A picture's file opened by Pillow, which is imported only then: what cannot be read is an error that says why."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 89_478_485  # where Pillow itself warns of an image bomb; 256 MiB of RGB
PNG_MARK = b"\x89PNG\r\n\x1a\n"
PNG_METADATA = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of which Pillow refuses long ones
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of ISO 23008-12, annex B

Read = TypeVar("Read")


class UnreadableError(Exception):
    """Why a file gives no image, in a few words."""


@functools.lru_cache(maxsize=1)
def formats() -> list[str]:
    """Pillow's names of the formats that are read: none whose reader runs a program."""
    avif = ["AVIF"] if find_spec("PIL.AvifImagePlugin") else []  # Pillow 11.3
    common = ["JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000"]
    return [*common, *avif, "DDS", "ICO", "PCX", "SGI", "TGA"]  # the last has no mark of its own


def mode_of(content: bytes) -> str:
    """Pillow's mode of an image file's content, such as `L` for a grey picture; its pixels are not decoded.

    Raises:
        UnreadableError: not an image, or one whose head is damaged.
    """

    def mode(readable: bytes) -> str:
        from PIL import Image

        with Image.open(io.BytesIO(readable), formats=formats()) as image:
            return str(image.mode)

    return by_pillow(mode, content)


def open_whole(content: bytes) -> Image:
    """The picture of an image file's content, as Pillow decodes it.

    Raises:
        UnreadableError: not an image, a damaged one, or one of more than `MAX_PIXELS` pixels.
    """
    return by_pillow(opened, content)


def opened(readable: bytes) -> Image:
    """The picture, decoded; Pillow's own errors, and `UnreadableError` for more than `MAX_PIXELS` pixels."""
    from PIL import Image

    image = Image.open(io.BytesIO(readable), formats=formats())
    if image.width * image.height > MAX_PIXELS:
        raise UnreadableError(f"{image.width} x {image.height} pixels: an image bomb")
    image.load()
    return image


def by_pillow(read: Callable[[bytes], Read], content: bytes) -> Read:
    """What `read` makes of a file's content or, where Pillow refuses a PNG's metadata, of the content without it.

    Raises:
        UnreadableError: for every error, in a few words.
    """
    from PIL import Image, UnidentifiedImageError

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
