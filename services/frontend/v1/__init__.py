"""API v1: typed routes; the same models check requests and describe them in the OpenAPI document."""
