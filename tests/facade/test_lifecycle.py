"""launch() and destroy(): many lives in one process, late registrations, nothing left behind."""

import asyncio
import logging
import threading

import pytest
from django.db import connection, connections

from django_dbos import DBOS
from django_dbos.dbos import error
from django_dbos.hub import local_runner
from django_dbos.models import Executor
from django_dbos.registry import workflow_registry
from tests.support import eventually


def test_what_is_started_after_launch_runs_here() -> None:
    DBOS(config={"name": "shop"})
    DBOS.launch()

    @DBOS.step()
    def price(item: str) -> int:
        return len(item)

    @DBOS.workflow()
    def order(item: str) -> int:
        return price(item) * 2

    assert order("tea") == 6
    assert DBOS.start_workflow(order, "coffee").get_result() == 12


def test_lives_follow_each_other_and_leave_no_thread() -> None:
    @DBOS.workflow()
    def double(number: int) -> int:
        return number * 2

    for number in range(3):
        DBOS.launch()
        assert DBOS.start_workflow(double, number).get_result() == number * 2
        DBOS.destroy()
        assert local_runner() is None
        eventually(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("dbos-")])


def test_what_was_cut_off_goes_on_in_the_next_life() -> None:
    begun, may_end = threading.Event(), threading.Event()

    @DBOS.workflow()
    def patient() -> str:
        begun.set()
        while not may_end.is_set():
            DBOS.sleep(0.05)
        return "done"

    DBOS.launch()
    handle = DBOS.start_workflow(patient)
    assert begun.wait(10)
    DBOS.destroy()
    may_end.set()
    DBOS.launch()
    assert handle.get_result() == "done"


def test_destroy_waits_as_long_as_it_is_told() -> None:
    begun = threading.Event()

    @DBOS.workflow()
    def quick() -> str:
        begun.set()
        DBOS.sleep(0.3)
        return "done"

    DBOS.launch()
    handle = DBOS.start_workflow(quick)
    assert begun.wait(10)
    DBOS.destroy(workflow_completion_timeout_sec=10)
    assert handle.get_result(timeout=0) == "done"


def test_who_waits_for_what_was_cut_off_is_told() -> None:
    begun = threading.Event()
    errors: list[BaseException] = []

    @DBOS.workflow()
    def endless() -> None:
        begun.set()
        DBOS.recv("never")

    DBOS.launch()
    handle = DBOS.start_workflow(endless)

    def wait() -> None:
        try:
            handle.get_result()
        except BaseException as raised:
            errors.append(raised)
        finally:
            connections.close_all()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert begun.wait(10)
    DBOS.destroy()
    waiter.join(10)
    assert [type(raised) for raised in errors] == [error.DBOSException]


def test_a_second_launch_only_warns(caplog: pytest.LogCaptureFixture) -> None:
    DBOS.launch()
    with caplog.at_level(logging.WARNING, "django_dbos"):
        DBOS.launch()
    assert "launched already" in caplog.text


def test_a_second_registration_replaces_the_first_and_warns(caplog: pytest.LogCaptureFixture) -> None:
    def make(answer: int) -> None:
        @DBOS.workflow(name="answer")
        def workflow() -> int:
            return answer

        globals()["answer"] = workflow

    with caplog.at_level(logging.WARNING, "django_dbos"):
        make(1)
        make(2)
    assert "registered again" in caplog.text
    DBOS.launch()
    assert DBOS.start_workflow(globals().pop("answer")).get_result() == 2


def test_a_workflow_before_launch_is_refused_and_a_step_is_a_plain_call() -> None:
    DBOS(config={"name": "early"})

    @DBOS.workflow()
    def early() -> int:
        return 1

    @DBOS.step()
    def plain() -> int:
        return 2

    assert plain() == 2
    with pytest.raises(error.DBOSException, match="launch"):
        early()
    with pytest.raises(error.DBOSException, match="launch"):
        DBOS.start_workflow(early)


def test_a_forgotten_registry_knows_no_function() -> None:
    @DBOS.workflow(name="forgotten")
    def forgotten() -> None: ...

    assert workflow_registry.find("forgotten")
    DBOS.destroy(destroy_registry=True)
    assert workflow_registry.find("forgotten") is None


def test_launch_and_destroy_on_an_event_loop() -> None:
    async def program() -> None:
        DBOS.launch()

        @DBOS.workflow()
        async def greet(name: str) -> str:
            await DBOS.sleep_async(0)
            return f"hello {name}"

        handle = await DBOS.start_workflow_async(greet, "world")
        assert await handle.get_result() == "hello world"
        assert await greet("you") == "hello you"
        DBOS.destroy()

    asyncio.run(program())


def test_a_name_that_is_not_there_says_what_is() -> None:
    with pytest.raises(AttributeError, match="start_workflow"):
        DBOS.starting_workflow  # noqa: B018
    with pytest.raises(AttributeError, match="not there yet"):
        DBOS.create_schedule  # noqa: B018


def test_a_configuration_key_that_is_none_is_refused() -> None:
    with pytest.raises(error.DBOSInitializationError, match="nmae"):
        DBOS(config={"nmae": "typo"})  # type: ignore[arg-type]


def test_without_its_tables_it_does_not_launch() -> None:
    with connection.schema_editor() as editor:
        editor.alter_db_table(Executor, "dbos_executor", "dbos_executor_gone")
    try:
        with pytest.raises(error.DBOSInitializationError, match="migrate"):
            DBOS.launch()
    finally:
        with connection.schema_editor() as editor:
            editor.alter_db_table(Executor, "dbos_executor_gone", "dbos_executor")
    assert local_runner() is None
