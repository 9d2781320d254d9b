"""Versions as rows."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from django_dbos.exceptions import UnknownVersion
from django_dbos.models import ApplicationVersion, Executor, Workflow
from django_dbos.states import ExecutorState, WorkflowStatus
from django_dbos.sysdb import queues, versions
from tests.sysdb import rows
from tests.sysdb.rows import NAME, committed, postgresql, rolled_back, together, workflow


def worker(version: str, executor_id: str = "", **columns: Any) -> None:
    """A worker of a version, by default one that lives."""
    row = rows.executor(executor_id or f"worker-{version}", **columns)
    Executor.objects.filter(pk=row.pk).update(application_version=version, queues=["", "q"])


def listed() -> list[str]:
    return [version.name for version in versions.listed()]


@rolled_back
def test_a_new_version_is_the_latest_and_one_that_was_known_is_not() -> None:
    assert [versions.register(name) for name in ("1", "2", "1")] == [True, True, False]
    assert listed() == ["2", "1"]
    latest = versions.latest()
    assert latest is not None
    assert latest.name == "2"


@rolled_back
def test_the_one_that_was_made_latest_last_comes_first_whatever_the_clock_says() -> None:
    for name in "abcdef":
        versions.register(name)
    for name in "cae":
        versions.make_latest(name)
    assert listed() == ["e", "a", "c", "f", "d", "b"]


@rolled_back
def test_a_version_that_nobody_had_cannot_be_made_latest() -> None:
    with pytest.raises(UnknownVersion, match="'9'"):
        versions.make_latest("9")
    assert versions.latest() is None


@committed
@postgresql
def test_two_workers_that_bring_a_new_version_write_one_row() -> None:
    together(*[lambda: versions.register("new")] * 8)
    assert ApplicationVersion.objects.count() == 1


@rolled_back
def test_waiting_workflows_of_versions_without_a_live_worker_are_found() -> None:
    for number, (version, status) in enumerate(
        [
            ("gone", WorkflowStatus.ENQUEUED),
            ("gone", WorkflowStatus.DELAYED),
            ("gone", WorkflowStatus.SUCCESS),
            ("silent", WorkflowStatus.ENQUEUED),
            ("leaving", WorkflowStatus.ENQUEUED),
            ("web", WorkflowStatus.ENQUEUED),
            ("served", WorkflowStatus.ENQUEUED),
            ("", WorkflowStatus.ENQUEUED),
        ]
    ):
        workflow(f"w{number}", status, application_version=version)
    worker("silent", silent_for=3600)
    worker("leaving", state=ExecutorState.DRAINING)
    worker("web")
    Executor.objects.filter(application_version="web").update(queues=[])
    assert versions.unserved() == {"": 1, "gone": 2, "silent": 1, "leaving": 1, "web": 1, "served": 1}
    worker("served")
    assert versions.unserved() == {"gone": 2, "silent": 1, "leaving": 1, "web": 1}


@rolled_back
def test_a_version_is_outdated_while_a_worker_of_the_latest_lives() -> None:
    versions.register("1")
    assert not versions.is_outdated("1")
    versions.register("2")
    assert not versions.is_outdated("1")
    worker("2", silent_for=3600)
    assert not versions.is_outdated("1")
    worker("2", "another")
    assert versions.is_outdated("1")
    assert not versions.is_outdated("2")
    versions.make_latest("1")
    assert not versions.is_outdated("1")


def claimant(version: str, patience: float = 0.0) -> queues.Claimant:
    return queues.Claimant(executor_id="me", names=[NAME], application_version=version, patience=patience)


@rolled_back
def test_a_claim_gives_its_version_to_what_has_none() -> None:
    for version in ("", "1", "2"):
        workflow(f"w{version}", queue_name="q", application_version=version)
    claimed = queues.claim(claimant("1"), {"q": 9}, 9)
    assert {row.id for row in claimed} == {"w", "w1"}
    assert {Workflow.objects.get(pk=row.id).application_version for row in claimed} == {"1"}


@rolled_back
def test_a_worker_without_a_version_takes_what_has_none_and_leaves_it_so() -> None:
    workflow("w", queue_name="q")
    workflow("w1", queue_name="q", application_version="1")
    assert [row.id for row in queues.claim(claimant(""), {"q": 9}, 9)] == ["w"]
    assert Workflow.objects.get(pk="w").application_version == ""


@rolled_back
def test_an_outdated_worker_leaves_what_has_no_version_to_the_latest_for_a_while() -> None:
    ago = Now() - timedelta(seconds=30)
    for version in ("", "1"):
        workflow(f"old{version}", queue_name="q", application_version=version, created_at=ago)
        workflow(f"new{version}", queue_name="q", application_version=version)
    claimed = queues.claim(claimant("1", patience=10), {"q": 9}, 9)
    assert {row.id for row in claimed} == {"old", "old1", "new1"}
    assert [row.id for row in queues.claim(claimant("2"), {"q": 9}, 9)] == ["new"]
