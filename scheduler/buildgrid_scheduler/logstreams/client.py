"""A client of the log stream service."""

import grpc
from buildgrid_protos.build.bazel.remote.logstream.v1.remote_logstream_pb2 import CreateLogStreamRequest
from buildgrid_protos.build.bazel.remote.logstream.v1.remote_logstream_pb2_grpc import LogStreamServiceStub

from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.core.job_streams import JobStreams


class LogStreams:
    """Synchronous and thread-safe. It owns the channel, which `stop` closes."""

    def __init__(self, channel: grpc.Channel, instance: str | None = None, timeout: float = 2.0) -> None:
        """`instance` is the parent of all streams; None: the instance of the job.

        `timeout`: seconds that the streams of one job may take.
        """
        self.timeout = timeout
        self._channel = channel
        self._instance = instance
        self._stub = LogStreamServiceStub(channel)

    def start(self) -> None:
        """Nothing to do: the channel connects on first use."""

    def stop(self) -> None:
        """Close the channel; calls under way are cancelled."""
        self._channel.close()

    def create(self, instance: str) -> JobStreams:
        """Streams for the standard output and error of a job in `instance`: both or none.

        Raises grpc.RpcError, or Unavailable for an answer without names.
        """
        parent = instance if self._instance is None else self._instance
        request = CreateLogStreamRequest(parent=parent)
        calls = [self._stub.CreateLogStream.future(request, timeout=self.timeout) for _ in range(2)]
        try:
            stdout, stderr = (call.result() for call in calls)
        finally:
            for call in calls:
                call.cancel()  # the other one, when one failed
        for stream in (stdout, stderr):
            if not stream.name or not stream.write_resource_name:
                raise Unavailable("the log stream service made a stream without name or write_resource_name")
        return JobStreams(stdout.name, stdout.write_resource_name, stderr.name, stderr.write_resource_name)
