"""Which keys are allowed: those that mean the same on a folder and in a bucket, and that lead nowhere else."""

from __future__ import annotations

from shared.errors import InvalidInput

OWN = ".kiosk"
"""First part of keys that are the storage's own business."""
LONGEST = 1024
LONGEST_PART = 255


def checked(key: str) -> str:
    """Return the key, if it is one.

    Raises:
        InvalidInput: it is empty, too long, absolute, or has a part that is empty, ``.``, ``..`` or the storage's own.
    """
    parts = key.split("/")
    if fault := _fault(key, parts):
        raise InvalidInput(
            f"{key[:80]!r} is no object key: {fault}. A key is a relative path such as 'uploads/image.tif'.",
            code="bad-key",
        )
    return key


def checked_prefix(prefix: str) -> str:
    """Return the prefix, if it is safe to remove everything under it.

    Raises:
        InvalidInput: it is empty or does not end with a slash, or no key could begin so.
    """
    if not prefix.endswith("/"):
        raise InvalidInput(f"{prefix[:80]!r} is no prefix to remove: it must end with a slash.", code="bad-key")
    checked(prefix[:-1])
    return prefix


def is_text(name: str) -> bool:
    """Tell whether a name is valid Unicode; that of a file may be any bytes, and then is no part of a key."""
    try:
        return name.isascii() or bool(name.encode())
    except UnicodeEncodeError:
        return False


def _fault(key: str, parts: list[str]) -> str:
    if not is_text(key):
        return "it is not valid Unicode"
    size = max(len(key.encode()) - LONGEST, max(len(part.encode()) for part in parts) - LONGEST_PART)
    if size > 0:
        return f"it is longer than {LONGEST} bytes, or a part of it longer than {LONGEST_PART}"
    if any(part in {"", ".", ".."} for part in parts):
        return "it has a part that is empty, '.' or '..'"
    if parts[0] == OWN:
        return f"{OWN!r} is reserved"
    if any(ord(letter) < 32 or ord(letter) == 127 or letter == "\\" for letter in key):
        return "it has a control character or a backslash"
    return ""
