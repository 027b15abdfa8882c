"""`edge-gateway demo`: the whole path on one machine, with a simulated plant and a simulated centre."""

from gateway.commands.demo.run import main

__all__ = ["main"]
