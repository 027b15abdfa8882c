"""One session with a server.

`session`: calls, limits, namespaces. `limits`: the strictest of what server, profile and device file say. `pace`: the
request budget. `health`: what the server says of itself. `endpoints`: redundant servers, and what is known of each.
`nodes`: addresses of a device file as node ids. `stack`: all that reaches into asyncua; `lengths`: what asyncua
does not check.
"""
