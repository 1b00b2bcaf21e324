"""What a test measured, for whoever looks at the run."""

from collections.abc import Callable

Figure = Callable[[str, str], None]
"""(what, how much)"""
