"""Fleets: from what is seen of pods, sessions and jobs to what the planner is told; from its plan to steps.

Pure: no clock, no calls. docs/design/2026-11-24-fleet-pods.md says why it is so.
"""
