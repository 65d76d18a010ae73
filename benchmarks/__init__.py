"""Measurements: each script prints a table and with ``--json FILE`` writes its figures with their targets.

Belongs here: what measures speed or quality. Does not: tests, which pass or fail.
"""
