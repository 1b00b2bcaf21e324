"""The bot, a program."""

import os

# gRPC's core writes lines of its own to standard error, and looks at this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
