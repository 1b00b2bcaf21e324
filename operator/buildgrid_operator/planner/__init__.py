"""How many bots a farm should have, and which of them go. Pure: no clock, no I/O, nothing remembered.

docs/design/2026-11-24-fleets.md says why it decides as it does.
"""
