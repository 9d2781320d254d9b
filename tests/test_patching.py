"""Patches: new runs take the new way, those that were past it take the old one, whatever dies."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    Runtime,
    SetWorkflowID,
    adeprecate_patch,
    apatch,
    deprecate_patch,
    fork_workflow,
    patch,
    retrieve_workflow,
    step,
    workflow,
)
from django_dbos.exceptions import BlockingCall, InvalidOption, NotInWorkflow, PatchNondeterminism
from django_dbos.models import Step
from tests.recorded import crashed, names

database = pytest.mark.django_db(transaction=True)

#: Which code is deployed: "old", "patched" or "deprecated".
code: dict[str, str] = {}


@pytest.fixture(autouse=True)
def old_code() -> None:
    code["is"] = "old"


@step
def patched_first() -> str:
    return "first"


@step
def old_way() -> str:
    return "old"


@step
def new_way() -> str:
    return "new"


@step
def patched_last() -> str:
    return "last"


def takes_new_way() -> bool:
    if code["is"] == "old":
        return False
    return patch("way") if code["is"] == "patched" else deprecate_patch("way")


async def atakes_new_way() -> bool:
    if code["is"] == "old":
        return False
    return await apatch("way") if code["is"] == "patched" else await adeprecate_patch("way")


@workflow
def patched_journey() -> list[str]:
    return [patched_first(), new_way() if takes_new_way() else old_way(), patched_last()]


@step
async def apatched_first() -> str:
    return "first"


@step
async def aold_way() -> str:
    return "old"


@step
async def anew_way() -> str:
    return "new"


@workflow
async def async_patched_journey() -> list[str]:
    return [await apatched_first(), await anew_way() if await atakes_new_way() else await aold_way()]


def run(workflow_id: str, function: Any = patched_journey) -> Any:
    with SetWorkflowID(workflow_id):
        return async_to_sync(function)() if function is async_patched_journey else function()


def recovered(workflow_id: str, *, after: int) -> Any:
    crashed(workflow_id, after=after)
    with Runtime():
        return retrieve_workflow(workflow_id).get_result(timeout=20)


@database
def test_a_new_run_takes_the_new_way_and_records_that() -> None:
    code["is"] = "patched"
    assert run("w") == ["first", "new", "last"]
    assert names("w") == ["patched_first", "DBOS.patch-way", "new_way", "patched_last"]
    for after in range(5):
        assert recovered("w", after=after) == ["first", "new", "last"]


@database
@pytest.mark.parametrize("after", [2, 3])
def test_a_run_that_was_past_it_takes_the_old_way_and_draws_no_number(after: int) -> None:
    run("w")
    code["is"] = "patched"
    assert recovered("w", after=after) == ["first", "old", "last"]
    assert names("w") == ["patched_first", "old_way", "patched_last"]


@database
@pytest.mark.parametrize("after", [0, 1])
def test_a_run_that_had_not_come_there_takes_the_new_way(after: int) -> None:
    run("w")
    code["is"] = "patched"
    assert recovered("w", after=after) == ["first", "new", "last"]


@database
def test_a_run_whose_step_was_interrupted_while_a_later_one_went_on_takes_the_old_way() -> None:
    run("w")
    Step.objects.filter(workflow_id="w", number=2).delete()
    code["is"] = "patched"
    assert recovered("w", after=3) == ["first", "old", "last"]


@database
@pytest.mark.parametrize("after", range(5))
def test_a_deprecated_patch_honours_its_marker_and_adds_none(after: int) -> None:
    code["is"] = "patched"
    run("w")
    code["is"] = "deprecated"
    assert recovered("w", after=after) == ["first", "new", "last"]
    assert ("DBOS.patch-way" in names("w")) is (after > 1)
    assert run("fresh") == ["first", "new", "last"]
    assert names("fresh") == ["patched_first", "new_way", "patched_last"]


@database
def test_a_fork_of_an_old_run_from_before_the_patch_takes_the_new_way() -> None:
    run("w")
    code["is"] = "patched"
    before, behind = fork_workflow("w", 2), fork_workflow("w", 3)
    with Runtime():
        assert before.get_result(timeout=20) == ["first", "new", "last"]
        assert behind.get_result(timeout=20) == ["first", "old", "last"]


@database
def test_async_bodies_do_the_same() -> None:
    assert run("old", async_patched_journey) == ["first", "old"]
    code["is"] = "patched"
    assert run("new", async_patched_journey) == ["first", "new"]
    assert recovered("old", after=2) == ["first", "old"]
    assert recovered("new", after=2) == ["first", "new"]
    code["is"] = "deprecated"
    assert recovered("new", after=3) == ["first", "new"]


@workflow
def looping_patch(times: int) -> list[bool]:
    answers = []
    for _ in range(times):
        answers.append(code["is"] == "patched" and patch("loop"))
        patched_first()
    return answers


@database
def test_each_turn_of_a_loop_keeps_the_way_that_it_took() -> None:
    with SetWorkflowID("w"):
        looping_patch(3)
    code["is"] = "patched"
    assert recovered("w", after=2) == [False, False, True]
    assert recovered("w", after=4) == [False, False, True]


@step
async def slow_beside_a_patch(gate: str) -> None:
    await asyncio.sleep(0)


async def helper() -> None:
    await slow_beside_a_patch("a")
    await asyncio.Event().wait()


@workflow
async def patched_in_another_task() -> None:
    await asyncio.create_task(apatched())


async def apatched() -> bool:
    return await apatch("x")


@workflow
async def patched_beside_another_task() -> None:
    task = asyncio.create_task(helper())
    try:
        await asyncio.sleep(0)
        await apatch("x")
    finally:
        task.cancel()


@workflow
async def patched_after_others_ended() -> bool:
    async with asyncio.TaskGroup() as group:
        group.create_task(astep_in_task())
        group.create_task(astep_in_task())
    return all(await asyncio.gather(apatch("x"), apatch("y")))


async def astep_in_task() -> None:
    await apatched_first()


@database
@pytest.mark.parametrize("function", [patched_in_another_task, patched_beside_another_task])
def test_a_patch_whose_number_is_up_to_chance_is_refused(function: Any) -> None:
    with pytest.raises(PatchNondeterminism, match="other tasks"):
        async_to_sync(function)()


@database
def test_a_patch_after_concurrent_steps_is_fine() -> None:
    assert async_to_sync(patched_after_others_ended)()


@workflow
async def blocking_patch() -> None:
    patch("x")


@database
def test_the_sync_form_is_refused_on_an_event_loop() -> None:
    with pytest.raises(BlockingCall):
        async_to_sync(blocking_patch)()


@step
def patching_step() -> bool:
    return patch("x")


@workflow
def calls_patching_step() -> bool:
    return patching_step()


@database
def test_elsewhere_than_in_a_body_it_is_refused() -> None:
    for call in (patch, deprecate_patch, apatch, adeprecate_patch):
        with pytest.raises(NotInWorkflow):
            call("x")
    with pytest.raises(NotInWorkflow):
        calls_patching_step()


@workflow
def patches(name: Any) -> bool:
    return patch(name)


@database
@pytest.mark.parametrize("name", ["", "x" * 250, 3, None])
def test_a_name_that_cannot_be_recorded_is_refused(name: Any) -> None:
    with pytest.raises(InvalidOption):
        patches(name)
