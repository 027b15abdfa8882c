"""Delivery: reads the log, encodes, publishes over MQTT with QoS 1, and keeps the account of each destination."""
