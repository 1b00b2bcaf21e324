"""Words of the API as the scheduler's configuration writes them."""

import re


def config_word(word: str) -> str:
    """`CommonName` as `common-name`, `Info` as `info`. Algorithms have the same names in both."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", word).lower()
