"""The driver's side of requests: adds operating points to its sweep, cancels or prioritises some.

storage --Inbox--> Steering, in a thread --> plan, schedule, runner, monitor; trials
                                         --> an answer in the storage
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from orchestrator.execution import cluster
from orchestrator.execution.environment import line_of
from orchestrator.execution.job_steps import Settings
from orchestrator.execution.node_check import nodes_with_other_files
from orchestrator.execution.trials.added_jobs import publish
from orchestrator.execution.trials.runner import Runner
from orchestrator.monitoring.monitor import Monitor
from orchestrator.monitoring.status_text import shortened
from orchestrator.plan.job_events import JobEvent, JobListener
from orchestrator.plan.jobs import Job, Plan
from orchestrator.plan.resources import kinds_by_ask
from orchestrator.scheduling.schedule import ScheduleClosedError
from orchestrator.steering.chosen_points import chosen_keys
from orchestrator.steering.larger_space import (
    NotLargerError,
    check_larger,
    keys_of,
    read_space,
    whole_plan,
)
from orchestrator.steering.words import AGAIN, in_turn, number_of, typed_anew
from orchestrator.storage.outage import patiently
from orchestrator.storage.process import Process
from orchestrator.storage.references import record_references, wait_for_deletion
from orchestrator.storage.store import Store
from orchestrator.storage.sweep_requests import Answer, Content, Inbox, SweepRequest
from search_spaces.settings.secrets import without_secrets

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SteeredSweep:
    """The parts of a running sweep that requests change.

    Attributes:
        name: of the sweep.
        open_pool: called with the settings of the larger sweep, before jobs are added.
        options: of its command that a command which adds points must share, by name.
        listener: is told of jobs that are cancelled, or can never run.
        on_growth: called when the plan has grown, before a job that was added starts.
        on_complete: called with the key of each added point that the storage holds already.
    """

    name: str
    store: Store
    plan: Plan
    runner: Runner
    open_pool: Callable[[Settings], None]
    monitor: Monitor
    options: Mapping[str, str]
    listener: JobListener
    on_growth: Callable[[], None]
    on_complete: Callable[[str], None]


class Steering:
    """Carries out the requests to this driver.

    Args:
        inbox: of the driver.
        sweep: that it runs.
    """

    def __init__(self, inbox: Inbox, sweep: SteeredSweep) -> None:
        self._inbox, self._sweep = inbox, sweep
        self._plan, self._schedule = sweep.plan, sweep.runner.schedule
        self._answers: dict[str, Answer] = {}
        """Id of a request -> answer, until it is written."""
        self._kept = inbox.read_added()
        added = [] if self._kept is None else self._kept["added"]
        self._added = set(keys_of(self._plan, added))
        """Keys of points that were added, to this driver's command too, and are not cancelled."""
        self._of_command = self._plan.wanted.keys() - self._added
        since = time.strftime("%Y-%m-%d %H:%M")
        self._place = f"the sweep that runs on {Process.current().host} since {since}"

    def look(self) -> None:
        """Carry out and answer what is asked by now.

        A request that comes after the last job is not answered: whoever asked sees that the driver
        ends, and runs the sweep.
        """
        for request in self._inbox.pending():
            if request.id not in self._answers:
                try:
                    self._answers[request.id] = self._carry_out(request)
                except ScheduleClosedError:
                    return
            if self._answers[request.id].is_accepted:
                # Whoever reads the answer may look there next, also if this driver dies now.
                self._sweep.monitor.write_status()
            # The storage may be away; then the next look writes it.
            self._inbox.answer(request, self._answers[request.id])
            del self._answers[request.id]

    def _carry_out(self, request: SweepRequest) -> Answer:
        kinds = {"add": self._add, "cancel": self._cancel, "prioritise": self._prioritise}
        try:
            return Answer(True, tuple(kinds[request.kind](request.content)))
        except ScheduleClosedError:
            raise
        except ValueError as error:
            return Answer(False, tuple(str(error).splitlines()))
        except Exception as error:  # who asked must not wait for ever
            if self._schedule.over:  # Ray may be gone by now
                raise ScheduleClosedError from error
            log.warning("the request %s was not carried out", request.id, exc_info=True)
            return Answer(False, (f"the driver could not do it: {line_of(error)}",))

    def _add(self, content: Content) -> list[str]:
        sweep, theirs = self._sweep, without_secrets(str(content["command"]))
        try:
            theirs = typed_anew(theirs)
        except ValueError as error:
            raise NotLargerError(str(error)) from None
        for option, value in sweep.options.items():
            if content["options"].get(option) != value:
                raise NotLargerError(f"{option}: the sweep that runs has {value or 'none'}")
        space = read_space(content["space"], self._plan.space)
        whole = whole_plan(space, sweep.store)
        check_larger(self._plan, whole)
        before, chosen = self._plan.wanted.keys(), keys_of(whole, content["points"])
        points = [whole.wanted[key] for key in whole.wanted if key in before | chosen]
        added = chosen - before
        if not added and not chosen & self._schedule.cancelled:
            return [f"all operating points of this space are in {self._place}", *self._over(chosen)]
        stages = [stage.path for job in whole.jobs.values() for stage in job.stages]
        record_references(sweep.store, sweep.name, stages, searches=False)
        wait_for_deletion(sweep.store)
        larger = Plan(space, points, whole.fingerprints, sweep.store)
        # A selection may leave out points of the sweep; then its command does not continue all.
        command = theirs if before <= chosen else in_turn([sweep.monitor.command, theirs])
        self._check_cluster(larger)
        jobs, reopened = self._grow(larger, chosen, command)
        self._added |= chosen - self._of_command
        fields = [point.fields for point in points]
        not_kept = self._keep({**content, "points": fields, "command": command})
        for key in added:
            if self._plan.is_complete(self._plan.wanted[key]):
                sweep.on_complete(key)
        lines = []
        if added:
            lines.append(f"added {number_of(len(added))} to {self._place}")
            sweep.monitor.note(f"{lines[0]}: {len(jobs)} jobs more, by {theirs}")
        if again := reopened & self._plan.wanted.keys():
            lines.append(f"cancelled before, and to be done again: {self._labels(again)}")
            sweep.monitor.note(lines[-1])
        return [*lines, *self._over(chosen), *not_kept]

    def _over(self, keys: frozenset[str]) -> list[str]:
        """Which of some points have failed, or are just being ended; a line each."""
        lines = []
        if failed := keys & self._schedule.failed.keys():
            lines.append(f"failed, and done again by the next run: {self._labels(failed)}")
        if ending := keys & self._schedule.ending:
            lines.append(f"cancelled, and just being ended: {self._labels(ending)}")
        return lines

    def _keep(self, content: Content | None) -> list[str]:
        """Keep the points that were added, and are not cancelled, for the driver that follows.

        Args:
            content: of the latest `add`, with all points that its command continues; None if there
                is none.

        Returns:
            A line if the storage does not take it.
        """
        self._kept = content
        fields = [self._plan.wanted[key].fields for key in self._added]
        try:
            if content is not None and fields:
                patiently(lambda: self._inbox.keep_added({**content, "added": fields}))
            else:
                patiently(self._inbox.forget_added)
        except Exception as error:  # this driver knows; only a successor would not
            log.warning("the added points are not kept", exc_info=True)
            return [
                f"the storage does not keep this ({line_of(error)}): if this driver dies, a driver "
                "that follows does not know of it, and is to be asked again"
            ]
        return []

    def _check_cluster(self, larger: Plan) -> None:
        """Make sure that the cluster has room and files for the jobs of a larger space.

        Raises:
            NotLargerError: it has not; a line per mistake.
        """
        jobs = self._plan.jobs_added_by(larger)
        problems = cluster.shortages(kinds_by_ask(larger.space, jobs.values()))
        names_other_files = larger.fingerprints.items() - self._plan.fingerprints.items()
        if not problems and names_other_files and len(cluster.node_ids()) > 1:
            problems = nodes_with_other_files(larger.space, self._sweep.store, larger.fingerprints)
        if problems:
            raise NotLargerError("\n".join(problems))

    def _grow(
        self, larger: Plan, chosen: frozenset[str], command: str
    ) -> tuple[dict[str, Job], frozenset[str]]:
        """Hand the jobs of a larger space out to all who know the jobs.

        Args:
            chosen: keys of points that are to be done also where they were cancelled.

        Returns:
            The new jobs, and keys of jobs that were cancelled and are to be done again.

        Raises:
            NotLargerError: a point is to be measured that is just being trained for others.
            ScheduleClosedError: every job was over.
        """
        plan, schedule, runner = self._plan, self._schedule, self._sweep.runner
        jobs = plan.jobs_added_by(larger)
        jobs = {key: job for key, job in jobs.items() if key not in schedule.failed}
        settings = replace(
            runner.settings, space=larger.space, jobs={**runner.settings.jobs, **jobs}
        )
        self._refuse_running(jobs)
        publish(settings, jobs)
        self._sweep.open_pool(settings)
        with schedule.open_for_changes():
            self._refuse_running(jobs)
            plan.grow(larger, jobs)
            self._sweep.on_growth()
            runner.grow(settings)
            again = {key: plan.jobs[key] for key in chosen & schedule.cancelled}
            came_of = schedule.add({**again, **jobs})
            self._sweep.monitor.grow(jobs, came_of.reopened, command)
        for job in came_of.lost:
            self._sweep.listener(JobEvent("failed", job.key, schedule.failed[job.key]))
        return jobs, came_of.reopened

    def _refuse_running(self, jobs: Mapping[str, Job]) -> None:
        running = [job.label for key, job in jobs.items() if key in self._schedule.running]
        if running:
            raise NotLargerError(
                f"just being trained for other points: {shortened(running, len(running))}; add "
                "these points again when that is done"
            )

    def _cancel(self, content: Content) -> list[str]:
        if self._plan.space.search is not None:
            raise ValueError("the search of this sweep needs its points: stop the sweep instead")
        wanted, keys = self._plan.wanted, chosen_keys(self._plan, content["points"])
        cancelled = self._schedule.cancel(keys, wanted.keys())
        for job in cancelled.dropped:
            self._sweep.listener(JobEvent("cancelled", job.key))
        dropped = {job.key for job in cancelled.dropped}
        ending = {job.key for job in cancelled.ending}
        concerned = keys & (dropped | ending)
        if not concerned:
            raise ValueError(f"over already: {self._labels(keys)}")
        lines = [
            f"cancelled {number_of(len(concerned))} of {self._place}: {self._labels(concerned)}"
        ]
        if ending:
            lines.append(f"ends now, and keeps its checkpoint: {self._labels(ending)}")
        if needing := (dropped - keys) & wanted.keys():
            lines.append(f"cancelled, too, as it needs one of these: {self._labels(needing)}")
        if over := keys - concerned:
            lines.append(f"over already: {self._labels(over)}")
        for line in lines:
            self._sweep.monitor.note(line)
        if gone := self._added & (dropped | ending):
            self._added -= gone
            lines += self._keep(self._kept)
        return [*lines, AGAIN]

    def _prioritise(self, content: Content) -> list[str]:
        keys = chosen_keys(self._plan, content["points"])
        waiting = keys & self._schedule.prioritise(keys)
        if not waiting:
            raise ValueError(f"started, over or cancelled already: {self._labels(keys)}")
        text = f"prioritised {number_of(len(waiting))} of {self._place}: {self._labels(waiting)}"
        self._sweep.monitor.note(text)
        return [text]

    def _labels(self, keys: Iterable[str]) -> str:
        labels = sorted(self._plan.wanted[key].label for key in keys)
        return shortened(labels, len(labels))
