"""The version of the suite: one for all services, the chart and the client."""

VERSION = "0.1.0"
