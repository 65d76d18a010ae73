"""From the length of the queues to the number of replicas: decides, explains, and acts through a scaler.

It never runs a job, and it never removes a worker that holds one while an idle one exists.
"""
