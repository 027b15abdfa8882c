"""Getting in, and the way out.

`connect`: channel, login, goodbye. `security`: policy and login. `certificates`: our own; `trust`: the servers'; `pki`:
both for the command line.
"""
