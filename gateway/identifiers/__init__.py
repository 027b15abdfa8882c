"""Identifiers (标识): how a pattern becomes one, and whether its syntax is right. Pure functions, no network."""

from gateway.identifiers.pattern import PLACEHOLDERS, Pattern, PatternError
from gateway.identifiers.syntax import Finding, check_identifier, check_prefix

__all__ = ["PLACEHOLDERS", "Finding", "Pattern", "PatternError", "check_identifier", "check_prefix"]
