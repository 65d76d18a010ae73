"""The states of a job and the only moves between them; the Lua is given this very table.

new ──claim──> started ──advance──> pre-processing, predicting, post-processing, saving-results
 ^                │                                   │
 ├──release, loss─┴───────────────────────────────────┤
 │                                                    ├──complete──> done
 ├──last child ended── waiting <──split───────────────┤──fail, bury─> failed
                                                      └──cancel────> canceled   (from any state that is not final)
"""

from __future__ import annotations

NEW = "new"
STARTED = "started"
PRE_PROCESSING = "pre-processing"
PREDICTING = "predicting"
POST_PROCESSING = "post-processing"
SAVING_RESULTS = "saving-results"
WAITING = "waiting"
DONE = "done"
FAILED = "failed"
CANCELED = "canceled"

#: States in which a worker holds the job under a lease.
WORKING = (STARTED, PRE_PROCESSING, PREDICTING, POST_PROCESSING, SAVING_RESULTS)
#: States that are never left.
FINAL = (DONE, FAILED, CANCELED)
ALL = (NEW, *WORKING, WAITING, *FINAL)

#: From each state, the states that may follow.
TRANSITIONS: dict[str, tuple[str, ...]] = {
    NEW: (STARTED, FAILED, CANCELED),
    **dict.fromkeys(WORKING, (NEW, *WORKING, WAITING, *FINAL)),
    WAITING: (NEW, FAILED, CANCELED),
    **dict.fromkeys(FINAL, ()),
}

#: The fields of a job hash that may change after they were first written.
MOVING_FIELDS = ("status", "updated_at", "updated_by", "progress", "attempt", "losses")


def lua_table() -> str:
    """Return the transitions as a Lua table literal for the scripts: from each state, its followers between spaces."""
    rows = (f"['{state}']=' {' '.join(follow)} '" for state, follow in TRANSITIONS.items())
    return "{" + ",".join(rows) + "}"
