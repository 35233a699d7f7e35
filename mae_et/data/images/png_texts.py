"""The texts in PNG files, which Pillow refuses if they are large, though no pixel needs them."""

from __future__ import annotations

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
"""The first bytes of a PNG file."""

PNG_TEXT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")
"""Chunks of a PNG file whose size Pillow limits, though no pixel depends on them."""

ORIENTATION_TEXT = (b"Raw profile type exif", b"Raw profile type APP1", b"XML:com.adobe.xmp")
"""Keywords of texts in a PNG file that may tell its orientation."""


def without_texts(encoded: bytes) -> bytes:
    """Return a PNG file without its colour profile and texts, but those that may turn it.

    Args:
        encoded: The bytes of the file.
    """
    kept, start = [encoded[:8]], 8
    while start + 8 <= len(encoded):
        stop = start + 12 + int.from_bytes(encoded[start : start + 4])
        kind, text = encoded[start + 4 : start + 8], encoded[start + 8 : stop]
        if kind not in PNG_TEXT or text.startswith(ORIENTATION_TEXT):
            kept.append(encoded[start:stop])
        start = stop
    return b"".join(kept)
