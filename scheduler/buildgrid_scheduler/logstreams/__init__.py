"""Log streams: standard output and error of jobs, readable while they run (Remote Log Stream API)."""

from buildgrid_scheduler.logstreams.client import LogStreams
from buildgrid_scheduler.logstreams.lease_streams import LeaseStreams

__all__ = ["LeaseStreams", "LogStreams"]
