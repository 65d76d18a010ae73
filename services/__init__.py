"""The applications of the suite: each folder is one process, run as ``python -m services.<name>``.

A service imports ``shared`` and never another service; only ``console`` may read the others' pure parts.
"""
