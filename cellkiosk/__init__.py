"""The published client: import this from your own code."""

__version__ = "0.1.0"
