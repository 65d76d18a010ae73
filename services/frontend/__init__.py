"""The HTTP front door: uploads, jobs, events and the web page.

No image is decoded here and no job is run: those belong to the consumer.
"""
