"""A simulated centre: subscribes, validates, stores, and says what is missing, doubled or unaccounted for.

It knows the published wire format (docs/schemas/) and nothing of the gateway's code.
"""
