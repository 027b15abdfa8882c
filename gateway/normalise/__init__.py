"""Normalising: raw batches in, canonical batch records out, in columns."""

from gateway.normalise.normaliser import Normaliser

__all__ = ["Normaliser"]
