"""What to make of a database that refuses us: whether waiting helps, and what to do if not."""

import re

# Before there is a session psycopg knows no SQLSTATE, only what the server says: in English, unless its
# lc_messages are in another language.
_FATAL = (
    (
        r'FATAL: +database "(?P<name>[^"]*)" does not exist',
        'there is no database "{name}" on that server; create it, or correct the name',
    ),
    (
        r'FATAL: +role "(?P<name>[^"]*)" does not exist',
        'there is no user "{name}"; create it, or correct the name',
    ),
    (
        r'FATAL: +password authentication failed for user "(?P<name>[^"]*)"',
        'the password of user "{name}" is wrong; correct it in the URL or the file with it',
    ),
    (
        r"(no password supplied|fe_sendauth)",
        "the server asks for a password; put one into the URL, or name a file: database.password_file",
    ),
    (
        r"FATAL: +no pg_hba\.conf entry for",
        "the server does not let this user in from here (pg_hba.conf); allow it, or use another user",
    ),
    (
        r'FATAL: +permission denied for database "(?P<name>[^"]*)"',
        'the user may not connect to database "{name}"; GRANT CONNECT',
    ),
)
# What may end by waiting, and may be mended sooner.
_AWAY = (
    (
        r"failed to resolve host|could not translate host name|Name or service not known",
        "correct the host in the URL, or the name service",
    ),
    (
        r"Connection refused|No such file or directory|timeout|timed out|No route to host|is unreachable",
        "start PostgreSQL there, or correct host and port in the URL",
    ),
    (
        r"too many clients|remaining connection slots",
        "raise max_connections of PostgreSQL, or lower database.pool_size",
    ),
)
_QUESTION = re.compile(r"\s*Is the server running [^?]*\?")
"""libpq's own remedy, which ours takes the place of"""
_INSUFFICIENT_PRIVILEGE = "42501"


def fatal_reason(error: BaseException) -> str | None:
    """Why trying again is of no use, and what to do; None if it may help.

    A server that cannot be reached, that starts up, or that is full is worth waiting for. One that answers
    and refuses is not.
    """
    cause = getattr(error, "orig", None) or error
    if getattr(cause, "sqlstate", None) == _INSUFFICIENT_PRIVILEGE:
        return (
            f"the user may not do what is needed: {str(cause).splitlines()[0]}; let the user own the "
            "database, or migrate as another (buildgrid-scheduler migrate) and set database.migrate: false"
        )
    for pattern, remedy in _FATAL:
        if match := re.search(pattern, str(cause)):
            return remedy.format(**match.groupdict())
    return None


def outage(error: BaseException) -> str:
    """The database's own words in one line, without a trace of ours; and what to do, where that is known."""
    said = " ".join(_QUESTION.sub("", str(getattr(error, "orig", None) or error)).split())
    return "; ".join([said, *(remedy for pattern, remedy in _AWAY if re.search(pattern, said))][:2])
