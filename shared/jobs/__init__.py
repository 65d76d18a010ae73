"""The job model on Redis: keys, states, the Lua that changes them, the store that calls it, and notifications.

Every change of a job's state happens in ``lua/``; nothing else in the project writes to Redis.
"""

from shared.jobs.model import Claim, Held, Job, JobType, NewJob, QueueState, Submitted, WorkerState
from shared.jobs.notifications import Notifications, Watch
from shared.jobs.store import JobStore, open_store

__all__ = [
    "Claim",
    "Held",
    "Job",
    "JobStore",
    "JobType",
    "NewJob",
    "Notifications",
    "QueueState",
    "Submitted",
    "Watch",
    "WorkerState",
    "open_store",
]
