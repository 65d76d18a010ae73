"""The keeper of the promise: expired leases, dead letters, retention, orphaned objects.

It never runs a job and never decides how many workers there are.
"""
