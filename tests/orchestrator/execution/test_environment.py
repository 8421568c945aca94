"""Which failures every other job would meet, in words that are equal for all of them."""

from __future__ import annotations

import errno
import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from ray import cloudpickle
from ray.exceptions import RayTaskError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from safetensors import SafetensorError
from sqlalchemy.exc import OperationalError
from transformers import AutoConfig

from orchestrator.execution import failures
from orchestrator.execution.environment import FULL_DISK, environment_in
from orchestrator.execution.failures import Cause, GaveUpError, JobFailure, cause_of_type, original
from orchestrator.execution.silence import failure_of
from orchestrator.storage.lease import LeaseLostError
from orchestrator.storage.store import Store


def raised_by(work: Callable[[], object]) -> BaseException:
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def in_storage(number: int, code: int) -> OSError:
    return OSError(
        code, "it failed", f"/storage/tmp/{number:016x}.0123456789ab.{number}.7.{'a' * 8}"
    )


def test_a_full_disk_is_found_behind_other_errors() -> None:
    assert {environment_in(in_storage(n, errno.ENOSPC)) for n in range(3)} == {FULL_DISK}
    assert environment_in(in_storage(1, errno.EDQUOT)) == FULL_DISK
    copied = shutil.Error([("a", "b", str(in_storage(1, errno.ENOSPC)))])
    assert environment_in(copied) == FULL_DISK
    sqlite = OperationalError("INSERT", {}, Exception("database or disk is full"))
    assert environment_in(sqlite) == FULL_DISK
    weights = SafetensorError("I/O error: No space left on device (os error 28)")
    assert environment_in(weights) == FULL_DISK
    assert cause_of_type(weights) is Cause.UNREACHABLE
    wrapped = raised_by(lambda: raise_from(ValueError("no report"), in_storage(1, errno.ENOSPC)))
    assert environment_in(wrapped) == FULL_DISK


def raise_from(error: Exception, cause: Exception) -> None:
    raise error from cause


def test_files_models_tokens_and_packages_that_are_lacking_read_the_same_in_every_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    missing = str(tmp_path / "weights.pth")
    for work, named in (
        (lambda: Path(missing).read_bytes(), missing),
        (lambda: torch.load(missing, weights_only=True), missing),
        (lambda: importlib.import_module("compressai_of_somebody"), "compressai_of_somebody"),
        (lambda: AutoConfig.from_pretrained(str(tmp_path / "no" / "model")), "no/model"),
    ):
        lines = {environment_in(raised_by(work)) for _ in range(2)}
        (line,) = lines
        assert line is not None
        assert named in line
        assert "\n" not in line
    assert environment_in(OfflineModeIsEnabled("Cannot reach the hub: offline")) is not None
    refused = {environment_in(in_storage(n, errno.EACCES)) for n in range(3)}
    assert len(refused) == 1


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a bug"),
        RuntimeError("the loss is nan"),
        MemoryError(),
        ConnectionResetError("another rank"),
        LeaseLostError("x"),
    ],
)
def test_an_error_of_a_job_itself_is_none_of_them(error: Exception) -> None:
    assert environment_in(error) is None


def test_two_jobs_that_lack_files_of_their_work_differ() -> None:
    lines = {
        environment_in(FileNotFoundError(errno.ENOENT, "no file", f"work/{n}")) for n in (1, 2)
    }
    assert len(lines) == 2


def test_it_reaches_the_driver_from_a_worker_and_from_an_evaluator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "node_ids", frozenset)
    lost = FileNotFoundError(errno.ENOENT, "no file", "tic_1.pth.tar")
    line = environment_in(lost)
    failure = JobFailure(Cause.UNREACHABLE, str(line), line)
    in_trial = GaveUpError(failure)
    for error in (
        lost,
        UserExceptionWithTraceback(lost, "..."),
        RayTaskError("f", "Traceback ...", lost).as_instanceof_cause(),
        RayTaskError("f", "Traceback ...", in_trial).as_instanceof_cause(),
    ):
        copied = cloudpickle.loads(cloudpickle.dumps(error))
        found = failure_of(copied, frozenset(), Store(str(tmp_path)), "key", "key")
        assert found.environment == line, original(copied)
