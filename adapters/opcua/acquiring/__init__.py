"""Acquisition within a session.

`plan`: what is asked of the server. `subscriptions`: all of a device, over connections and restarts; `services`: their
services; `publish`: the session's publish loop; `receiver`, `progress`, `sequence`: one subscription's notifications;
`items`: monitored items; `revised`: what the server made of them; `refresh`: points that stood still meanwhile;
`bridge`: outages that lost nothing; `note`: what a crash leaves. `poll`: points that are read on a grid; `reading`:
batched Reads.
"""
