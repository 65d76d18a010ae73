"""The operator's commands: start the suite on one machine, look at it, measure it, price it, create and clear clusters.

Here belong commands and what they print; what a service does at work belongs to that service.
"""
