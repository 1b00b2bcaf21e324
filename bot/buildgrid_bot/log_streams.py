"""What commands print, for those who watch while they run (Remote Log Stream API).

None of this can hold an action up or fail it. A stream that cannot be written is given up, and the log says
so; the result of the action holds the whole output in any case.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import grpc

from buildgrid_bot.stream_names import StreamNames
from buildgrid_bot.stream_writer import NotStreamed, OutputFile, StreamWriter

_log = logging.getLogger(__name__)

# After its command, in seconds: a stream has so long for what is not written yet. Then it is finished as it
# is, for which it has so much more.
LINGER = 30.0
LAST_WORD = 5.0
# Streams whose commands are gone, at most. Each keeps a file open, which may be removed and still take disk.
MOST_LINGERING = 128
# In seconds, between two lines of the log on this: a service that is down concerns each action.
SAY_EVERY = 30.0


class Complaints:
    """Says why streams were not written: one line in SAY_EVERY seconds, which counts those kept back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said = float("-inf")
        self._kept_back = 0

    def say(self, what: str, reason: str) -> None:
        """`what` was not written whole."""
        now = self._clock()
        if now - self._said < SAY_EVERY:
            self._kept_back += 1
            return
        more = f" ({self._kept_back} other streams since the last such line)" if self._kept_back else ""
        self._said, self._kept_back = now, 0
        _log.warning("%s was not streamed to its end: %s%s", what, reason, more)


class FollowedOutput:
    """The output of one action. Made by `LogStreams.follow`."""

    def __init__(
        self, streams: "LogStreams", lease_id: str, names: StreamNames, stdout: Path, stderr: Path
    ) -> None:
        self._streams = streams
        self._outputs = [
            (f"{what} of lease {lease_id}", name, path)
            for what, name, path in (
                ("standard output", names.stdout, stdout),
                ("standard error", names.stderr, stderr),
            )
            if name
        ]
        self._begun: list[_Stream] = []
        self._over = False

    def begin(self) -> None:
        """Follow the files from their beginning. Before the command starts, which may do anything to them.

        Not in a thread, unlike other work on files: a cancellation would lose the open ones.
        """
        outputs, self._outputs = self._outputs, []
        for what, name, path in outputs:
            try:
                output = OutputFile(path)
            except OSError as error:
                self._streams.complaints.say(what, str(error))
                output = None
            self._begun.append(self._streams.open(what, name, output))

    def end(self) -> None:
        """The command is gone, or will never start. Streams are finished either way: somebody may read them.

        May be called more than once.
        """
        if self._over:
            return
        self._over = True
        self._begun += [self._streams.open(what, name, None) for what, name, _ in self._outputs]
        for stream in self._begun:
            stream.end()


class LogStreams:
    """All streams of a bot, over one channel, which stays its owner's. For one event loop."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        linger: float = LINGER,
        last_word: float = LAST_WORD,
        most_lingering: int = MOST_LINGERING,
    ) -> None:
        self.complaints = Complaints()
        self.linger = linger
        self.last_word = last_word
        self._channel = channel
        self._most_lingering = most_lingering
        self._open: set[_Stream] = set()
        # In the order in which their commands ended.
        self._lingering: dict[_Stream, None] = {}

    def follow(self, lease_id: str, names: StreamNames, stdout: Path, stderr: Path) -> FollowedOutput:
        """For an action whose command will write these files. Nothing happens before `begin` or `end`."""
        return FollowedOutput(self, lease_id, names, stdout, stderr)

    async def close(self, within: float) -> None:
        """Lets go of all streams, those of ended commands once they are written, or after so many seconds."""
        if lingering := [stream.task for stream in self._lingering]:
            await asyncio.wait(lingering, timeout=within)
        streams = list(self._open)
        for stream in streams:
            stream.drop("the bot ends")
        if streams:
            await asyncio.wait([stream.task for stream in streams])

    def open(self, what: str, name: str, output: OutputFile | None) -> "_Stream":
        """`what` is for the log. The output is closed with the stream."""
        stream = _Stream(self, what, StreamWriter(self._channel, name, output), output)
        self._open.add(stream)
        return stream

    def ended(self, stream: "_Stream") -> None:
        """A command is gone; its stream is not finished yet."""
        self._lingering[stream] = None
        if len(self._lingering) > self._most_lingering:
            oldest = next(iter(self._lingering))
            del self._lingering[oldest]
            oldest.drop(f"more than {self._most_lingering} streams wait for the service")

    def gone(self, stream: "_Stream") -> None:
        """A stream is finished or given up."""
        self._open.discard(stream)
        self._lingering.pop(stream, None)

    def connection(self) -> str:
        """The state of the channel, for the log."""
        return self._channel.get_state().name


class _Stream:
    """A StreamWriter at work, and how long it may be."""

    def __init__(
        self, streams: LogStreams, what: str, writer: StreamWriter, output: OutputFile | None
    ) -> None:
        self._streams = streams
        self._what = what
        self._writer = writer
        self._output = output
        self._timers: list[asyncio.TimerHandle] = []
        self._dropped = ""
        self.task = asyncio.create_task(self._run(), name=f"stream {what}")
        self.task.add_done_callback(self._gone)

    def end(self) -> None:
        """The command is gone."""
        if self.task.done():
            return
        self._writer.end()
        loop = asyncio.get_running_loop()
        linger, last_word = self._streams.linger, self._streams.last_word
        too_late = f"the service did not take it within {linger:g} s"
        self._timers = [
            loop.call_later(linger, self._writer.cut),
            loop.call_later(linger + last_word, self.drop, too_late),
        ]
        self._streams.ended(self)

    def drop(self, reason: str) -> None:
        """Give the stream up."""
        self._dropped = self._dropped or f"{reason} (connection: {self._streams.connection()})"
        self.task.cancel()

    async def _run(self) -> None:
        try:
            await self._writer.run()
        except NotStreamed as error:
            self._streams.complaints.say(self._what, str(error))
        except Exception:  # noqa: BLE001 - whatever it is, neither action nor bot may suffer from it
            _log.exception("%s was not streamed to its end", self._what)

    def _gone(self, task: asyncio.Task[None]) -> None:
        # Here and not in the task: one that is cancelled before it began never runs.
        if task.cancelled():
            self._streams.complaints.say(self._what, self._dropped or "cancelled")
        for timer in self._timers:
            timer.cancel()
        if self._output is not None:
            with suppress(OSError):
                self._output.close()
        self._streams.gone(self)
