"""One line that changes in place; on anything but a terminal nothing but the ends of steps."""

import asyncio
import sys
import time


class Step:
    """A step of the demo, as a context: what it does, how far it is, and how long it took."""

    def __init__(self, name: str, total: int = 0) -> None:
        self._name = name
        self._total = total
        self._start = time.monotonic()
        self._live = sys.stdout.isatty()

    def __enter__(self) -> "Step":
        if self._live:
            self._draw("...")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            return
        self.done("stopped" if issubclass(kind, KeyboardInterrupt | asyncio.CancelledError) else "failed")

    def update(self, count: int, what: str) -> None:
        """Show that `count` of the total are done, and what the last one was."""
        if self._live:
            self._draw(f"{count}/{self._total}  {what}")

    def done(self, outcome: str, *more: str) -> None:
        """End the step with what came of it, in one line or several."""
        line = f"{self._name:<14}{outcome}  ({time.monotonic() - self._start:.1f} s)"
        print(
            f"\r\033[K{line}" if self._live else line,
            *(f"{'':14}{text}" for text in more),
            sep="\n",
            flush=True,
        )

    def _draw(self, text: str) -> None:
        print(f"\r\033[K{self._name:<14}{text}"[:100], end="", flush=True)
