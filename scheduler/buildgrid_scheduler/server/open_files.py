"""How many files, connections included, this process may have open."""

import logging
import resource

log = logging.getLogger(__name__)


def allow_open_files() -> None:
    """Take as many as we may: by default a process begins with few (the soft limit, often 1,024) and may ask
    for more (the hard one). Each connection is one, and so is each blob that is being read or written.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError) as error:
        log.warning("open files: the limit of %d cannot be raised to %d: %s", soft, hard, error)
