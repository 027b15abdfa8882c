"""What `status` answers, as lines and tables for people, in English or Chinese."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gateway.config.quantities import days_text, duration_text, size_text

_NAMED: Final = 3
"""bad points that are named in the table; --json has ten"""
_STYLES: Final = {
    "up": "green",
    "online": "green",
    "degraded": "yellow",
    "paused": "yellow",
    "holding": "yellow",
    "unconfirmed": "yellow",
    "starting": "",
    "connecting": "",
}
_CHINESE: Final = {
    "gateway": "网关",
    "runs for": "已运行",
    "device": "设备",
    "destination": "目的地",
    "state": "状态",
    "since": "持续",
    "points": "点数",
    "every": "周期",
    "cycles/s": "轮询/秒",
    "missed": "漏轮询",
    "readings/s": "读数/秒",
    "bad": "坏点",
    "why": "原因",
    "waiting": "待发",
    "oldest": "最早待发",
    "sent/s": "发送/秒",
    "parked": "搁置",
    "dropped": "丢弃",
    "log": "日志",
    "of": "/",
    "free": "磁盘剩余",
    "holds about": "约可存",
    "takes nothing": "不能写入",
    "config": "配置",
    "in force since": "生效于",
    "last reload": "上次重载",
    "last trouble": "上次故障",
    "up": "正常",
    "degraded": "降级",
    "down": "断开",
    "refused": "被拒绝",
    "failed": "故障",
    "paused": "已暂停",
    "starting": "启动中",
    "online": "在线",
    "connecting": "连接中",
    "holding": "无人订阅",
    "unconfirmed": "未确认",
    "stopped": "已停止",
}


def show(said: dict[str, Any], language: str) -> Iterator[RenderableType]:
    """The whole answer, part by part; `language` is en or zh."""

    def word(english: str) -> str:
        return _CHINESE.get(english, english) if language == "zh" else english

    now = _time(said["time"])
    uptime = duration_text(said["uptime_s"])
    yield Text(f"{word('gateway')} {said['gateway']} {said['version']}, {word('runs for')} {uptime}")
    if config := said.get("config"):
        yield from _config(config, now, word)
    if said["devices"]:
        yield _devices(said["devices"], now, word)
    if said["destinations"]:
        yield _destinations(said["destinations"], now, word)
        for one in said["destinations"]:
            trouble = one["last_trouble"]
            if trouble and not one["reason"]:
                text = f"{one['destination']}: {word('last trouble')}: {trouble['state']}: {trouble['reason']}"
                yield Text(f"{text} ({_second(trouble['since'])})", "dim")
    yield _log(said["log"], word)


def _config(config: dict[str, Any], now: datetime, word: Any) -> Iterator[Text]:
    yield Text(f"{word('config')} {config['digest'][:12]}, {word('in force since')} {_second(config['since'])}")
    last = config.get("last_reload")
    if last is not None:
        style = "" if last["accepted"] else "red"
        ago = _ago(last["time"], now)
        yield Text(f"{word('last reload')}: {last['outcome']} ({ago})", style)


def _devices(devices: list[dict[str, Any]], now: datetime, word: Any) -> Table:
    names = ("device", "state", "since", "points", "every", "cycles/s", "missed", "readings/s", "bad", "why")
    table = _table(names, word, right=frozenset({"points", "every", "cycles/s", "missed", "readings/s", "bad"}))
    for one in devices:
        table.add_row(
            one["device"],
            Text(word(one["state"]), _STYLES.get(one["state"], "red")),
            _ago(one["since"], now),
            f"{one['points']:,}",
            "-" if one["period_s"] is None else duration_text(one["period_s"]),
            _rate(one["cycles_per_s"]),
            str(one["cycles_missed"]) if one["cycles_per_s"] is not None else "-",
            _rate(one["readings_per_s"]),
            f"{one['bad_points']['count']:,}",
            one["error"] or _bad(one["bad_points"]),
        )
    return table


def _bad(bad: dict[str, Any]) -> str:
    """`hole (config), flow (sensor) and 7 more`."""
    named = [f"{one['point']} ({one['reason']})" for one in bad["some"][:_NAMED]]
    more = f" and {bad['count'] - len(named)} more" if bad["count"] > len(named) else ""
    return ", ".join(named) + more


def _destinations(destinations: list[dict[str, Any]], now: datetime, word: Any) -> Table:
    names = ("destination", "state", "since", "waiting", "oldest", "sent/s", "parked", "dropped", "why")
    table = _table(names, word, right=frozenset({"waiting", "oldest", "sent/s", "parked", "dropped"}))
    for one in destinations:
        table.add_row(
            one["destination"],
            Text(word(one["state"]), _STYLES.get(one["state"], "red")),
            _ago(one["since"], now),
            f"{one['waiting']:,}",
            "-" if one["oldest_waiting"] is None else _ago(one["oldest_waiting"], now),
            _rate(one["delivered_per_s"]),
            f"{one['parked']:,}",
            f"{sum(one['dropped'].values()):,}",
            one["reason"] or "",
        )
    return table


def _log(log: dict[str, Any], word: Any) -> Text:
    if "bytes" not in log:
        return Text(f"{word('log')}: {word('takes nothing')}: {log['stalled']}", "red")
    text = f"{word('log')}: {size_text(log['bytes'])} {word('of')} {size_text(log['budget_bytes'])}"
    text += f", {size_text(log['free_bytes'])} {word('free')}"
    if log["holds_days"] is not None:
        text += f", {word('holds about')} {days_text(log['holds_days'])}"
    if log["stalled"]:
        return Text(f"{text}; {word('takes nothing')}: {log['stalled']}", "red")
    return Text(text)


def _table(names: tuple[str, ...], word: Any, right: frozenset[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(
            word(name),
            justify="right" if name in right else "left",
            overflow="fold",
            no_wrap=name != "why",
        )
    return table


def _second(text: str) -> str:
    return f"{_time(text):%Y-%m-%dT%H:%M:%SZ}"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _ago(text: str, now: datetime) -> str:
    """How long ago, in one unit."""
    seconds = max(0.0, (now - _time(text)).total_seconds())
    for most, factor, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            return f"{seconds / factor:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def _rate(per_s: float | None) -> str:
    if per_s is None:
        return "-"
    return f"{per_s:,.0f}" if per_s >= 100 else f"{per_s:.3g}"
