"""What is reported: one execution at enqueue, and at completion what the command used. Pure."""

from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics

from buildgrid_scheduler.core.metering import IdentityKey
from buildgrid_scheduler.metering.package import ComputingUsage, Identity, RPCUsage, Usage


def identity_of(key: IdentityKey) -> Identity:
    """As the metering service knows it."""
    instance, workflow, actor, subject = key
    return Identity(instance=instance, workflow=workflow, actor=actor, subject=subject)


def one_execution() -> Usage:
    """An operation was made."""
    return Usage(rpc=RPCUsage(execute=1))


def usage_of(statistics: ExecutionStatistics) -> Usage:
    """CPU time in milliseconds; memory in kilobytes and block I/O in blocks (getrusage(2))."""
    rusage = statistics.command_rusage
    computing = ComputingUsage(
        utime=rusage.utime.ToMilliseconds(),
        stime=rusage.stime.ToMilliseconds(),
        maxrss=rusage.maxrss,
        inblock=rusage.inblock,
        oublock=rusage.oublock,
    )
    return Usage(computing=computing)
