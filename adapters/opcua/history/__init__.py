"""Gaps that are filled from a server's history.

`holes`, `gaps`: what is missing, per point; `history`: HistoryRead; `backfill`: one after the other, beside live data.
"""
