"""The other programs that do the same work, for the ratio."""
