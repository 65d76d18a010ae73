"""Errors of the client. The text of each is a sentence for people.

KioskError
├── Unreachable         the server did not answer for as long as the client was told to try
├── Refused             the server answered no: ``status`` and ``code`` say why
│   ├── NotAllowed      the API key is missing, wrong, or lacks a right
│   └── NotFound        the job or file does not exist (any more), or is somebody else's
├── JobFailed           the job ended without a result
│   └── JobCanceled     because somebody canceled it
└── BadFile             a local file cannot be sent or written
"""

from __future__ import annotations


class KioskError(Exception):
    """Base of all errors of this package."""


class Unreachable(KioskError):
    """The server did not answer."""


class Refused(KioskError):
    """The server answered no.

    Attributes:
        status: HTTP status.
        code: stable word for the kind of error, such as ``not-an-image``.
    """

    def __init__(self, sentence: str, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


class NotAllowed(Refused):
    """The API key is missing, wrong, or lacks a right."""


class NotFound(Refused):
    """What was named does not exist, or is somebody else's."""


class JobFailed(KioskError):
    """A job ended without a result.

    Attributes:
        job_id: which.
        reason: why, as the server put it.
    """

    def __init__(self, job_id: str, reason: str) -> None:
        super().__init__(reason)
        self.job_id = job_id
        self.reason = reason


class JobCanceled(JobFailed):
    """A job was canceled."""


class BadFile(KioskError):
    """A local file cannot be read or written."""
