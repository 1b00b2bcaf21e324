"""The process around the reconciling: who leads, health and metrics, logs."""
