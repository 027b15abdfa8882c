# make demo    plant, broker, gateway and centre on this machine, with a live view   (SECONDS=20: unattended)
# make test    set up everything and run all tests
# make check   format, lint, types, tests: what a commit must pass
# make soak    fuzz the decoder of OPC UA for 5 minutes (SECONDS=60: for one), lose 1,000 connections,
#              Modbus faults on every transport for 3 minutes, 200 edits of a running config, 5,000 histories of the log, 200 crashes under load,
#              60 power cuts, 20 full disks, an outage of 72 hours, a flood on a slow disk (two hours)
# make bench   measure the path on this machine (five minutes); bench-full: everything five times
# make lock    renew the locked dependencies
.PHONY: demo test soak check bench bench-full lock setup

setup:
	@scripts/setup dev

demo:
	@scripts/setup demo
	@.venv/bin/edge-gateway demo $(if $(SECONDS),--seconds $(SECONDS))

test:
	@scripts/mosquitto
	@scripts/interop
	@scripts/setup dev
	@.venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

check:
	@scripts/mosquitto
	@scripts/interop
	@scripts/setup dev
	@scripts/check

soak:
	@scripts/mosquitto
	@scripts/interop
	@scripts/setup dev
	@.venv/bin/python -m tests.soak.fuzz_opcua_decode --seconds $(or $(SECONDS),300)
	@.venv/bin/python -m tests.soak.opcua_reconnects
	@.venv/bin/python -m tests.soak.modbus_faults --seconds $(or $(SECONDS),180)
	@.venv/bin/python -m tests.soak.reload_edits
	@LOG_HISTORIES=5000 .venv/bin/python -m pytest -q tests/unit/log/test_model.py tests/unit/log/test_spans.py tests/unit/publishing/test_recount.py
	@.venv/bin/python -m tests.soak.crash_campaign --rounds 200
	@.venv/bin/python -m tests.soak.flood
	@.venv/bin/python -m tests.soak.long_outage

bench:
	@scripts/mosquitto
	@scripts/setup dev
	@.venv/bin/python -m benchmarks $(ARGS)

bench-full:
	@scripts/mosquitto
	@scripts/setup dev
	@.venv/bin/python -m benchmarks --full $(ARGS)

lock:
	@scripts/lock
