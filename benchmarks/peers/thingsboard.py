"""The ThingsBoard IoT Gateway: its config files, its process. What was chosen and why: see README.md here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import installed
from benchmarks.rig.processes import Bench, Child

DEVICE: Final = "load"
PUBLISHING_MS: Final = 100
BLOCK: Final = 124
"""registers per request: 62 floats"""
MEMORY: Final[Mapping[str, Any]] = {"type": "memory", "read_records_count": 100, "max_records_count": 100_000}
FILE: Final[Mapping[str, Any]] = {
    "type": "file",
    "data_folder_path": "./data/",
    "max_file_count": 1000,
    "max_read_records_count": 1000,
    "max_records_per_file": 10_000,
}
_GATEWAY: Final[Mapping[str, Any]] = {
    "host": "127.0.0.1",
    "remoteShell": False,
    "remoteConfiguration": False,
    "statistics": {"enable": False},
    "deviceFiltering": {"enable": False},
    "maxPayloadSizeBytes": 65_536,
    "minPackSendDelayMS": 50,
    "minPackSizeToSend": 500,
    "security": {"type": "accessToken", "accessToken": "bench"},
    "qos": 1,
    "reportStrategy": {"type": "ON_RECEIVED"},
}


def opcua(port: int, points: int) -> dict[str, Any]:
    """The OPC UA connector's config: one device, point p<k> is item k."""
    return {
        "name": "load",
        "logLevel": "ERROR",
        "server": {
            "url": f"opc.tcp://127.0.0.1:{port}",
            "timeoutInMillis": 30_000,
            "scanPeriodInMillis": 3_600_000,
            "enableSubscriptions": True,
            "subCheckPeriodInMillis": PUBLISHING_MS,
            "subDataMaxBatchSize": 1000,
            "subDataMinBatchCreationTimeMs": 200,
            "subscriptionProcessBatchSize": 2000,
            "sessionTimeoutInMillis": 120_000,
            "security": "None",
            "identity": {"type": "anonymous"},
        },
        "mapping": [
            {
                "deviceNodeSource": "path",
                "deviceNodePattern": "Root\\.Objects",
                "deviceInfo": {
                    "deviceNameExpression": DEVICE,
                    "deviceNameExpressionSource": "constant",
                    "deviceProfileExpression": "default",
                    "deviceProfileExpressionSource": "constant",
                },
                "attributes": [],
                "timeseries": [
                    {
                        "key": f"p{k}",
                        "type": "identifier",
                        "value": f"${{ns=1;i={k}}}",
                        "timestampLocation": "sourceTimestamp",
                    }
                    for k in range(points)
                ],
                "rpc_methods": [],
                "attributes_updates": [],
            }
        ],
    }


def modbus(ports: Sequence[int], points: int, every_s: float) -> dict[str, Any]:
    """The Modbus connector's config: equal devices of `points` float32 each; it names them by register, r0, r2 ..."""
    return {
        "name": "load",
        "logLevel": "ERROR",
        "master": {"slaves": [_slave(port, points, every_s) for port in ports]},
    }


def _slave(port: int, points: int, every_s: float) -> dict[str, Any]:
    return {
        "host": "127.0.0.1",
        "port": port,
        "type": "tcp",
        "method": "socket",
        "unitId": 1,
        "deviceName": f"m{port}",
        "deviceType": "default",
        "timeout": 10,
        "byteOrder": "BIG",
        "wordOrder": "BIG",
        "retries": 3,
        "pollPeriod": round(every_s * 1000),
        "connectAttemptTimeMs": 5000,
        "connectAttemptCount": 5,
        "waitAfterFailedAttemptsMs": 5000,
        "attributes": [],
        "timeseries": [
            {
                "tag": "r${address}",
                "type": "32float",
                "functionCode": 3,
                "objectsCount": 2,
                "address": f"0-{2 * points - 1}",
                "maxRegistersPerRequest": BLOCK,
            }
        ],
        "attributeUpdates": [],
        "rpc": [],
    }


def write(
    folder: Path, broker_port: int, connector: str, config: Mapping[str, Any], storage: Mapping[str, Any]
) -> None:
    """Its config folder; logs and stored data lie in `folder` too."""
    target = folder / "config"
    target.mkdir(parents=True)
    (folder / "logs").mkdir()
    gateway = {
        "thingsboard": {**_GATEWAY, "port": broker_port},
        "storage": dict(storage),
        "grpc": {"enabled": False},
        "connectors": [{"type": connector, "name": "load", "configuration": "load.json"}],
    }
    (target / "tb_gateway.json").write_text(json.dumps(gateway))
    (target / "load.json").write_text(json.dumps(config))
    (target / "logs.json").write_text(json.dumps(_LOGS))


def start(bench: Bench, folder: Path) -> Child:
    """The gateway on the measured core, with `folder` as written by `write`. Raises BenchmarkError."""
    program = installed.find("thingsboard", "bin/thingsboard-gateway")
    command = ["env", "-C", str(folder), f"TB_GW_CONFIG_DIR={folder / 'config'}", str(program)]
    return installed.start(bench, "thingsboard", command)


_LOGS: Final[Mapping[str, Any]] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"LogFormatter": {"class": "logging.Formatter", "format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "LogFormatter", "stream": "ext://sys.stderr"}
    },
    "loggers": {
        name: {"handlers": ["console"], "level": "ERROR", "propagate": False}
        for name in ("database", "service", "connector", "converter", "tb_connection", "storage", "extension")
    },
    "root": {"level": "ERROR", "handlers": ["console"]},
}
