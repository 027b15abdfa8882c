"""Simulated plant and centre, independent of adapters/ so that a shared misunderstanding cannot make a test pass."""
