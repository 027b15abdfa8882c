"""Metrics: what is declared, how it is collected, and the endpoint that serves it."""
