"""The worker: claims jobs, runs their pipelines against the model server, stores results.

HTTP belongs to the frontend; models and their server belong to services/triton.
"""
