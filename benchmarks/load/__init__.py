"""Load generators: servers and devices that are faster than what they are to load."""
