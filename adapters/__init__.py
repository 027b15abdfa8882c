"""Adapters: each package knows one protocol and depends on gateway.contract alone."""
