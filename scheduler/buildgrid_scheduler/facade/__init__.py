"""The synchronous methods of `Scheduler`, by what they are about."""
