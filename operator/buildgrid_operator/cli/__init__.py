"""The command line: the operator itself, and what the chart's Jobs run."""
