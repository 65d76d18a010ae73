"""Errors, named by what the caller should do.

    KioskError              every error that this project raises on purpose; its text is a sentence for people
    ├── InvalidInput        tell the user: what they sent is wrong, and sending it again will not help
    │   └── NotFound        what they name does not exist (or is not theirs)
    ├── Retry               again later: something is away, full or slow, and nothing is wrong with the job
    │   └── StorageFull     there is no room; again later may help, after somebody made room
    ├── LostLease           drop it: the job was given to another worker or has ended meanwhile
    └── Misconfigured       stop: the process cannot work as it was set up

The text of each is shown to users, so it names what is wrong and what is allowed, and no secret.
"""

from __future__ import annotations


class KioskError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is a sentence for people."""


class InvalidInput(KioskError):
    """The input is at fault; never retried.

    Attributes:
        code: stable machine-readable word for the kind of fault, such as ``"too-large"``.
    """

    def __init__(self, sentence: str, *, code: str = "invalid-input") -> None:
        super().__init__(sentence)
        self.code = code


class NotFound(InvalidInput):
    """What was named does not exist, or is not the caller's."""

    def __init__(self, sentence: str, *, code: str = "not-found") -> None:
        super().__init__(sentence, code=code)


class Retry(KioskError):
    """Something needed is away, full or slow.

    Attributes:
        after: seconds to wait before trying again, if known.
    """

    def __init__(self, sentence: str, *, after: float | None = None) -> None:
        super().__init__(sentence)
        self.after = after


class StorageFull(Retry):
    """There is no room left where objects are stored."""


class LostLease(KioskError):
    """The worker no longer owns the job: drop all work on it, write nothing more."""


class Misconfigured(KioskError):
    """The process cannot work as it was set up; it ends with exit code 2 and this sentence."""
