"""How a server of a test behaves at the moment."""

import threading


class Mood:
    """As it should, refusing, or hanging. Servers call `before_answer` first."""

    def __init__(self) -> None:
        self.refusal: object = None
        """what it refuses calls with"""
        self._may_answer = threading.Event()
        self._may_answer.set()
        self.reached = threading.Semaphore(0)
        """released by each call"""

    def hang(self) -> None:
        """Answer no call until `release`."""
        self._may_answer.clear()

    def release(self) -> None:
        """Answer, also the calls that wait."""
        self._may_answer.set()

    def before_answer(self) -> None:
        """On the server's thread, for each call."""
        self.reached.release()
        self._may_answer.wait(60)
