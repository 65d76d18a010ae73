"""The operator's commands: up, status, benchmark, simulate, audit, logs, doctor.

The user's commands (submit, watch, get) belong to the client in cellkiosk/.
"""
