"""The stages of the path, each by itself: what `python -m benchmarks` times and what `benchmarks.gate` counts.

`stage`: what a stage is; `opcua`, `modbus`: the adapters' ends; `core`: everything behind them; `chain`: all of it at
once; `counting`: work without a clock; `costs`: CPU per value.
"""
