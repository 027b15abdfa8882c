"""Load generators and the measured figures."""
