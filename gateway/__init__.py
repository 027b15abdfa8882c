"""The edge gateway's core: knows no protocol."""

__version__ = "0.1.0"
