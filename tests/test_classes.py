"""Workflows, steps and transactions as methods: of a class, or of an instance that each process creates for itself."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync

from django_dbos import (
    ConfiguredInstance,
    Queue,
    Runtime,
    SetWorkflowID,
    astart_workflow,
    dbos_class,
    fork_workflow,
    retrieve_workflow,
    scheduled,
    schedules,
    start_workflow,
    step,
    transaction,
    workflow,
)
from django_dbos.exceptions import ConflictingWorkflow, DuplicateRegistration, InvalidOption
from django_dbos.models import Step, Workflow
from django_dbos.registry import class_registry, workflow_registry
from django_dbos.states import WorkflowStatus
from django_dbos.sysdb.workflows import Submission, submit
from tests.models import Row
from tests.support import eventually

database = pytest.mark.django_db(transaction=True)

QUEUE = Queue("classes")
runs: list[Any] = []


@pytest.fixture(autouse=True)
def no_runs() -> None:
    runs.clear()


@dbos_class
class Shop(ConfiguredInstance):
    """A shop in some city."""

    def __init__(self, city: str) -> None:
        super().__init__(city)
        self.city = city

    @workflow
    def sell(self, what: str) -> str:
        return f"{self.note(what)} in {self.city}"

    @workflow
    async def asell(self, what: str) -> str:
        return f"{await self.anote(what)} in {self.city}"

    @step
    def note(self, what: str) -> str:
        runs.append((self.city, what))
        return what

    @step
    async def anote(self, what: str) -> str:
        await asyncio.sleep(0)
        return self.note(what)

    @transaction
    def book(self, name: str) -> str:
        Row.objects.create(name=f"{self.city}: {name}")
        return name

    @workflow
    def sell_twice(self, what: str) -> list[str]:
        return [self.sell(what), start_workflow(self.sell, what).get_result()]

    @classmethod
    @workflow
    def founded(cls, year: int) -> str:
        return f"{cls.__name__} {cls.age(year)}"

    @workflow
    @classmethod
    def refounded(cls, year: int) -> str:
        return f"{cls.__name__} {cls.age(year)}"

    @workflow
    @classmethod
    async def arefounded(cls, year: int) -> str:
        return f"{cls.__name__} {year}"

    @step
    @classmethod
    def age(cls, year: int) -> int:
        runs.append((cls.__name__, year))
        return 2000 - year

    @staticmethod
    @workflow
    def plain(number: int) -> int:
        return Shop.double(number)

    @workflow
    @staticmethod
    def simple(number: int) -> int:
        return Shop.double(number)

    @step
    @staticmethod
    def double(number: int) -> int:
        return number * 2


@dbos_class(class_name="boutique")
class SmallShop(Shop):
    """Inherits its workflows, under a name of its own."""

    @workflow
    def sell(self, what: str) -> str:
        return f"little {super().sell(what)}"


PRAGUE, OSLO, BOUTIQUE = Shop("Prague"), Shop("Oslo"), SmallShop("Prague")


def row() -> tuple[str, str, str]:
    """(name, class, instance) of the only workflow."""
    only = Workflow.objects.get()
    return only.name, only.class_name, only.instance_name


def again(workflow_id: str) -> Any:
    """Run a finished workflow a second time, from its records, as a recovery would."""
    Workflow.objects.filter(pk=workflow_id).update(status="ENQUEUED", output=None, error=None, completed_at=None)
    with Runtime():
        return retrieve_workflow(workflow_id).get_result(timeout=10)


def run(function: Callable[..., Any], *args: Any) -> Any:
    """Call a workflow, sync or async."""
    return async_to_sync(function)(*args) if asyncio.iscoroutinefunction(function) else function(*args)


# ---- methods of instances ------------------------------------------------------------------------------------


@database
@pytest.mark.parametrize("name", ["sell", "asell"])
def test_a_row_says_of_which_instance_and_does_not_store_it_among_the_inputs(name: str) -> None:
    with SetWorkflowID("w"):
        assert run(getattr(PRAGUE, name), "tea") == "tea in Prague"
    assert row() == (f"Shop.{name}", "Shop", "Prague")
    assert "Prague" not in Workflow.objects.get().inputs
    assert again("w") == "tea in Prague"
    assert runs == [("Prague", "tea")]


@database
@pytest.mark.parametrize("name", ["sell", "asell"])
def test_an_instances_workflow_is_started_enqueued_and_forked(name: str) -> None:
    with Runtime():
        started: Any = start_workflow(getattr(OSLO, name), "tea")
        enqueued: Any = QUEUE.enqueue(getattr(PRAGUE, name), what="milk")
        assert started.get_result(timeout=10) == "tea in Oslo"
        assert enqueued.get_result(timeout=10) == "milk in Prague"
        assert fork_workflow(started.workflow_id).get_result(timeout=10) == "tea in Oslo"
        assert async_to_sync(_started)(getattr(OSLO, name), "bread") == "bread in Oslo"


async def _started(function: Any, *args: Any) -> Any:
    return await (await astart_workflow(function, *args)).aget_result(timeout=10)


@database
def test_the_instance_may_also_be_the_first_argument() -> None:
    with Runtime():
        assert start_workflow(Shop.sell, OSLO, "tea").get_result(timeout=10) == "tea in Oslo"
    assert row() == ("Shop.sell", "Shop", "Oslo")


@database
def test_children_belong_to_their_instance() -> None:
    with Runtime():
        assert start_workflow(OSLO.sell_twice, "tea").get_result(timeout=10) == ["tea in Oslo"] * 2
    assert set(Workflow.objects.values_list("class_name", "instance_name")) == {("Shop", "Oslo")}
    assert Workflow.objects.count() == 3


@database
def test_an_inherited_workflow_belongs_to_the_class_of_its_instance() -> None:
    with SetWorkflowID("w"):
        assert async_to_sync(BOUTIQUE.asell)("tea") == "tea in Prague"
    assert row() == ("Shop.asell", "boutique", "Prague")
    assert again("w") == "tea in Prague"


@database
def test_an_overridden_workflow_may_call_the_one_it_overrides() -> None:
    with SetWorkflowID("w"):
        assert BOUTIQUE.sell("tea") == "little tea in Prague"
    assert set(Workflow.objects.values_list("pk", "name", "class_name")) == {
        ("w", "SmallShop.sell", "boutique"),
        ("w-1", "Shop.sell", "boutique"),
    }
    assert again("w") == "little tea in Prague"


@database
def test_a_worker_leaves_what_belongs_to_an_instance_or_class_that_it_does_not_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strange, known = start_workflow(PRAGUE.sell, "tea"), start_workflow(OSLO.sell, "tea")
    of_a_class = start_workflow(SmallShop.founded, 1990)
    without = {key: value for key, value in class_registry._instances.items() if key != ("Shop", "Prague")}
    with monkeypatch.context() as patch:
        patch.setattr(class_registry, "_instances", without)
        patch.setattr(class_registry, "_classes", {"Shop": Shop})
        with Runtime():
            assert known.get_result(timeout=10) == "tea in Oslo"
            assert start_workflow(OSLO.sell, "more").get_result(timeout=10)  # it has looked at the queue since
            assert {strange.get_status().status, of_a_class.get_status().status} == {WorkflowStatus.ENQUEUED}
            assert strange.get_status().attempts == 0
    with Runtime():
        assert strange.get_result(timeout=10) == "tea in Prague"
        assert of_a_class.get_result(timeout=10) == "SmallShop 10"


@database
def test_what_cannot_be_called_on_its_receiver_ends_in_error_with_a_reason() -> None:
    rows = {"unsaid": ("", ""), "of no instance": ("Shop", ""), "of a stranger": ("other", "")}
    class_registry._classes["other"] = int
    try:
        for workflow_id, (class_name, instance_name) in rows.items():
            submit(
                Submission(
                    id=workflow_id,
                    name="Shop.sell",
                    inputs='{"args": ["tea"], "kwargs": {}}',
                    serializer="json",
                    class_name=class_name,
                    instance_name=instance_name,
                )
            )
        with Runtime():
            for workflow_id in rows:
                with pytest.raises(InvalidOption, match=r"Shop\.sell is "):
                    retrieve_workflow(workflow_id).get_result(timeout=10)
    finally:
        del class_registry._classes["other"]
    assert set(Workflow.objects.values_list("status", flat=True)) == {"ERROR"}


@database
def test_an_instance_that_vanished_after_the_claim_is_waited_for_by_handing_the_row_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handle = start_workflow(PRAGUE.sell, "tea")
    looked_for: list[str] = []

    def find(class_name: str, instance_name: str) -> Any:
        looked_for.append(instance_name)
        return None if len(looked_for) < 3 else PRAGUE

    monkeypatch.setattr(class_registry, "find", find)
    with Runtime():
        assert handle.get_result(timeout=10) == "tea in Prague"
    assert handle.get_status().epoch == 3
    assert handle.get_status().attempts == 1


@database
def test_an_id_belongs_to_one_instance() -> None:
    with SetWorkflowID("w"):
        PRAGUE.sell("tea")
    with SetWorkflowID("w"):
        assert PRAGUE.sell("anything") == "tea in Prague"
    with SetWorkflowID("w"), pytest.raises(ConflictingWorkflow, match=r"'Shop\.sell' of Shop 'Prague'.*'Oslo'"):
        OSLO.sell("tea")


# ---- class methods and static methods ------------------------------------------------------------------------


@database
@pytest.mark.parametrize("name", ["founded", "refounded", "arefounded"])
@pytest.mark.parametrize("cls", [Shop, SmallShop])
def test_a_class_methods_row_says_the_class(cls: type[Shop], name: str) -> None:
    function = getattr(cls, name)
    with SetWorkflowID("w"):
        first = run(function, 1990)
    assert first.startswith(cls.__name__ + " ")
    assert row() == (f"Shop.{name}", "boutique" if cls is SmallShop else "Shop", "")
    assert again("w") == first
    with Runtime():
        assert start_workflow(function, 1990).get_result(timeout=10) == first


@database
@pytest.mark.parametrize("name", ["plain", "simple"])
def test_a_static_methods_row_says_neither(name: str) -> None:
    function = getattr(Shop, name)
    with SetWorkflowID("w"):
        assert function(4) == 8
    assert row() == (f"Shop.{name}", "", "")
    assert again("w") == 8
    with Runtime():
        assert start_workflow(getattr(PRAGUE, name), 5).get_result(timeout=10) == 10


@database
def test_a_class_methods_row_that_names_no_class_is_run_by_the_one_that_defines_it() -> None:
    inputs = '{"args": [1990], "kwargs": {}}'
    submit(Submission(id="by name", name="Shop.refounded", inputs=inputs, serializer="json"))
    with Runtime():
        assert retrieve_workflow("by name").get_result(timeout=10) == "Shop 10"


def test_a_class_method_and_a_static_one_can_be_scheduled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedules, "_declared", {})

    class Clock:
        @scheduled("0 0 1 1 *")
        @workflow
        @classmethod
        def tick(cls, scheduled_at: Any, started_at: Any) -> None: ...

        @scheduled("0 0 1 1 *")
        @workflow
        @staticmethod
        def tock(scheduled_at: Any, started_at: Any) -> None: ...

    names = {declaration.workflow_name for declaration in schedules.declared_schedules()}
    assert names == {Clock.tick.__qualname__, Clock.tock.__qualname__}


# ---- steps and transactions ----------------------------------------------------------------------------------


@database
def test_methods_that_are_steps_or_transactions_are_recorded_under_their_qualified_names() -> None:
    @workflow
    def using() -> list[Any]:
        return [PRAGUE.note("a"), Shop.age(1990), Shop.double(2), PRAGUE.book("b"), OSLO.double(3)]

    with SetWorkflowID("w"):
        assert using() == ["a", 10, 4, "b", 6]
    names = ["Shop.note", "Shop.age", "Shop.double", "Shop.book", "Shop.double"]
    assert list(Step.objects.values_list("name", flat=True)) == names
    assert again("w") == ["a", 10, 4, "b", 6]
    assert Row.objects.get().name == "Prague: b"


def test_outside_a_workflow_a_method_that_is_a_step_is_a_plain_call() -> None:
    assert PRAGUE.note("x") == "x"
    assert SmallShop.age(1999) == 1
    assert Shop.double(PRAGUE.double(2)) == 8


@database
@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        (PRAGUE.note, ["a"], "a"),
        (OSLO.anote, ["b"], "b"),
        (PRAGUE.book, ["c"], "c"),
        (SmallShop.age, [1990], 10),
        (Shop.double, [2], 4),
    ],
    ids=["instance", "async", "transaction", "class", "static"],
)
def test_a_method_that_is_a_step_can_be_started_alone(function: Any, args: list[Any], result: Any) -> None:
    with Runtime():
        assert start_workflow(function, *args).get_result(timeout=10) == result
        assert QUEUE.enqueue(function, *args).get_result(timeout=10) == result


# ---- what is refused -----------------------------------------------------------------------------------------


def test_two_instances_of_one_class_cannot_have_the_same_name() -> None:
    with pytest.raises(DuplicateRegistration, match=r"instance 'Prague' of Shop"):
        Shop("Prague")
    assert class_registry.find("Shop", "Prague") is PRAGUE


def test_two_classes_cannot_have_the_same_name() -> None:
    with pytest.raises(DuplicateRegistration, match=r"'Shop'.*class_name="):

        @dbos_class(class_name="Shop")
        class Impostor: ...

    assert class_registry.find("Shop", "") is Shop


def test_a_reloaded_class_and_its_instances_replace_their_former_selves() -> None:
    def reload() -> type[ConfiguredInstance]:
        @dbos_class
        class Reloaded(ConfiguredInstance): ...

        return Reloaded

    reload()("it")
    cls = reload()
    instance = cls("it")
    assert class_registry.find(class_registry.name_of(cls), "it") is instance
    assert class_registry.find(class_registry.name_of(cls), "") is cls


@pytest.mark.parametrize("name", ["", "x" * 256, 7, None])
def test_a_bad_name_is_refused_at_once(name: Any) -> None:
    with pytest.raises(InvalidOption, match="An instance's name"):
        Shop(name)
    if name is not None:
        with pytest.raises(InvalidOption, match="A class's name"):
            dbos_class(class_name=name)(type("Nameless", (), {}))


def test_the_decorator_is_for_classes() -> None:
    decorate: Any = dbos_class
    with pytest.raises(InvalidOption, match="class_name='shop'"):
        decorate("shop")


@database
def test_a_class_that_was_not_registered_is_refused_with_the_remedy() -> None:
    class Unregistered(ConfiguredInstance):
        @classmethod
        @workflow
        def of_class(cls) -> None: ...

    class Subclass(Shop): ...

    for call in (Unregistered.of_class, lambda: start_workflow(Unregistered.of_class), lambda: Unregistered("it")):
        with pytest.raises(InvalidOption, match=r"Unregistered.*@dbos_class"):
            call()
    with pytest.raises(InvalidOption, match=r"Subclass.*@dbos_class"):
        Subclass.founded(1990)
    assert not Workflow.objects.exists()


@database
def test_an_instance_that_other_processes_cannot_find_is_refused_with_the_remedy() -> None:
    @dbos_class
    class Loose:
        @workflow
        def run(self) -> None: ...

    @dbos_class
    class Forgetful(ConfiguredInstance):
        def __init__(self) -> None:
            pass

        @workflow
        def run(self) -> None: ...

    for call in (Loose().run, lambda: start_workflow(Loose().run)):
        with pytest.raises(InvalidOption, match="ConfiguredInstance"):
            call()
    with pytest.raises(InvalidOption, match=r"super\(\)\.__init__\(instance_name\)"):
        Forgetful().run()
    assert not Workflow.objects.exists()


@database
def test_a_models_method_has_its_instance_as_an_argument_like_any_other() -> None:
    def rename(self: Row, name: str) -> str:
        return f"{self.name} -> {name}"

    renaming = workflow(name="Row.rename")(rename)
    one = Row.objects.create(name="one")
    bound = renaming.__get__(one)
    with Runtime():
        assert start_workflow(bound, "two").get_result(timeout=10) == "one -> two"
        assert bound("three") == "one -> three"
    assert set(Workflow.objects.values_list("class_name", "instance_name")) == {("", "")}


def test_a_worker_serves_every_registered_receiver() -> None:
    receivers = class_registry.receivers()
    assert {("Shop", ""), ("Shop", "Oslo"), ("boutique", ""), ("boutique", "Prague")} <= set(receivers)
    assert {"Shop.sell", "<temp>.Shop.note", "Shop.note"} <= set(workflow_registry.claimable_names())


@database
def test_an_instance_that_is_created_while_a_worker_runs_is_served_from_then_on() -> None:
    with Runtime():
        inputs = '{"args": ["tea"], "kwargs": {}}'
        submit(
            Submission(
                id="w",
                name="Shop.sell",
                class_name="Shop",
                instance_name="Rome",
                inputs=inputs,
                serializer="json",
                queue_name="",
            )
        )
        handle: Any = retrieve_workflow("w")
        assert start_workflow(OSLO.sell, "first").get_result(timeout=10)
        assert handle.get_status().status == WorkflowStatus.ENQUEUED
        Shop("Rome")
        try:
            assert handle.get_result(timeout=10) == "tea in Rome"
            eventually(lambda: handle.get_status().status == WorkflowStatus.SUCCESS)
        finally:
            del class_registry._instances["Shop", "Rome"]
