"""The job types, one file each; a file put here is found at the next start.

What they have in common belongs one folder up: `tools` (a job's hands), `dense` (planes to labels), `results`.
"""
