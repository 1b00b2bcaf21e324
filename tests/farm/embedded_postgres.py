"""`python -m tests.farm.embedded_postgres FOLDER` runs a PostgreSQL until its standard input ends.

A process of its own, because starting PostgreSQL forks, which a process that uses gRPC may not survive.
"""

import sys
from pathlib import Path

from buildgrid_scheduler.store.embedded import EmbeddedPostgres


def main() -> None:
    server = EmbeddedPostgres(Path(sys.argv[1]))
    print(server.start(), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
