"""What the services have in common: jobs on Redis, storage, telemetry, settings, errors, lifecycle.

Nothing here knows a service, and nothing here is needed by the client in ``cellkiosk/``.
"""
