"""A replica as a process: the gRPC server, health and metrics."""
