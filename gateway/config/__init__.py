"""The config: YAML with positions (`yaml`), secrets (`secrets`), models (`models`), checks over everything (`cross`).

`load_config` returns a `LoadedConfig` or raises `ConfigProblems`, which holds every `Problem` at once.
"""

from gateway.config.load import LoadedConfig, LoadedDevice, load_config
from gateway.config.models import GatewayConfig, GatewayFile, IdentifiersConfig, LogConfig, MetricsConfig
from gateway.config.problems import ConfigProblems, Problem

__all__ = [
    "ConfigProblems",
    "GatewayConfig",
    "GatewayFile",
    "IdentifiersConfig",
    "LoadedConfig",
    "LoadedDevice",
    "LogConfig",
    "MetricsConfig",
    "Problem",
    "load_config",
]
