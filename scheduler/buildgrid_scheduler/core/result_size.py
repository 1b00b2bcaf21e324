"""Makes a bot's ActionResult fit into one message to a client. Pure."""

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult

# gRPC clients take messages of 4 MiB by default. The rest is for the Operation around it.
MAX_RESULT_BYTES = 4 * 1024 * 1024 - 64 * 1024


def fit_into_a_message(result: ActionResult) -> bool:
    """Takes inlined contents out of a result that is too large, as far as digests name them. Whether it fits.

    Inlining is a hint (REAPI, ActionResult): who wants contents finds them in the CAS.
    """
    if result.ByteSize() <= MAX_RESULT_BYTES:
        return True
    for file in result.output_files:
        file.ClearField("contents")
    if result.stdout_digest.hash:
        result.ClearField("stdout_raw")
    if result.stderr_digest.hash:
        result.ClearField("stderr_raw")
    return result.ByteSize() <= MAX_RESULT_BYTES
