"""Names of what is in the server, as requests are made up with them.

The real ones are not known before, and change: operations are deleted, sessions closed. When a request is
sent they take the place of these, which are as long.
"""


def _placeholder(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


OPERATIONS = (_placeholder(1), _placeholder(2), _placeholder(6))
"""one that waits; one of INSTANCES[1]; one that the session was given, with whatever result"""
SESSION = _placeholder(3)
LEASES = (_placeholder(4), _placeholder(5))
"""which the session holds, as long as there is something to do"""
BOT_ID = "fuzz"
EVERY = (*OPERATIONS, f"fuzz/one/{OPERATIONS[1]}", SESSION, *LEASES, BOT_ID)
PREFIX = b"00000000-0000-4000-8000-"
