"""The dispatcher: claims what waits, up to the free slots, for all queues in one thread."""

from collections.abc import Mapping, Sequence

from .. import clock
from ..conf import conf
from ..hub import WORK, hub, interruption_of, outcome_of
from ..queues import declared_queues
from ..registry import class_registry, workflow_registry
from ..sysdb import executors, outcomes, queues, vendor, versions, watching
from ..sysdb.queues import Claimant
from ..sysdb.steps import History, load_history
from ..sysdb.workflows import Burst, Claimed
from ..versions import application_version
from .due import TOLD, DueWork
from .pool import Pool
from .service import Service

#: Where workflows wait that were started, not enqueued; every worker serves it.
_STARTED = ""


class Dispatcher(Service):
    """Claims workflows and hands them to the pool; looks for outcomes that somebody here waits for."""

    name = "dispatcher"
    channels = (WORK,)

    def __init__(self, *, executor_id: str, pool: Pool, only_queues: Sequence[str] | None) -> None:
        super().__init__()
        self._executor_id = executor_id
        self._pool = pool
        self._only_queues = only_queues
        self._limits: dict[str, dict[str, int]] = {}
        self._declared = declared_queues()
        self._limits_until = 0.0
        self._patience = 0.0
        self._watch_at = 0.0
        self._alert_until = 0.0
        self._due = DueWork()

    def tick(self) -> float:
        """See Service.tick()."""
        self._watch()
        self._tick_due()
        claimed: list[Claimed] = []
        taken, is_sated = self._pool.slots.begin_claim(), False
        try:
            if taken:
                is_sated = self._claim(taken, claimed)
        except BaseException:
            # The claim may have been committed although its rows never reached us.
            executors.suspects.add(self._executor_id)
            raise
        finally:
            self._pool.slots.end_claim(taken - len(claimed), is_sated=is_sated)
            self._hand_over(claimed)
        if any(row.has_deadline for row in claimed):
            self._due.expect()
        return min(self._until_next_look(bool(claimed)), self._due.seconds())

    def _tick_due(self) -> None:
        if self.was_woken:
            self._due.expect()
        self._due.tick()

    def _until_next_look(self, has_claimed: bool) -> float:
        """After a wake-up there may be more of the same burst, which woke nobody: look again when it is over."""
        if self.was_woken or has_claimed:
            self._alert_until = clock.monotonic() + 2 * Burst.LENGTH
        if clock.monotonic() < self._alert_until:
            return Burst.LENGTH
        # Nobody tells of what has waited long enough for the workers of another version.
        is_told = hub.is_hearing and not self._patience
        return clock.jittered(conf.POLL_INTERVAL * (TOLD if is_told else 1))

    def queue_names(self) -> list[str]:
        """The queues that this process serves."""
        if self._only_queues is not None:
            return [_STARTED, *self._only_queues]
        return [_STARTED, *sorted({*self._declared, *self._limits})]

    def _claim(self, free: int, claimed: list[Claimed]) -> bool:
        """Claim up to ``free`` workflows into ``claimed``, which holds what is ours also if a later statement fails.

        Whether nothing is left that only waits for a slot, or for the end of another workflow of its queue, here.
        """
        self._refresh_limits()
        claimant = Claimant(
            executor_id=self._executor_id,
            names=workflow_registry.claimable_names(),
            receivers=class_registry.receivers(),
            application_version=application_version(),
            patience=self._patience,
        )
        quotas = {name: self._quota(name, free) for name in self.queue_names()}
        shared = {name: self._limits[name]["global_concurrency"] for name in quotas if self._is_shared(name)}
        claimed += queues.claim(claimant, {name: n for name, n in quotas.items() if name not in shared}, free)
        waiting = queues.with_waiting_work([name for name in shared if quotas[name] > 0])
        for name in waiting:
            room = min(free - len(claimed), quotas[name])
            if room > 0:
                claimed += queues.claim_limited(claimant, name, global_concurrency=shared[name], quota=room)
        return not waiting and len(claimed) < free and all(quota == free for quota in quotas.values())

    def _refresh_limits(self) -> None:
        self._declare_new_queues()
        if clock.monotonic() >= self._limits_until:
            self._limits = queues.limits()
            version = application_version()
            self._patience = conf.HEARTBEAT_TIMEOUT if version and versions.is_outdated(version) else 0.0
            self._limits_until = clock.monotonic() + conf.HEARTBEAT_INTERVAL

    def _declare_new_queues(self) -> None:
        """Write down the limits of queues that the code has declared since the last look."""
        declared = declared_queues()
        new = {name: queue.limits for name, queue in declared.items() if self._declared.get(name) is not queue}
        if new:
            queues.declare(new)
            self._limits_until = 0.0
        self._declared = declared  # what is declared from now on is claimed from once its limits are known

    def _quota(self, name: str, free: int) -> int:
        """How many workflows of a queue this process may take now."""
        limits = self._limits.get(name, {})
        if limits.get("paused"):
            return 0
        mine = limits.get("worker_concurrency")
        return free if mine is None else min(free, mine - self._pool.running_in(name))

    def _is_shared(self, name: str) -> bool:
        return "global_concurrency" in self._limits.get(name, {})

    def _hand_over(self, claimed: list[Claimed]) -> None:
        try:
            histories = self._load_histories(claimed)
        except BaseException:
            executors.suspects.add(self._executor_id)
            self._pool.slots.untake(len(claimed))
            raise
        for row in claimed:
            self._pool.submit(row, histories.get(row.id, {}))

    def _load_histories(self, claimed: list[Claimed]) -> Mapping[str, History]:
        """What is recorded for those that ran before, in one query; none if there are none."""
        again = [row.id for row in claimed if row.may_have_steps]
        return vendor.patiently(lambda: load_history(again), pause=self.pause) if again else {}

    def _watch(self) -> None:
        """Wake those in this process who wait for what has happened elsewhere, in one look of each kind for all."""
        if clock.monotonic() < self._watch_at:
            return
        self._watch_at = clock.monotonic() + conf.POLL_INTERVAL * (TOLD if hub.is_hearing else 1)
        awaited = hub.awaited()
        for workflow_id in outcomes.finished_among(awaited) if awaited else ():
            hub.wake(outcome_of(workflow_id))
            hub.wake(interruption_of(workflow_id))  # a cancelled one may itself be waiting here
        for watch in watching.news_among(hub.watched()):
            hub.wake(watch.channel)
