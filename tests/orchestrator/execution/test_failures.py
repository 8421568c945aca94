"""Causes of failures are told apart by type; a lost machine costs no try."""

from __future__ import annotations

import pytest
import torch
from botocore.exceptions import EndpointConnectionError
from ray import cloudpickle
from ray.exceptions import (
    ActorDiedError,
    ActorUnavailableError,
    GetTimeoutError,
    NodeDiedError,
    OwnerDiedError,
    RayTaskError,
)
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    UserExceptionWithTraceback,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)

from orchestrator.execution import failures
from orchestrator.execution.failures import (
    MACHINE_LOSSES,
    Cause,
    GaveUpError,
    JobFailure,
    Tries,
    cause_of,
    original,
    reason_of,
)
from orchestrator.storage.lease import LeaseLostError

BEFORE = frozenset({"head", "node1"})


def in_task(error: Exception) -> Exception:
    """An error as Ray raises it where the result of a task is asked for."""
    raised = RayTaskError("f", "Traceback ...", error).as_instanceof_cause()
    assert isinstance(raised, Exception)
    return raised


def of_worker(error: Exception) -> Exception:
    """An error of rank 1 as Ray Train raises it; rank 0 lost its connection to it."""
    return WorkerGroupError("...", {0: lost_peer(), 1: error})


def lost_peer() -> Exception:
    """What a rank says whose partner is gone, and what it may say before Ray knows of that."""
    text = "[gloo/transport/tcp/pair.cc:545] Read error [10.0.0.2]:16294: Connection reset by peer"
    return UserExceptionWithTraceback(RuntimeError(text), "...")


def dead_actor() -> Exception:
    return WorkerHealthCheckFailedError("a worker is gone", ActorDiedError())


@pytest.mark.parametrize(
    ("error", "nodes", "cause"),
    [
        (ActorDiedError(), BEFORE, Cause.PROCESS_DIED),
        (ActorDiedError(), {"head"}, Cause.MACHINE_LOST),
        (ActorDiedError(), {"head", "node2"}, Cause.MACHINE_LOST),
        (ActorUnavailableError("no answer", None), {"head"}, Cause.MACHINE_LOST),
        (None, BEFORE, Cause.PROCESS_DIED),
        (None, {"head"}, Cause.MACHINE_LOST),
        (of_worker(dead_actor()), BEFORE, Cause.PROCESS_DIED),
        (of_worker(dead_actor()), {"head"}, Cause.MACHINE_LOST),
        (in_task(torch.OutOfMemoryError("CUDA")), BEFORE, Cause.OUT_OF_MEMORY),
        (MemoryError(), BEFORE, Cause.OUT_OF_MEMORY),
        (in_task(OSError("no space left")), BEFORE, Cause.UNREACHABLE),
        (in_task(ConnectionResetError("peer")), BEFORE, Cause.UNREACHABLE),
        (NodeDiedError("its node is dead"), BEFORE, Cause.MACHINE_LOST),
        (in_task(OwnerDiedError("00", None, "")), BEFORE, Cause.UNREACHABLE),
        (ControllerError(WorkerGroupStartupTimeoutError(2)), BEFORE, Cause.NO_ROOM),
        (ControllerError(WorkerGroupStartupFailedError("x")), BEFORE, Cause.PROCESS_DIED),
        (ControllerError(WorkerGroupStartupFailedError("x")), {"head"}, Cause.MACHINE_LOST),
        (in_task(EndpointConnectionError(endpoint_url="x")), BEFORE, Cause.UNREACHABLE),
        (LeaseLostError("x"), BEFORE, Cause.UNREACHABLE),
        (WorkerGroupError("...", {0: lost_peer()}), {"head"}, Cause.MACHINE_LOST),
        (WorkerGroupError("...", {0: lost_peer()}), BEFORE, Cause.PROCESS_DIED),
        (GetTimeoutError("no answer"), BEFORE, Cause.SILENT),
        (of_worker(WorkerHealthCheckTimeoutError("no answer")), BEFORE, Cause.SILENT),
        (of_worker(ValueError("a bug")), BEFORE, Cause.ERROR),
        (in_task(ValueError("a bug")), BEFORE, Cause.ERROR),
        (in_task(ValueError("a bug")), {"head"}, Cause.ERROR),
        (GaveUpError(JobFailure(Cause.OUT_OF_MEMORY, "x")), BEFORE, Cause.OUT_OF_MEMORY),
    ],
)
def test_the_cause_follows_from_the_type_and_the_machines_that_are_left(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, nodes: set[str], cause: Cause
) -> None:
    monkeypatch.setattr(failures, "NODE_DEATH_S", 0.0)
    monkeypatch.setattr(failures, "node_ids", lambda: frozenset(nodes))
    assert cause_of(error, BEFORE) is cause


def test_a_broken_connection_waits_for_what_ray_finds_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([BEFORE, BEFORE, frozenset({"head"})])
    monkeypatch.setattr(failures, "node_ids", lambda: next(answers))
    monkeypatch.setattr(failures.time, "sleep", lambda seconds: None)
    assert cause_of(ActorUnavailableError("no answer", None), BEFORE) is Cause.MACHINE_LOST
    monkeypatch.setattr(failures, "NODE_DEATH_S", 0.0)
    monkeypatch.setattr(failures, "node_ids", lambda: BEFORE)
    assert cause_of(ActorUnavailableError("no answer", None), BEFORE) is Cause.PROCESS_DIED


@pytest.mark.parametrize(("is_unreachable", "is_lost"), [(True, True), (False, False)])
def test_the_death_of_a_node_that_takes_no_connection_is_waited_for(
    is_unreachable: bool, is_lost: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What of a pass was lost with it is known long before Ray's health checks have failed."""
    answers = iter([BEFORE, BEFORE, frozenset({"head"})])
    monkeypatch.setattr(failures, "node_ids", lambda: next(answers))
    monkeypatch.setattr(failures, "is_one_unreachable", lambda nodes: is_unreachable)
    monkeypatch.setattr(failures.time, "sleep", lambda seconds: None)
    assert failures.is_one_lost(BEFORE) is is_lost


def test_an_actor_that_was_preempted_lost_its_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "node_ids", lambda: BEFORE)
    error = ActorDiedError()
    error._preempted = True
    assert cause_of(error, BEFORE) is Cause.MACHINE_LOST


@pytest.mark.parametrize(
    ("lost", "cause"), [("node2", Cause.PROCESS_DIED), ("node1", Cause.MACHINE_LOST)]
)
def test_only_the_loss_of_its_own_node_counts(
    monkeypatch: pytest.MonkeyPatch, lost: str, cause: Cause
) -> None:
    """An autoscaler takes idle nodes away; an actor that then dies would cost no try for ever."""
    before = BEFORE | {"node2"}
    error = ActorDiedError()
    error.actor_id = "a1"
    monkeypatch.setattr(failures, "node_of_actor", {"a1": "node1"}.get)
    monkeypatch.setattr(failures, "node_ids", lambda: before - {lost})
    assert cause_of(error, before) is cause


def test_the_reason_names_the_first_error_and_survives_other_processes() -> None:
    error = cloudpickle.loads(cloudpickle.dumps(in_task(ValueError("first\nlast line"))))
    assert reason_of(error, Cause.ERROR) == "ValueError: first last line"
    failure = JobFailure(Cause.ERROR, "KeyError: 'x'")
    given_up = cloudpickle.loads(cloudpickle.dumps(GaveUpError(failure)))
    assert isinstance(original(in_task(given_up)), GaveUpError)
    assert reason_of(in_task(given_up), Cause.ERROR) == "KeyError: 'x'"
    assert reason_of(ActorDiedError(), Cause.MACHINE_LOST) == Cause.MACHINE_LOST


def test_torch_without_host_memory_is_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert cause_of(caught.value, BEFORE) is Cause.OUT_OF_MEMORY


def test_waiting_for_room_costs_no_try_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = Tries(max_failures=0)
    assert all(tries.again(Cause.NO_ROOM) for _ in range(100))
    monkeypatch.setattr(failures, "ROOM_S", 0.0)
    assert not tries.again(Cause.NO_ROOM)
    assert not tries.again(Cause.SILENT), "silence costs a try"


def test_lost_machines_cost_no_try_and_errors_are_not_tried_again() -> None:
    tries = Tries(max_failures=1)
    assert all(tries.again(Cause.MACHINE_LOST) for _ in range(MACHINE_LOSSES))
    assert not tries.again(Cause.MACHINE_LOST)
    assert not tries.again(Cause.ERROR)
    assert tries.again(Cause.PROCESS_DIED)
    assert not tries.again(Cause.UNREACHABLE)


def test_what_ran_out_of_memory_is_tried_once_more() -> None:
    for tries in (Tries(max_failures=0), Tries(max_failures=5)):
        assert tries.again(Cause.OUT_OF_MEMORY)
        assert not tries.again(Cause.OUT_OF_MEMORY)


def test_a_gpu_that_fails_may_be_another_one_next_time() -> None:
    for text in ("CUDA error: uncorrectable ECC error encountered", "No CUDA GPUs are available"):
        assert failures.cause_of_type(RuntimeError(text)) is Cause.DEVICE
    assert failures.cause_of_type(RuntimeError("the loss is nan")) is Cause.ERROR
    tries = Tries(1)
    assert [tries.again(Cause.DEVICE) for _ in range(2)] == [True, False]


def test_a_wait_for_room_is_measured_from_its_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(failures.time, "monotonic", lambda: now)
    tries = Tries(1)
    now = 2 * failures.ROOM_S  # it trained
    assert tries.again(Cause.MACHINE_LOST)
    assert tries.again(Cause.NO_ROOM)
    now += failures.ROOM_S / 2
    assert tries.again(Cause.NO_ROOM)
    assert tries.again(Cause.MACHINE_LOST)
    now += failures.ROOM_S
    assert tries.again(Cause.NO_ROOM), "it found room in between"
    now += failures.ROOM_S
    assert not tries.again(Cause.NO_ROOM)
