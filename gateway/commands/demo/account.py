"""The loss account at the demo's end: the gateway's account messages beside what the centre really stored."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from simulators.centre.report import Report


def print_account(report: Report, console: Console, elapsed_s: float) -> bool:
    """Print it; True only if accepted = delivered = stored and nothing was dropped, missing or invalid."""
    reconciliation = report.reconcile()
    title = f"Loss account after {elapsed_s:.0f} s"
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, show_edge=False, padding=0
    )
    for index, column in enumerate(
        ("device", "stream", "accepted", "delivered", "waiting", "parked", "withheld", "dropped", "stored")
    ):
        table.add_column(column, justify="left" if index < 2 else "right", no_wrap=True)
    for line in reconciliation.lines:
        counts = (line.accepted, line.delivered, line.waiting, line.parked, line.withheld, line.dropped, line.stored)
        table.add_row(line.source.device, f"…{line.source.stream[-6:]}", *(f"{count:,}" for count in counts))
    console.print(table)
    missing, errors, conflicts = report.missing(), report.errors(), report.conflicts()
    for gap in missing:
        console.print(f"missing: {gap.source.device} offsets {gap.first} to {gap.last}")
    for kind, count in errors.items():
        console.print(f"invalid: {kind}: {count} messages")
    for difference in reconciliation.differences:
        console.print(f"difference: {difference.source.device}: {difference.kind}: {difference.detail}")
    exact = reconciliation.exact and not (missing or errors or conflicts)
    accepted = sum(line.accepted for line in reconciliation.lines)
    verdict = "accepted = delivered, nothing dropped" if exact else "NOT everything that was accepted arrived"
    console.print(f"{accepted:,} accepted: {verdict}", style="bold green" if exact else "bold red")
    return exact
