"""The same command makes the same action; what differs in meaning differs in digest."""

from dataclasses import replace
from datetime import timedelta

import pytest
from buildgrid_client.digests import digest_key
from buildgrid_client.remote_command import CommandResult, RemoteCommand, prepare_action
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Digest,
)

COMMAND = RemoteCommand(
    ["cc", "-c", "a.c"],
    environment={"PATH": "/bin", "LANG": "C"},
    inputs={"a.c": b"int x;"},
    output_paths=["b.o", "a.o"],
    platform=[("Pool", "b"), ("OSFamily", "linux"), ("Pool", "a")],
)


def messages(command: RemoteCommand) -> tuple[Action, Command]:
    prepared = prepare_action(command)
    action = Action.FromString(prepared.messages[digest_key(prepared.digest)])
    return action, Command.FromString(prepared.messages[digest_key(action.command_digest)])


def test_sets_are_sorted_and_sequences_kept() -> None:
    action, command = messages(COMMAND)
    assert list(command.arguments) == ["cc", "-c", "a.c"]
    assert list(command.output_paths) == ["a.o", "b.o"]
    assert [variable.name for variable in command.environment_variables] == ["LANG", "PATH"]
    pairs = [("OSFamily", "linux"), ("Pool", "a"), ("Pool", "b")]
    assert [(pair.name, pair.value) for pair in action.platform.properties] == pairs
    assert command.platform == action.platform
    assert action.input_root_digest == prepare_action(COMMAND).tree.root_digest


def test_order_without_meaning_does_not_change_the_action() -> None:
    other = replace(
        COMMAND,
        environment={"LANG": "C", "PATH": "/bin"},
        output_paths=["./a.o", "b.o", "a.o"],
        platform=reversed([("Pool", "b"), ("OSFamily", "linux"), ("Pool", "a")]),
        mnemonic="Compile",
        target="a.c",
    )
    assert prepare_action(other).digest == prepare_action(COMMAND).digest


@pytest.mark.parametrize(
    "changed",
    [
        replace(COMMAND, arguments=["cc", "a.c", "-c"]),
        replace(COMMAND, inputs={"a.c": b"int y;"}),
        replace(COMMAND, timeout=timedelta(seconds=5)),
        replace(COMMAND, do_not_cache=True),
        replace(COMMAND, salt=b"1"),
        replace(COMMAND, working_directory="sub"),
    ],
)
def test_what_differs_in_meaning_differs_in_digest(changed: RemoteCommand) -> None:
    assert prepare_action(changed).digest != prepare_action(COMMAND).digest


def test_a_timeout_is_kept_to_the_millisecond() -> None:
    action, _ = messages(replace(COMMAND, timeout=timedelta(milliseconds=1500)))
    assert action.timeout.ToTimedelta() == timedelta(milliseconds=1500)


def test_a_command_without_a_program_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one argument"):
        prepare_action(RemoteCommand([]))


def test_times_that_were_not_reported_or_run_backwards_are_zero() -> None:
    result = ActionResult()
    command_result = CommandResult(Digest(), 0, b"", b"", False, result)
    assert command_result.queued == command_result.executed == timedelta()
    result.execution_metadata.queued_timestamp.FromSeconds(100)
    result.execution_metadata.worker_start_timestamp.FromSeconds(90)
    result.execution_metadata.execution_start_timestamp.FromSeconds(100)
    result.execution_metadata.execution_completed_timestamp.FromSeconds(103)
    assert command_result.queued == timedelta()
    assert command_result.executed == timedelta(seconds=3)


def test_an_output_that_was_not_made_is_named_beside_those_that_were() -> None:
    result = ActionResult()
    result.output_files.add(path="a.o")
    with pytest.raises(KeyError, match=r"'b.o' is not among the output files: a.o"):
        CommandResult(Digest(), 0, b"", b"", False, result).output_file("b.o")
