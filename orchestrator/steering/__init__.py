"""Requests of a person to a sweep that runs: further points, cancellations, priorities."""
