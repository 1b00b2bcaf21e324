"""Throughput, latency and CPU per job, beside the floor and the peer. See README.md."""
