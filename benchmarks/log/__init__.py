"""What the log takes and writes, by itself."""
