"""The end-to-end workloads, a module for each kind."""
