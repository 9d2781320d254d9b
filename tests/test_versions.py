"""Versions: which code a workflow belongs to, and that a deploy strands nothing unseen."""

import logging
import textwrap
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Queue,
    Runtime,
    aget_latest_application_version,
    alist_application_versions,
    application_version,
    aset_latest_application_version,
    aunserved_versions,
    get_latest_application_version,
    list_application_versions,
    set_latest_application_version,
    start_workflow,
    step,
    unserved_versions,
    versions,
    workflow,
)
from django_dbos.exceptions import InvalidOption, UnknownVersion
from django_dbos.models import ApplicationVersion, Executor, Step, Workflow
from django_dbos.registry import workflow_registry
from django_dbos.states import WorkflowStatus
from tests.recorded import names
from tests.support import eventually, run_python
from tests.sysdb.rows import workflow as row

database = pytest.mark.django_db(transaction=True)
queue = Queue("versioned")


@pytest.fixture(autouse=True)
def nothing_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_fixed", [])


def deploy(settings: Any, version: Any) -> None:
    settings.DBOS = {**settings.DBOS, "APPLICATION_VERSION": version}


@step
def versioned_step() -> str:
    return "noted"


@workflow
def versioned_child() -> str:
    return versioned_step()


@workflow
def versioned() -> str:
    return start_workflow(versioned_child).get_result()


@database
def test_without_a_version_nothing_is_tied_to_one() -> None:
    with Runtime():
        assert start_workflow(versioned).get_result(timeout=10) == "noted"
    assert set(Workflow.objects.values_list("application_version", flat=True)) == {""}
    assert application_version() == ""
    assert list_application_versions() == []
    assert get_latest_application_version() is None


@database
def test_rows_carry_the_version_from_the_moment_they_are_made(settings: Any) -> None:
    deploy(settings, "7")
    assert application_version() == "7"
    waiting = queue.enqueue(versioned)
    assert waiting.get_status().application_version == "7"
    with Runtime() as runtime:
        assert waiting.get_result(timeout=10) == "noted"
        assert Executor.objects.get(pk=runtime.executor_id).application_version == "7"
    assert versioned_child() == "noted"
    assert set(Workflow.objects.values_list("application_version", flat=True)) == {"7"}


@database
def test_a_worker_registers_its_version_and_says_when_it_is_not_the_latest(
    settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for version in ("1", "2"):
        deploy(settings, version)
        with Runtime():
            pass
    assert [each.name for each in list_application_versions()] == ["2", "1"]
    assert not caplog.records
    deploy(settings, "1")
    with caplog.at_level(logging.WARNING), Runtime():
        pass
    assert "the latest is 2" in caplog.text
    latest = get_latest_application_version()
    assert latest is not None
    assert latest.name == "2"


@database
def test_what_no_live_worker_serves_is_found_until_one_does(settings: Any) -> None:
    deploy(settings, "old")
    handle = queue.enqueue(versioned)
    deploy(settings, "new")
    with Runtime():
        assert queue.enqueue(versioned).get_result(timeout=10) == "noted"
        assert unserved_versions() == {"old": 1}
        assert handle.get_status().status == WorkflowStatus.ENQUEUED
    deploy(settings, "old")
    with Runtime():
        assert handle.get_result(timeout=10) == "noted"
        assert unserved_versions() == {}


@database
def test_what_has_no_version_goes_to_whoever_is_there(settings: Any) -> None:
    ApplicationVersion.objects.create(name="new")
    Executor.objects.create(id="new", pid=1, application_version="new", queues=["some other queue"])
    inputs = queue.enqueue(versioned).get_status().inputs
    deploy(settings, "old")
    with Runtime():
        row("by name", name="versioned", inputs=inputs)
        eventually(lambda: Workflow.objects.get(pk="by name").status == WorkflowStatus.SUCCESS)
    assert Workflow.objects.get(pk="by name").application_version == "old"


@workflow
def asking_for_versions() -> list[Any]:
    set_latest_application_version("1")
    latest = get_latest_application_version()
    assert latest is not None
    return [[each.name for each in list_application_versions()], latest.name, unserved_versions()]


@workflow
async def async_asking_for_versions() -> list[Any]:
    await aset_latest_application_version("1")
    latest = await aget_latest_application_version()
    assert latest is not None
    return [[each.name for each in await alist_application_versions()], latest.name, await aunserved_versions()]


@database
@pytest.mark.parametrize("function", [asking_for_versions, async_asking_for_versions])
def test_in_a_workflow_they_are_recorded_steps(function: Any) -> None:
    for name in ("1", "2"):
        versions.register_application_version(name)
    result = function() if function is asking_for_versions else async_to_sync(function)()
    assert result == [["1", "2"], "1", {}]
    assert names(Workflow.objects.get().pk) == [
        "DBOS.setLatestApplicationVersion",
        "DBOS.getLatestApplicationVersion",
        "DBOS.listApplicationVersions",
        "DBOS.unservedVersions",
    ]


@workflow
def making_unknown_latest() -> None:
    set_latest_application_version("unknown")


@database
def test_an_unknown_version_is_refused_and_that_is_recorded() -> None:
    with pytest.raises(UnknownVersion, match="unknown"):
        making_unknown_latest()
    assert Step.objects.get().error
    with pytest.raises(InvalidOption):
        set_latest_application_version("")


@pytest.mark.parametrize("version", [3, "", "x" * 256, True])
def test_a_bad_version_is_refused_at_its_first_use(settings: Any, version: Any) -> None:
    deploy(settings, version)
    with pytest.raises(InvalidOption, match="APPLICATION_VERSION"):
        application_version()
    with pytest.raises(InvalidOption, match="APPLICATION_VERSION"):
        Runtime()


# ---- auto ----------------------------------------------------------------------------------------------------

SOURCE = """
from django_dbos import workflow

@workflow
def one() -> int:
    # {comment}
    return 1

class Shop:
    @staticmethod
    @workflow
    def two() -> set[str]:
        return {"some", "words", "in", "a", "set"}
"""
ASK = """
import importlib, sys, django
sys.path.insert(0, {folder!r})
django.setup()
for name in {modules!r}:
    importlib.import_module(name)
from django_dbos.versions import source_hash
print(source_hash())
"""


def hash_in_a_process(folder: Path, *modules: str, **env: str) -> str:
    done = run_python("-c", ASK.format(folder=str(folder), modules=modules), env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_same_source_has_the_same_hash_in_whatever_order_it_is_imported(tmp_path: Path) -> None:
    (tmp_path / "shop_workflows.py").write_text(SOURCE.replace("{comment}", "a comment"))
    (tmp_path / "more_workflows.py").write_text(
        textwrap.dedent("""
        from django_dbos import workflow

        @workflow
        async def three() -> None: ...
        """)
    )
    hashes = {
        hash_in_a_process(tmp_path, "shop_workflows", "more_workflows", PYTHONHASHSEED="1"),
        hash_in_a_process(tmp_path, "more_workflows", "shop_workflows", PYTHONHASHSEED="2"),
    }
    assert len(hashes) == 1
    (tmp_path / "shop_workflows.py").write_text(
        SOURCE.replace("{comment}", "a comment").replace("return 1", "return 2")
    )
    assert hash_in_a_process(tmp_path, "shop_workflows", "more_workflows") not in hashes


def define(source: str) -> str:
    namespace: dict[str, Any] = {"workflow": workflow, "__name__": "typed_in"}
    exec(source, namespace)  # noqa: S102 - as a shell would
    return versions.source_hash()


def test_a_function_without_source_is_told_by_its_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow_registry, "_definitions", {})
    body = "@workflow\ndef typed(x=1):\n    return [y for y in (x, {0}) if y in {{'a', 'b', 'c'}}]"
    first = define(body.format(1))
    assert define(body.format(1)) == first
    assert define(body.format(2)) != first


def test_what_the_package_registers_itself_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = versions.source_hash()
    monkeypatch.setattr(workflow_registry, "_definitions", dict(workflow_registry._definitions))
    workflow(name="<temp>.some_step")(lambda: None)
    assert versions.source_hash() == before


@database
def test_auto_is_fixed_when_it_is_first_asked_for_and_again_when_a_worker_starts(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy(settings, "auto")
    before = application_version()
    assert before == versions.source_hash()
    monkeypatch.setattr(workflow_registry, "_definitions", dict(workflow_registry._definitions))
    workflow(name="defined later")(lambda: None)
    assert application_version() == before
    with Runtime():
        assert application_version() == versions.source_hash() != before
        handle = queue.enqueue(versioned)
        assert handle.get_result(timeout=10) == "noted"
    assert handle.get_status().application_version == application_version()
