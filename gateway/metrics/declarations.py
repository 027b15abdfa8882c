"""Every metric that the gateway exports. The names are an interface: docs/metrics.md lists them, a test compares.

At most 2,000 series plus 3 per device: `device` is never combined with another label but `adapter`, and there is never
a point or an identifier in a label. Two series are of every device; the clock's offset and the certificate's expiry
come on top where there are such, so that the bound holds up to `MOST_FULL_DEVICES` devices that have all four.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

MOST_FULL_DEVICES: Final = 950
"""devices that have every series of a device, which the 2,000 series beside 3 per device leave room for"""
MOST_DESTINATIONS: Final = 39
"""beside as many devices"""


class Declaration(NamedTuple):
    """One metric family."""

    name: str
    """as exported; counters end in _total"""
    kind: Literal["counter", "gauge"]
    help: str
    labels: tuple[str, ...] = ()


DECLARATIONS = (
    Declaration("edge_gateway_build_info", "gauge", "Always 1; the version that runs.", ("version",)),
    Declaration("edge_gateway_start_time_seconds", "gauge", "When this process started, seconds since the Unix epoch."),
    Declaration(
        "edge_gateway_event_loop_lag_seconds", "gauge", "Worst delay of the event loop in the last ten seconds."
    ),
    Declaration(
        "edge_gateway_config_reloads_total",
        "counter",
        "Reloads of the config since this start, by result: accepted, refused.",
        ("result",),
    ),
    Declaration(
        "edge_gateway_config_last_reload_successful",
        "gauge",
        "0 after a reload was refused: the config in its folder is not the one in force; 1 else.",
    ),
    Declaration(
        "edge_gateway_config_in_force_timestamp_seconds",
        "gauge",
        "Since when the config is in force, seconds since the Unix epoch.",
    ),
    # device
    Declaration(
        "edge_gateway_device_up",
        "gauge",
        "1 while the device answers, even if it is degraded, else 0.",
        ("device", "adapter"),
    ),
    Declaration(
        "edge_gateway_readings_accepted_total",
        "counter",
        "Readings taken over from a device since this start, Bad ones included.",
        ("device", "adapter"),
    ),
    Declaration(
        "edge_gateway_readings_filtered_total",
        "counter",
        "Readings since this start that a deadband or max_silence left out before they were accepted.",
        ("adapter",),
    ),
    Declaration(
        "edge_gateway_device_certificate_expiry_timestamp_seconds",
        "gauge",
        "When our certificate for a device with encryption expires, seconds since the Unix epoch; minus time(), "
        "divided by 86400, the days left.",
        ("device", "adapter"),
    ),
    Declaration(
        "edge_gateway_device_clock_offset_seconds",
        "gauge",
        "The device's clock minus ours; absent while it is not known.",
        ("device", "adapter"),
    ),
    Declaration(
        "edge_gateway_devices",
        "gauge",
        "Devices by link state: starting, up, degraded (it answers, but says or shows that it is not well), down, "
        "refused, failed, paused.",
        ("adapter", "state"),
    ),
    Declaration(
        "edge_gateway_bridged_seconds",
        "gauge",
        "The outage of a link that devices' own queues bridge without a gap: the least of all devices that have told.",
        ("adapter",),
    ),
    Declaration(
        "edge_gateway_lost_copies_total",
        "counter",
        "Notifications that servers forgot before we had acknowledged them; a crash then would have lost them.",
        ("adapter",),
    ),
    Declaration("edge_gateway_polls_total", "counter", "Cycles in which devices were polled.", ("adapter",)),
    Declaration(
        "edge_gateway_polls_missed_total",
        "counter",
        "Cycles that were left out because the one before, or a shared wire, took longer than the period.",
        ("adapter",),
    ),
    Declaration(
        "edge_gateway_poll_late_seconds",
        "gauge",
        "How much later than planned a cycle's first request was sent: the worst of all devices in the last 10 to 20 "
        "seconds.",
        ("adapter",),
    ),
    Declaration(
        "edge_gateway_request_timeouts_total", "counter", "Requests that polled devices did not answer.", ("adapter",)
    ),
    Declaration(
        "edge_gateway_bad_replies_total",
        "counter",
        "Replies of polled devices that did not fit their request and were not believed.",
        ("adapter",),
    ),
    Declaration("edge_gateway_device_outages_total", "counter", "Times that a device's link was lost.", ("adapter",)),
    Declaration("edge_gateway_gaps_total", "counter", "Gaps that adapters reported: readings lost before they came."),
    Declaration("edge_gateway_readings_total", "counter", "Readings by quality since this start.", ("quality",)),
    # log
    Declaration("edge_gateway_log_bytes", "gauge", "Size of the log's files."),
    Declaration("edge_gateway_log_budget_bytes", "gauge", "Size at which the oldest readings are dropped."),
    Declaration("edge_gateway_log_free_bytes", "gauge", "Free space on the log's file system."),
    Declaration("edge_gateway_log_written_bytes_total", "counter", "Encoded bytes committed since this start."),
    Declaration("edge_gateway_log_commits_total", "counter", "Commits since this start."),
    Declaration("edge_gateway_log_commit_seconds_total", "counter", "Time spent in commits since this start."),
    Declaration("edge_gateway_log_pending_bytes", "gauge", "Memory held by readings that are not committed yet."),
    Declaration("edge_gateway_log_stalled", "gauge", "1 while commits fail, for example because the disk is full."),
    Declaration(
        "edge_gateway_log_cut_readings", "gauge", "Readings lost to damage that the last start found in the log."
    ),
    Declaration(
        "edge_gateway_storage_written_bytes_total",
        "counter",
        "Bytes that this process has caused to be written to storage; absent where the system does not say.",
    ),
    Declaration(
        "edge_gateway_storage_written_bytes_per_day",
        "gauge",
        "The same for a day, told from the last 24 hours; absent in the first ten minutes.",
    ),
    Declaration(
        "edge_gateway_emmc_life_used_ratio",
        "gauge",
        "Used life of the log's eMMC by its own estimate: 0.1 = up to a tenth, 1 = up to all of it, 1.1 = beyond; by "
        "type of memory, a and b. Absent where there is none, or it does not say.",
        ("memory",),
    ),
    Declaration(
        "edge_gateway_emmc_reserve_state",
        "gauge",
        "Spare blocks of the log's eMMC: 1 = normal, 2 = 80 % used, 3 = 90 % used, replace it.",
    ),
    # destination: the loss account, accepted = delivered + waiting + parked + withheld + dropped
    Declaration(
        "edge_gateway_destination_state",
        "gauge",
        "1 for the state that the destination is in.",
        ("destination", "state"),
    ),
    Declaration(
        "edge_gateway_destination_broker",
        "gauge",
        "1 for the broker (host:port) that is connected; absent while none is.",
        ("destination", "broker"),
    ),
    Declaration(
        "edge_gateway_destination_certificate_expiry_timestamp_seconds",
        "gauge",
        "When our certificate for a destination that wants one expires, as its file is now, seconds since the Unix "
        "epoch; minus time(), divided by 86400, the days left.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_account_accepted_total",
        "counter",
        "Readings accepted since the destination's start (persisted), events included.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_account_delivered_total", "counter", "Of these, acknowledged by the broker.", ("destination",)
    ),
    Declaration("edge_gateway_account_waiting", "gauge", "Of these, still to be delivered.", ("destination",)),
    Declaration(
        "edge_gateway_account_parked", "gauge", "Of these, refused one by one and set aside.", ("destination",)
    ),
    Declaration(
        "edge_gateway_account_withheld_total",
        "counter",
        "Of these, above the destination's clearance.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_account_dropped_total",
        "counter",
        "Of these, dropped before delivery, by reason.",
        ("destination", "reason"),
    ),
    Declaration(
        "edge_gateway_account_difference",
        "gauge",
        "accepted - (delivered + waiting + parked + withheld + dropped); anything but 0 is a bug.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_destination_messages_total",
        "counter",
        "Messages acknowledged since this start.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_destination_bytes_total", "counter", "Payload bytes published since this start.", ("destination",)
    ),
    Declaration(
        "edge_gateway_destination_in_flight", "gauge", "Messages published, not acknowledged.", ("destination",)
    ),
    Declaration(
        "edge_gateway_destination_puback_seconds_total",
        "counter",
        "Time between publishing and acknowledgement, summed over messages.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_destination_delay_seconds",
        "gauge",
        "Age of the newest live reading when it was delivered, gateway clock.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_replay_waiting",
        "gauge",
        "Readings that replays (`log replay`) still have before them; the account counted them when they came first.",
        ("destination",),
    ),
    # where the centre is to confirm (`confirm: centre`)
    Declaration(
        "edge_gateway_account_confirmed_total",
        "counter",
        "Of the delivered, confirmed by the centre as stored. This and the next: with `confirm: centre` alone.",
        ("destination",),
    ),
    Declaration(
        "edge_gateway_destination_unconfirmed",
        "gauge",
        "Messages that wait for the centre's answer.",
        ("destination",),
    ),
)
