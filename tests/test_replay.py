"""Replays: recorded workflows against today's code, with nothing written and nobody told."""

import json
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models.functions import Now

from django_dbos import (
    ConfiguredInstance,
    EnqueueOptions,
    Queue,
    Replay,
    Runtime,
    SetAuthentication,
    SetWorkflowID,
    areplay_workflow,
    asleep,
    assumed_role,
    cancel_workflow,
    dbos_class,
    enqueue_workflow_with_options,
    get_event,
    now,
    patch,
    random_uuid,
    recv,
    replay_workflow,
    required_roles,
    run_step,
    send,
    set_event,
    sleep,
    start_workflow,
    step,
    transaction,
    workflow,
)
from django_dbos.exceptions import NonExistentWorkflow, UnexpectedStep
from django_dbos.models import Executor, Message, Step, Workflow
from django_dbos.registry import class_registry, workflow_registry
from django_dbos.states import WorkflowStatus
from tests.models import Order, Product
from tests.recorded import crashed
from tests.support import eventually, manage, statements

database = pytest.mark.django_db(transaction=True)
queue = Queue("replayed")

#: What the code of the workflows below does beyond what it did when they were recorded.
code: set[str] = set()
ran: list[str] = []


@pytest.fixture(autouse=True)
def recorded_code() -> None:
    code.clear()
    ran.clear()


@step
def step_one() -> int:
    ran.append("step_one")
    return 1


@step
def step_two() -> int:
    ran.append("step_two")
    return 2


@step
def failing_step() -> None:
    raise ValueError("it failed")


@step
async def astep_one() -> int:
    ran.append("astep_one")
    return 1


@step
async def astep_two() -> int:
    return 2


@transaction
def replayed_ordering() -> int:
    return Order.objects.count()


@workflow
def replayed_child(value: int) -> int:
    return step_one() + value


@workflow
def replayed_sample(value: int) -> int:
    total = value
    if "another" in code:
        total += step_two()
    total += step_one()
    if "swallowed" in code:
        try:
            step_two()
        except BaseException:
            return total
    if "patched" in code and patch("p"):
        total += step_two()
    if "writing" in code:
        Order.objects.create()
    if "raising" in code:
        raise KeyError("today")
    if "short" not in code:
        total += step_two()
    if "extra" in code:
        step_one()
    return total + ("outcome" in code)


@workflow
async def async_replayed_sample(value: int) -> int:
    total = value + await astep_one()
    if "another" in code:
        await astep_one()
    return total + await astep_two() + await Order.objects.acount()


@workflow
def replayed_everything() -> list[Any]:
    own_id = start_workflow(replayed_child, 1).workflow_id
    send(own_id, "hello")
    set_event("key", {"a": 1})
    started = now()
    sleep(0.01)
    with SetWorkflowID("chosen"):
        handle = queue.enqueue(replayed_child, 5)
    results = [
        replayed_child(2),
        handle.get_result(),
        get_event(own_id, "nothing", 0),
        recv("topic", 0),
        replayed_ordering(),
    ]
    try:
        failing_step()
    except ValueError as error:
        results.append(str(error))
    return [*results, random_uuid(), started, Order.objects.count()]


@workflow
def replayed_failure() -> None:
    step_one()
    failing_step()


def recorded(function: Any = replayed_sample, *args: Any, workflow_id: str = "w") -> str:
    with SetWorkflowID(workflow_id):
        async_to_sync(function)(*args) if function is async_replayed_sample else function(*args)
    ran.clear()
    return workflow_id


def snapshot() -> list[Any]:
    """Every row that a replay might touch."""
    executors = list(Executor.objects.order_by("pk").values_list("pk", flat=True))  # they go on beating
    return [executors, *(list(model.objects.order_by("pk").values()) for model in (Workflow, Step, Message, Order))]


@database
@pytest.mark.parametrize("function", [replayed_sample, async_replayed_sample])
def test_the_same_code_agrees_and_nothing_runs_or_is_written(function: Any) -> None:
    recorded(function, 1)
    before = snapshot()
    with statements() as sent:
        assert replay_workflow("w") == Replay(
            workflow_id="w", name=function.__qualname__, steps=2, is_known=True, divergence=None
        )
    assert not [sql for sql in sent if not sql.lstrip().startswith("SELECT")]
    assert ran == []
    assert snapshot() == before


@database
def test_every_kind_of_operation_is_stubbed_by_its_record() -> None:
    with Runtime():
        with SetWorkflowID("w"):
            start_workflow(replayed_everything).get_result(timeout=20)
        eventually(lambda: not Workflow.objects.active().exists())
    ran.clear()
    before = snapshot()
    assert replay_workflow("w").agrees
    for after in range(Step.objects.filter(workflow_id="w").count(), -1, -1):
        crashed("w", after=after)
        assert replay_workflow("w").agrees, after
    assert ran == []
    assert snapshot()[3:] == before[3:]


@database
@pytest.mark.parametrize(
    ("change", "divergence"),
    [
        ("another", (1, "step_one", "step_two")),
        ("extra", (3, None, "step_one")),
        ("short", (2, "step_two", None)),
        ("outcome", (None, "returns 4", "returns 5")),
        ("raising", (2, "step_two", None)),
    ],
)
def test_the_first_divergence_is_told(change: str, divergence: tuple[Any, ...]) -> None:
    recorded(replayed_sample, 1)
    code.add(change)
    replay = replay_workflow("w")
    assert not replay.agrees
    assert replay.divergence is not None
    found = replay.divergence
    assert (found.number, found.recorded, found.called) == divergence
    assert ("KeyError" in found.message) is (change == "raising")
    assert str(found.number or "returns") in found.message


@database
def test_what_a_body_swallows_is_told_all_the_same() -> None:
    recorded(replayed_sample, 1)
    Step.objects.filter(workflow_id="w", number=2).update(name="something else")
    code.add("swallowed")
    divergence = replay_workflow("w").divergence
    assert divergence is not None
    assert (divergence.number, divergence.recorded, divergence.called) == (2, "something else", "step_two")


@database
def test_an_async_divergence_is_told() -> None:
    recorded(async_replayed_sample, 1)
    code.add("another")
    divergence = async_to_sync(areplay_workflow)("w").divergence
    assert divergence is not None
    assert (divergence.number, divergence.recorded, divergence.called) == (2, "astep_two", "astep_one")


@database
def test_an_unfinished_one_is_replayed_as_far_as_its_record_goes() -> None:
    recorded(replayed_sample, 1)
    crashed("w", after=1)
    assert replay_workflow("w").agrees
    code.add("extra")
    assert replay_workflow("w").agrees
    code.add("another")
    assert not replay_workflow("w").agrees


@database
def test_a_body_that_is_crashed_after_its_last_step_may_end() -> None:
    recorded(replayed_sample, 1)
    crashed("w", after=2)
    assert replay_workflow("w").agrees
    code.add("short")
    assert not replay_workflow("w").agrees


@database
def test_a_cancelled_one_ends_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    with Runtime(), SetWorkflowID("w"):
        handle = start_workflow(replayed_sleep)
        eventually(lambda: Step.objects.count() == 2)
        cancel_workflow("w")
        eventually(lambda: handle.get_status().status == WorkflowStatus.CANCELLED)
    assert replay_workflow("w").agrees


@workflow
def replayed_sleep() -> None:
    step_one()
    sleep(3600)
    step_two()


@workflow
async def async_replayed_sleep() -> None:
    await astep_one()
    await asleep(3600)
    await astep_two()


@database
@pytest.mark.parametrize("function", [replayed_sleep, async_replayed_sleep])
def test_who_sleeps_is_replayed_up_to_the_sleep_and_waits_for_nothing(function: Any) -> None:
    with Runtime():
        with SetWorkflowID("w"):
            start_workflow(function)
        eventually(lambda: Step.objects.count() == 2)
        assert replay_workflow("w").agrees  # while it runs in this very process
        assert Workflow.objects.get().status == WorkflowStatus.PENDING


@database
def test_an_error_that_is_raised_again_agrees() -> None:
    with pytest.raises(ValueError, match="it failed"):
        recorded(replayed_failure)
    assert replay_workflow("w").agrees


@database
def test_a_run_that_met_an_unexpected_step_is_judged_by_its_steps() -> None:
    recorded(replayed_sample, 1)
    crashed("w", after=1)
    code.add("another")
    with Runtime(), pytest.raises(UnexpectedStep):
        start_workflow_handle().get_result(timeout=10)
    assert not replay_workflow("w").agrees
    code.clear()
    assert replay_workflow("w").agrees


def start_workflow_handle() -> Any:
    from django_dbos import retrieve_workflow

    return retrieve_workflow("w")


@database
def test_a_patch_in_front_of_what_has_ended_takes_the_old_way() -> None:
    recorded(replayed_sample, 1)
    code.add("patched")
    assert replay_workflow("w").agrees
    recorded(replayed_sample, 1, workflow_id="new")
    code.add("short")
    assert not replay_workflow("w").agrees
    code.clear()
    code.add("patched")
    assert replay_workflow("new").agrees


@workflow
def patched_at_the_end() -> int:
    value = step_one()
    return value + step_two() if "patched" in code and patch("end") else value


@database
def test_a_patch_after_the_last_step_of_what_has_ended_takes_the_old_way() -> None:
    recorded(patched_at_the_end)
    code.add("patched")
    assert replay_workflow("w").agrees


@database
def test_a_body_that_writes_outside_a_step_is_stopped_and_told() -> None:
    recorded(replayed_sample, 1)
    code.add("writing")
    divergence = replay_workflow("w").divergence
    assert divergence is not None
    assert "INSERT" in divergence.message
    assert not Order.objects.exists()
    Product.objects.create()  # these connections write again


@database
def test_one_whose_function_is_gone_diverges_only_if_it_has_not_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(replayed_sample, 1)
    monkeypatch.setattr(workflow_registry, "_definitions", {})
    replay = replay_workflow("w")
    assert (replay.agrees, replay.is_known) == (True, False)
    crashed("w", after=1)
    assert not replay_workflow("w").agrees


@dbos_class
class ReplayedShop(ConfiguredInstance):
    @step
    def weigh(self) -> str:
        ran.append("weigh")
        return self.instance_name

    @required_roles(["clerk"])
    @workflow
    def sell(self) -> list[str | None]:
        return [self.weigh(), run_step(None, str.upper, "a"), assumed_role()]


@database
def test_methods_roles_and_steps_alone_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = ReplayedShop("replayed")
    with SetWorkflowID("w"), SetAuthentication("ada", ["clerk"]):
        assert shop.sell() == ["replayed", "A", "clerk"]
    ran.clear()
    with Runtime(), SetWorkflowID("alone"):
        assert start_workflow(step_one).get_result(timeout=20) == 1
    ran.clear()
    assert replay_workflow("w").agrees
    assert replay_workflow("alone").agrees
    assert ran == []
    monkeypatch.setattr(class_registry, "_instances", {})
    replay = replay_workflow("w")
    assert (replay.agrees, replay.is_known) == (True, False)
    crashed("w", after=1)
    divergence = replay_workflow("w").divergence
    assert divergence is not None
    assert "ReplayedShop" in divergence.message


@workflow
def asking_for_a_replay() -> bool:
    return replay_workflow("w").agrees


@database
def test_in_a_workflow_a_replay_is_a_recorded_step() -> None:
    recorded(replayed_sample, 1)
    with SetWorkflowID("outer"):
        assert asking_for_a_replay()
    assert Step.objects.get(workflow_id="outer").name == "DBOS.replayWorkflow"


@database
def test_an_unknown_id_is_refused() -> None:
    with pytest.raises(NonExistentWorkflow):
        replay_workflow("unknown")


@database
def test_a_message_or_notify_never_leaves_a_replay() -> None:
    from django_dbos.sysdb.replay import WriteRefused, reading_only

    refused = ["INSERT INTO x VALUES (1)", " update x set y = 1", "WITH a AS (DELETE FROM x) SELECT 1"]
    refused += ["SELECT pg_notify('dbos', 'work')", "CREATE TABLE x ()", "select dbos_send_message('a', '1')"]
    with reading_only(), connection.cursor() as cursor:
        for sql in refused:
            with pytest.raises(WriteRefused):
                cursor.execute(sql)
        cursor.execute("SELECT 1")
        cursor.execute("WITH a AS (SELECT 1) SELECT * FROM a")


# ---- the command ---------------------------------------------------------------------------------------------


def command(*args: str) -> tuple[int, str]:
    """Exit code and output."""
    from io import StringIO

    out = StringIO()
    try:
        call_command("dbos_replay", *args, stdout=out)
    except SystemExit as stop:
        return int(str(stop.code)), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


@database
def test_the_command_says_how_many_agree() -> None:
    recorded(replayed_sample, 1)
    recorded(async_replayed_sample, 1, workflow_id="async")
    assert command() == (0, "2 replayed, 0 diverged\n")
    assert command("--name", "replayed_sample") == (0, "1 replayed, 0 diverged\n")
    assert command("--workflow", "async") == (0, "1 replayed, 0 diverged\n")
    assert command("--limit", "1") == (0, "1 replayed, 0 diverged\n")


@database
def test_the_command_shows_the_first_divergence_of_each() -> None:
    recorded(replayed_sample, 1)
    recorded(replayed_sample, 2, workflow_id="v")
    code.add("another")
    exit_code, text = command()
    assert exit_code == 1
    assert "replayed_sample w: Step 1 is recorded as 'step_one', the code calls 'step_two' there." in text
    assert text.endswith("2 replayed, 2 diverged\n")
    exit_code, text = command("--json", "--workflow", "v")
    assert exit_code == 1
    divergence = {"number": 1, "recorded": "step_one", "called": "step_two"}
    divergence["message"] = "Step 1 is recorded as 'step_one', the code calls 'step_two' there."
    assert json.loads(text) == {
        "replayed": 1,
        "left_out": 0,
        "diverged": [{"workflow_id": "v", "name": "replayed_sample", **divergence}],
    }


@database
def test_the_command_looks_back_as_far_as_it_is_told() -> None:
    recorded(replayed_sample, 1)
    recorded(replayed_sample, 1, workflow_id="old")
    Workflow.objects.filter(pk="old").update(created_at=Now() - timedelta(days=3))
    start_workflow(replayed_sample, 3)  # has not begun
    for since, count in (
        ("2h", 1),
        ("4d", 2),
        ("90s", 1),
        ("2000-01-01", 2),
        ("2000-01-01T12:00", 2),
        ("2999-01-01", 0),
    ):
        assert command("--since", since) == (0, f"{count} replayed, 0 diverged\n"), since


WRONG = [
    ("--since", "yesterday"),
    ("--since", "2026-13-45"),
    ("--since", "999999999w"),
    ("--limit", "0"),
    ("--limit", "many"),
    ("--workflow", "unknown"),
    ("--name", "unknown"),
    ("--workflow", "w", "--name", "replayed_sample"),
    ("--unknown",),
]


@database
@pytest.mark.parametrize("args", WRONG)
def test_wrong_arguments_are_refused(args: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        call_command("dbos_replay", *args)


@database
@pytest.mark.parametrize("args", [WRONG[0], WRONG[5]])
def test_wrong_arguments_end_with_2(args: tuple[str, ...]) -> None:
    done = manage("dbos_replay", *args)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


@database
def test_what_is_left_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(replayed_sample, 1)
    monkeypatch.setattr(workflow_registry, "_definitions", {})
    assert command() == (0, "0 replayed, 0 diverged, 1 finished ones of functions that are gone left out\n")


# ---- roles and validation ------------------------------------------------------------------------------------


@dbos_class
class Kiosk(ConfiguredInstance):
    """Only sellers sell there."""

    @required_roles(["seller"])
    @workflow(validate_args=True)
    def sell(self, count: int) -> str:
        return f"{self.instance_name}: {count + self.counted()}, by a {assumed_role()}"

    @required_roles(["seller"])
    @step
    def counted(self) -> int:
        return 1


KIOSK = Kiosk("corner")


@database
def test_arguments_are_validated_as_they_were_and_roles_are_those_of_then() -> None:
    options = EnqueueOptions(
        workflow_name="Kiosk.sell", queue_name="replayed", class_name="Kiosk", instance_name="corner"
    )
    with SetAuthentication("ada", ["seller"]):
        handle = enqueue_workflow_with_options(options, "2")  # validation makes it a number
    with Runtime():
        assert handle.get_result(timeout=10) == "corner: 3, by a seller"
    assert replay_workflow(handle.workflow_id).divergence is None
    Workflow.objects.update(authenticated_roles=[])
    assert replay_workflow(handle.workflow_id).divergence is None
