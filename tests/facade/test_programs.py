"""Programs as they are written for DBOS Transact for Python run with our imports."""

import asyncio
import json
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from types import ModuleType

import pytest
from django.test import RequestFactory

from django_dbos.dbos import DBOS, DBOSClient, SetWorkflowID, error
from tests.models import Product
from tests.support import eventually

Load = Callable[[str], ModuleType]


def test_greeting(program: Load) -> None:
    greeting = program("greeting")
    assert greeting.main() == "Dear Ada,"
    assert greeting.log == ["looked up ada", "wrote to Ada"]
    with SetWorkflowID("again"):
        greeting.greet("bob")
    with SetWorkflowID("again"):
        assert greeting.greet("bob") == "Dear Bob,"
    assert len(greeting.log) == 4


def test_thumbnails(program: Load) -> None:
    thumbnails = program("thumbnails")
    pictures = [f"{number}.png" for number in range(8)]
    assert thumbnails.main(pictures) == [f"small-{picture}" for picture in pictures]
    assert 1 <= thumbnails.most <= 2
    assert {status.queue_name for status in DBOS.list_workflows(name="make_thumbnail")} == {"thumbnails"}


def test_checkout_that_is_paid(program: Load) -> None:
    checkout = program("checkout")
    DBOS.launch()
    assert checkout.checkout_endpoint("order-1") == "https://pay.example/order-1"
    assert checkout.checkout_endpoint("order-1") == "https://pay.example/order-1"
    assert checkout.payment_webhook("order-1", "paid", "delivery-1") == "/orders/order-1"
    assert checkout.payment_webhook("order-1", "paid", "delivery-1") == "/orders/order-1"
    assert DBOS.retrieve_workflow("order-1").get_result() == "paid"
    assert checkout.stock == {"widget": 4}
    eventually(lambda: checkout.dispatched == ["order-1"])
    assert DBOS.get_all_events("order-1") == {
        "payment_url": "https://pay.example/order-1",
        "order_url": "/orders/order-1",
    }


def test_checkout_that_is_not_paid_and_one_too_many(program: Load) -> None:
    checkout = program("checkout")
    DBOS.launch()
    checkout.checkout_endpoint("order-2", wait_seconds=0.05)
    assert DBOS.retrieve_workflow("order-2").get_result() == "not paid in time"
    assert checkout.stock == {"widget": 5}
    checkout.stock["widget"] = 0
    assert checkout.checkout_endpoint("order-3") is None
    assert DBOS.get_result("order-3") == "sold out"


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_agent(program: Load, decision: str) -> None:
    agent = program("agent")
    DBOS.launch()
    result = asyncio.run(agent.main(decision))
    if decision == "approve":
        assert result == {"task": "refund order 17", "answer": "refunded", "steps": 2}
        assert agent.calls == ["model", "model", "search", "model", "refund", "model"]
    else:
        assert result["answer"] == "not approved"
        assert "refund" not in agent.calls


def test_clock(program: Load) -> None:
    DBOS.launch()
    clock = program("clock")  # it is declared while the worker runs
    eventually(lambda: len(clock.ticks) >= 2, 15)
    (first, started), (second, _) = clock.ticks[:2]
    assert second - first == timedelta(seconds=1)
    assert first <= started
    ids = [status.workflow_id for status in DBOS.list_workflows(name="ring")]
    assert ids[0] == f"sched-ring-{first:%Y-%m-%dT%H:%M:%SZ}"


def test_fetchers(program: Load) -> None:
    fetchers = program("fetchers")
    DBOS.launch()
    with SetWorkflowID("direct"):
        assert fetchers.example.fetch("a") == "https://example.com/a"
    handles = [DBOS.start_workflow(fetchers.mirror.fetch, "b"), fetchers.queue.enqueue(fetchers.example.fetch, "c")]
    assert [handle.get_result() for handle in handles] == ["https://mirror.example.com/b", "https://example.com/c"]
    by_class = DBOS.start_workflow(fetchers.Fetcher.scheme, "d")
    static = DBOS.start_workflow(fetchers.Fetcher.double, 4)
    assert (by_class.get_result(), static.get_result(), fetchers.Fetcher.triple(2)) == ("https://d", 8, 6)
    names = [(status.class_name, status.config_name) for status in (DBOS.get_workflow_status("direct"),)]
    assert names == [("Fetcher", "example.com")]
    assert (by_class.get_status().class_name, by_class.get_status().config_name) == ("Fetcher", None)
    assert (static.get_status().class_name, static.get_status().config_name) == (None, None)


def test_weather(program: Load) -> None:
    weather = program("weather")
    DBOS.launch()
    assert weather.report("Brno", 2) == "sun in Brno"
    assert weather.attempts == [0, 1, 2]
    weather.attempts.clear()
    with SetWorkflowID("never"):
        assert weather.report("Oslo", 9) == "no forecast after 4 attempts"
    recorded = DBOS.list_workflow_steps("never")[0]["error"]
    assert isinstance(recorded, error.DBOSMaxStepRetriesExceeded)
    assert recorded.dbos_error_code == 7
    assert [type(each) for each in recorded.errors] == [TimeoutError] * 4
    weather.attempts.clear()
    with pytest.raises(PermissionError):
        weather.report("Area 51", 0)
    assert weather.attempts == [0]


def test_webhooks(program: Load) -> None:
    webhooks = program("webhooks")
    DBOS.launch()
    event = {"id": "17", "type": "paid"}
    assert [webhooks.webhook(event) for _ in range(3)] == ["accepted"] * 3
    assert DBOS.get_result("event-17") == "handled paid"
    assert webhooks.handled == ["17"]


def test_imports_one_per_account_the_urgent_first(program: Load) -> None:
    webhooks = program("webhooks")
    DBOS.launch()
    first = webhooks.request_import("first")
    eventually(lambda: webhooks.order == ["first"])
    assert webhooks.request_import("first") == "already under way"
    late, soon = webhooks.request_import("late", 9), webhooks.request_import("soon", 1)
    DBOS.send(first, "x", "go")
    assert [DBOS.get_result(each) for each in (first, soon, late)] == ["first", "soon", "late"]
    assert webhooks.order == ["first", "soon", "late"]


def test_accounts(program: Load) -> None:
    accounts = program("accounts")
    DBOS.launch()
    for name in ("ada", "bob"):
        Product.objects.create(name=name, stock=100)
    with SetWorkflowID("transfer"):
        assert accounts.transfer("ada", "bob", 30) is True
    with SetWorkflowID("transfer"):
        assert accounts.transfer("ada", "bob", 30) is True
    assert accounts.transfer("ada", "nobody", 30) is False
    assert {row.name: row.stock for row in Product.objects.all()} == {"ada": 70, "bob": 130}


def test_reports(program: Load) -> None:
    reports = program("reports")
    DBOS.launch()
    with SetWorkflowID("report"), pytest.raises(ArithmeticError):
        reports.report()
    reports.is_fixed.set()
    with SetWorkflowID("report-fixed"):
        fork = DBOS.fork_workflow("report", 2)
    assert (fork.workflow_id, fork.get_result()) == ("report-fixed", 6)
    assert DBOS.fork_workflow("report", 0).get_result() == 6
    assert reports.runs == ["collect", "add up", "add up", "collect", "add up"]
    assert fork.get_status().forked_from == "report"
    assert DBOS.get_workflow_status("report").was_forked_from is True


# What is deleted is deleted with the checkpoints that transactions left on other databases.
@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_reports_that_are_stopped(program: Load) -> None:
    reports = program("reports")
    DBOS.launch()
    bounded = reports.start_bounded(0.2, "bounded")
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError, match="DBOS Error 13"):
        bounded.get_result()
    with SetWorkflowID("cancelled"):
        handle = DBOS.start_workflow(reports.patient)
    DBOS.cancel_workflow("cancelled")
    with pytest.raises(error.DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    assert handle.get_status().status == "CANCELLED"
    assert type(handle.get_status().completed_at) is int
    resumed = DBOS.resume_workflow("cancelled")
    assert resumed.get_status().completed_at is None
    DBOS.send("cancelled", "x", "go")
    assert handle.get_result() == "done"
    assert DBOS.resume_workflow("cancelled").get_result() == "done"
    DBOS.delete_workflow("cancelled")
    assert DBOS.get_workflow_status("cancelled") is None


def test_pipeline(program: Load) -> None:
    pipeline = program("pipeline")
    DBOS.launch()
    result = asyncio.run(pipeline.main(4))
    assert result == {"pages": [0, 10, 20, 30], "parts": [0, 11, 22, 33]}
    assert len(pipeline.loops) == 1  # what is started on a loop, and its children, run there


def test_backoffice(program: Load) -> None:
    backoffice = program("backoffice")
    DBOS.launch()
    assert backoffice.client_program() == {
        "state": "waiting",
        "result": "ada owes 12, signed by grace",
        "found": ["invoice-1"],
    }


def test_recovery_on_demand(program: Load) -> None:
    reports = program("reports")
    DBOS.launch()
    begun, may_end = threading.Event(), threading.Event()

    @DBOS.workflow()
    def held() -> str:
        reports.runs.append("held")
        begun.set()
        may_end.wait(10)
        reports.collect()
        return "done"

    handle = DBOS.start_workflow(held)
    assert begun.wait(10)
    recovered = DBOS._recover_pending_workflows()
    assert [each.workflow_id for each in recovered] == [handle.workflow_id]
    eventually(lambda: handle.get_status().recovery_attempts == 2)
    may_end.set()
    assert [each.get_result() for each in recovered] == ["done"]
    assert reports.runs == ["held", "collect"]


def test_chatter(program: Load) -> None:
    chatter = program("chatter")
    DBOS.launch()
    with SetWorkflowID("talk"):
        handle = DBOS.start_workflow(chatter.talk, ["a", "b"])
    assert list(chatter.tokens("talk")) == ["data: begin\n\n", "data: a\n\n", "data: b\n\n"]
    assert chatter.listen("talk") == "begin a b"
    assert asyncio.run(chatter.atokens("talk", 1)) == ["a", "b"]
    assert DBOS.read_stream_offset("talk", "words", 2) == "b"
    assert list(DBOSClient().read_stream("talk", "words")) == ["begin", "a", "b"]
    assert handle.get_result() == 2
    with pytest.raises(error.DBOSNonExistentWorkflowError):
        list(DBOS.read_stream("nobody", "words"))


def test_nothing_new_in_a_stream(program: Load) -> None:
    chatter = program("chatter")
    DBOS.launch()

    @DBOS.workflow()
    def open_ended() -> None:
        chatter.talk([], is_closed=False)
        DBOS.write_stream("words", "here")
        DBOS.recv("end")

    handle = DBOS.start_workflow(open_ended)
    with pytest.raises(error.DBOSStreamTimeoutError, match="DBOS Error 16"):
        list(DBOS.read_stream(handle.workflow_id, "words", timeout_seconds=0.05, polling_interval_sec=0.1))
    DBOS.send(handle.workflow_id, "x", "end")
    handle.get_result()


def test_the_first_of_several(program: Load) -> None:
    reports = program("reports")
    DBOS.launch()
    handles = [DBOS.start_workflow(reports.patient) for _ in range(3)]
    DBOS.send(handles[1].workflow_id, "x", "go")
    assert DBOS.wait_first(handles) is handles[1]
    with pytest.raises(ValueError, match="at least one"):
        DBOS.wait_first([])
    for handle in handles:
        DBOS.send(handle.workflow_id, "x", "go")
        assert handle.get_result() == "done"


def test_the_first_task_is_the_first_again(program: Load) -> None:
    pipeline = program("pipeline")

    @DBOS.workflow()
    async def race() -> list[int]:
        tasks = [asyncio.create_task(pipeline.fetch(page)) for page in range(3)]
        done, pending = await DBOS.asyncio_wait(tasks)
        return [*sorted(task.result() for task in done), len(pending)]

    DBOS.launch()
    assert asyncio.run(race()) == [0, 10, 20, 0]


def test_progress(program: Load, rf: RequestFactory) -> None:
    progress = program("progress")
    DBOS.launch()
    for _ in range(2):
        assert progress.start_background_task(rf.post("/"), "task-1", 4).status_code == 202
    DBOS.get_result("task-1")
    assert json.loads(progress.last_step(rf.get("/"), "task-1").content) == {"step": 4, "status": "SUCCESS"}
    assert progress.last_step(rf.get("/"), "task-2").status_code == 404
    assert len(DBOS.list_workflows(name="background_task")) == 1


def test_a_step_by_the_clock() -> None:
    ticks: list[datetime] = []

    @DBOS.scheduled("* * * * * *")
    @DBOS.step(name="ticking step")
    def step(scheduled: datetime, actual: datetime) -> None:
        ticks.append(scheduled)

    DBOS.launch()
    eventually(lambda: ticks)
