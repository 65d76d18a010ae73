"""The published client: import this from your own code.

from cellkiosk import Client

with Client("http://127.0.0.1:8080") as kiosk:
    labels = kiosk.submit("cells.tif", "segmentation").wait().labels()
"""

from cellkiosk.aio import AsyncClient, AsyncJob
from cellkiosk.errors import BadFile, JobCanceled, JobFailed, KioskError, NotAllowed, NotFound, Refused, Unreachable
from cellkiosk.models import Event, File, JobInfo, JobType
from cellkiosk.sync import Client, Job

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BadFile",
    "Client",
    "Event",
    "File",
    "Job",
    "JobCanceled",
    "JobFailed",
    "JobInfo",
    "JobType",
    "KioskError",
    "NotAllowed",
    "NotFound",
    "Refused",
    "Unreachable",
]
