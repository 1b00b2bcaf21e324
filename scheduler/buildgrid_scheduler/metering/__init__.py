"""Usage of clients, reported to a metering service that may have them throttled.

Needs the package buildgrid-metering-client; what is here cannot be imported without it.
"""
