"""Where a broken stream goes on, what is read of a file that others write, and what the log is told."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_bot.log_streams import SAY_EVERY, Complaints, LogStreams
from buildgrid_bot.stream_names import StreamNames
from buildgrid_bot.stream_writer import CHUNK_BYTES, NotStreamed, OutputFile, Place, place_after
from buildgrid_client.channel import open_channel
from buildgrid_protos.google.bytestream.bytestream_pb2 import QueryWriteStatusResponse

from tests.farm.ports import ReservedPort


def status(committed: int, *, complete: bool = False) -> QueryWriteStatusResponse:
    return QueryWriteStatusResponse(committed_size=committed, complete=complete)


@pytest.mark.parametrize("committed", [0, 3, 10])
def test_a_stream_goes_on_behind_what_is_committed(committed: int) -> None:
    assert place_after(status(committed), 10, finish_sent=False) == Place(committed)
    assert place_after(status(committed), 10, finish_sent=True) == Place(committed)


def test_a_stream_whose_end_arrived_needs_nothing_more() -> None:
    assert place_after(status(10, complete=True), 10, finish_sent=True).finished


@pytest.mark.parametrize(
    ("told", "finish_sent"),
    [
        (status(10, complete=True), False),
        (status(9, complete=True), True),
        (status(11), False),
        (status(11, complete=True), True),
    ],
)
def test_a_stream_that_somebody_else_wrote_or_finished_is_left_alone(
    told: QueryWriteStatusResponse, finish_sent: bool
) -> None:
    with pytest.raises(NotStreamed):
        place_after(told, 10, finish_sent=finish_sent)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[OutputFile]:
    output = OutputFile(tmp_path / "out")
    yield output
    output.close()


def test_a_file_is_read_from_any_offset_as_it_grows_and_after_it_is_removed(
    output: OutputFile, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    assert not output.more_than(0)
    with path.open("wb") as writer:
        writer.write(b"x" * CHUNK_BYTES + b"rest")
    path.unlink()
    assert output.more_than(CHUNK_BYTES)
    assert (output.read(1), output.read(0)) == (b"x" * (CHUNK_BYTES - 1) + b"r", b"x" * CHUNK_BYTES)
    assert output.read(CHUNK_BYTES + 2) == b"st"


def test_a_file_that_its_command_cut_short_has_nothing_more(output: OutputFile, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"0123456789")
    (tmp_path / "out").write_bytes(b"0123")
    assert not output.more_than(8)
    assert output.read(8) == b""


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        OutputFile(tmp_path / "out")


def test_complaints_are_counted_and_said_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    complaints = Complaints(lambda: now)
    for number in range(4):
        complaints.say(f"stream {number}", "down")
    now = SAY_EVERY
    complaints.say("the last", "still down")
    complaints.say("one more", "still down")
    assert [record.getMessage() for record in caplog.records] == [
        "stream 0 was not streamed to its end: down",
        "the last was not streamed to its end: still down (3 other streams since the last such line)",
    ]


async def test_streams_that_wait_for_a_dead_service_do_not_pile_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = Path("/proc/self/fd")
    with ReservedPort() as port, caplog.at_level(logging.WARNING):
        channel = open_channel(f"grpc://{port.address}")
        streams = LogStreams(channel, most_lingering=5)
        before = len(list(files.iterdir()))
        for number in range(50):
            out = tmp_path / str(number)
            followed = streams.follow(f"job-{number}", StreamNames("name", ""), out, out)
            followed.begin()
            followed.end()
            followed.end()
            await asyncio.sleep(0)
        while len(list(files.iterdir())) > before + 10:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
        assert "job-0 was not streamed to its end: more than 5 streams wait" in caplog.text
        await streams.close(0.0)
        await channel.close()
    assert not [task for task in asyncio.all_tasks() if "stream" in task.get_name()]
