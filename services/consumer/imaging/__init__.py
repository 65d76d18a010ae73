"""Pure array code: arrays in, arrays out. Normalising, axes, watershed, stitching, spots, tracks, drawing.

No files, no network, no event loop, no job: those belong to reading, writing, inference and pipelines.
"""
