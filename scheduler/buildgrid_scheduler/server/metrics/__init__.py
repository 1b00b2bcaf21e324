"""Prometheus metrics: `catalogue` names them all, the other files fill them."""
