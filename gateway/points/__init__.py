"""Points: permanent indexes, streams by label, and the table that explains both."""
