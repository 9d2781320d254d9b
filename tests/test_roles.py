"""Roles: who may run what, asked at the call and again at the claim."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, Group, Permission, User

from django_dbos import (
    ConfiguredInstance,
    EnqueueOptions,
    Queue,
    Runtime,
    SetAuthentication,
    SetWorkflowID,
    assumed_role,
    authenticated_user,
    dbos_class,
    default_required_roles,
    enqueue_many,
    enqueue_workflow_with_options,
    required_roles,
    retrieve_workflow,
    start_workflow,
    step,
    transaction,
    workflow,
)
from django_dbos.exceptions import InvalidOption, NotAuthorized
from django_dbos.models import Step, Workflow
from django_dbos.states import WorkflowStatus
from tests.models import Row

database = pytest.mark.django_db(transaction=True)

QUEUE = Queue("roles")
runs: list[Any] = []


@pytest.fixture(autouse=True)
def no_runs() -> None:
    runs.clear()


@required_roles(["editor", "admin"])
@workflow
def publish(title: str) -> str | None:
    runs.append(title)
    return assumed_role()


@workflow
@required_roles(["editor", "admin"])
async def apublish(title: str) -> str | None:
    runs.append(title)
    return assumed_role()


@workflow
def nested(title: str) -> list[str | None]:
    return [assumed_role(), publish(title), start_workflow(publish, title).get_result(), unguarded()]


@workflow
def unguarded() -> str | None:
    return assumed_role()


publishing = pytest.mark.parametrize("function", [publish, apublish], ids=["sync", "async"])


def run(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function, sync or async."""
    return async_to_sync(function)(*args) if asyncio.iscoroutinefunction(function) else function(*args)


def again(workflow_id: str) -> Any:
    """Run a finished workflow a second time, from its records, as a recovery would."""
    Workflow.objects.filter(pk=workflow_id).update(status="ENQUEUED", output=None, error=None, completed_at=None)
    with Runtime():
        return retrieve_workflow(workflow_id).get_result(timeout=10)


# ---- at the call ---------------------------------------------------------------------------------------------


@database
@publishing
def test_the_first_required_role_that_is_held_is_assumed_and_written_down(function: Any) -> None:
    with SetAuthentication("ada", ["reader", "admin", "editor"]):
        assert run(function, "a") == "editor"
    with SetAuthentication("ada", ["admin"]), Runtime():
        assert start_workflow(function, "b").get_result(timeout=10) == "admin"
        assert QUEUE.enqueue(function, "c").get_result(timeout=10) == "admin"
    assert set(Workflow.objects.values_list("authenticated_user", "assumed_role")) == {
        ("ada", "editor"),
        ("ada", "admin"),
    }


@database
@publishing
@pytest.mark.parametrize("roles", [[], ["reader"], ["Editor"]])
def test_who_holds_none_is_refused_and_nothing_is_written(function: Any, roles: list[str]) -> None:
    with SetAuthentication("eve", roles):
        for call in (lambda: run(function, "a"), lambda: start_workflow(function, "a")):
            with pytest.raises(NotAuthorized, match=rf"'eve'.*{function.__name__}\(\) requires: editor, admin"):
                call()
        with pytest.raises(NotAuthorized):
            enqueue_many(QUEUE, function, [("a",), ("b",)])
    with pytest.raises(NotAuthorized, match="Nobody is authenticated"):
        run(function, "a")
    assert NotAuthorized.code == "not_authorized"
    assert not Workflow.objects.exists()
    assert not runs


@database
def test_many_enqueues_have_the_role_of_their_caller() -> None:
    with SetAuthentication("ada", ["admin"]):
        enqueue_many(QUEUE, publish, [("a",), ("b",)])
        enqueue_many(QUEUE, publish, [])
    assert list(Workflow.objects.values_list("assumed_role", flat=True)) == ["admin", "admin"]


@database
def test_children_are_asked_for_their_own_roles_and_inherit_the_assumed_one() -> None:
    with SetAuthentication("ada", ["admin"]), SetWorkflowID("w"), Runtime():
        assert start_workflow(nested, "a").get_result(timeout=10) == [None, "admin", "admin", None]

    @required_roles(["admin"])
    @workflow
    def boss() -> str | None:
        return unguarded()

    with SetAuthentication("ada", ["admin"]):
        assert boss() == "admin"


@database
def test_that_a_child_was_refused_is_recorded() -> None:
    @workflow
    def careful() -> str:
        try:
            publish("a")
        except NotAuthorized as denial:
            return str(denial)
        return "published"

    with SetWorkflowID("w"):
        assert "requires" in careful()
    Workflow.objects.update(authenticated_user="ada", authenticated_roles=["admin"])
    assert "requires" in again("w")
    assert Step.objects.get(workflow_id="w").error
    assert Workflow.objects.count() == 1


# ---- at the claim --------------------------------------------------------------------------------------------


@database
@publishing
def test_a_role_is_asked_for_again_at_the_claim_and_denial_ends_in_error(function: Any) -> None:
    with SetAuthentication("ada", ["editor"]):
        handle = start_workflow(function, "a")
    Workflow.objects.update(authenticated_roles=["reader"])
    with Runtime(), pytest.raises(NotAuthorized):
        handle.get_result(timeout=10)
    assert handle.get_status().status == WorkflowStatus.ERROR
    assert not runs


@database
@publishing
def test_another_role_may_be_assumed_at_the_claim(function: Any) -> None:
    with SetAuthentication("ada", ["editor"]):
        handle = start_workflow(function, "a")
    Workflow.objects.update(authenticated_roles=["admin"])
    with Runtime():
        assert handle.get_result(timeout=10) == "admin"
    assert handle.get_status().assumed_role == "admin"


@database
def test_an_enqueue_by_name_is_asked_at_the_claim() -> None:
    allowed, denied = (
        enqueue_workflow_with_options(
            EnqueueOptions(
                workflow_name="publish",
                queue_name="roles",
                authenticated_user="ada",
                authenticated_roles=roles,
            ),
            "a",
        )
        for roles in (["admin"], ["reader"])
    )
    with Runtime():
        assert allowed.get_result(timeout=10) == "admin"
        with pytest.raises(NotAuthorized):
            denied.get_result(timeout=10)
    assert allowed.get_status().assumed_role == "admin"


# ---- Django's users ------------------------------------------------------------------------------------------


@pytest.fixture
def ada(transactional_db: None) -> User:
    user = User.objects.create_user("ada")
    user.groups.add(Group.objects.create(name="editor"))
    return user


@publishing
def test_the_names_of_a_users_groups_are_roles(ada: User, function: Any) -> None:
    for name in ("ada", str(ada.pk)):
        with SetAuthentication(name, []):
            assert run(function, "a") == "editor"
            handle = start_workflow(function, "b")
        with Runtime():
            assert handle.get_result(timeout=10) == "editor"
    with SetAuthentication("ada", []):
        handle = start_workflow(function, "c")
    ada.groups.clear()
    with Runtime(), pytest.raises(NotAuthorized):
        handle.get_result(timeout=10)


def test_a_users_permissions_are_roles(ada: User) -> None:
    @required_roles(["tests.delete_row", "tests.add_row"])
    @workflow
    def adding() -> str | None:
        return assumed_role()

    with SetAuthentication("ada", []):
        with pytest.raises(NotAuthorized):
            adding()
        ada.user_permissions.add(Permission.objects.get(codename="add_row", content_type__app_label="tests"))
        assert adding() == "tests.add_row"
    User.objects.create_superuser("root")
    with SetAuthentication("root", []):
        assert adding() == "tests.delete_row"


def test_an_inactive_user_holds_nothing_by_his_account(ada: User) -> None:
    User.objects.update(is_active=False)
    with SetAuthentication("ada", []), pytest.raises(NotAuthorized):
        publish("a")
    with SetAuthentication("ada", ["admin"]):
        assert publish("a") == "admin"


def test_a_text_that_may_mean_two_users_means_neither(ada: User) -> None:
    other = User.objects.create_user(str(ada.pk))
    other.groups.add(Group.objects.get(name="editor"))
    with SetAuthentication(str(ada.pk), []), pytest.raises(NotAuthorized):
        publish("a")
    for name in ("nobody", "999999999999999999999", str(other.pk + 1)):
        with SetAuthentication(name, []), pytest.raises(NotAuthorized):
            publish("a")


def test_a_user_can_be_given_as_the_object_that_a_request_has(ada: User) -> None:
    with SetAuthentication(ada):
        assert authenticated_user() == "ada"
        assert publish("a") == "editor"
    with SetAuthentication(AnonymousUser()):
        assert authenticated_user() is None
        with pytest.raises(NotAuthorized):
            publish("a")


# ---- classes -------------------------------------------------------------------------------------------------


@default_required_roles(["staff"])
@dbos_class
class Office(ConfiguredInstance):
    """Where only the staff works."""

    @workflow
    def open(self) -> str | None:
        return assumed_role()

    @required_roles(["boss"])
    @workflow
    def close(self) -> str | None:
        return assumed_role()

    @required_roles([])
    @workflow
    def visit(self) -> str | None:
        return assumed_role()

    @classmethod
    @workflow
    def found(cls) -> str | None:
        return assumed_role()

    @required_roles(["boss"])
    @workflow
    @classmethod
    def dissolve(cls) -> str | None:
        return assumed_role()

    @workflow
    @staticmethod
    def call() -> str | None:
        return assumed_role()

    @step
    def file(self) -> str | None:
        return assumed_role()

    @step
    @staticmethod
    def phone() -> str | None:
        return assumed_role()


@dbos_class
class Branch(Office):
    """Inherits what its methods require."""


@default_required_roles(["clerk"])
@dbos_class
class Annex(Office):
    """Requires another role."""


OFFICE, BRANCH, ANNEX = Office("main"), Branch("main"), Annex("main")


@database
@pytest.mark.parametrize(
    ("function", "role"),
    [
        (OFFICE.open, "staff"),
        (OFFICE.close, "boss"),
        (Office.found, "staff"),
        (Office.dissolve, "boss"),
        (Office.call, "staff"),
        (BRANCH.open, "staff"),
        (Branch.found, "staff"),
        (ANNEX.open, "clerk"),
        (ANNEX.close, "boss"),
        (Annex.found, "clerk"),
        (OFFICE.file, "staff"),
        (ANNEX.file, "clerk"),
        (Office.phone, "staff"),
    ],
    ids=lambda value: getattr(value, "__qualname__", value),
)
def test_methods_require_their_own_roles_or_those_of_their_class(function: Any, role: str) -> None:
    others = sorted({"staff", "boss", "clerk"} - {role})
    with SetAuthentication("ada", others):
        for call in (function, lambda: start_workflow(function)):
            with pytest.raises(NotAuthorized, match=rf": {role}\."):
                call()
    with SetAuthentication("ada", [role]):
        assert function() == role
        handle = start_workflow(function)
    with Runtime():
        assert handle.get_result(timeout=10) == role
    handle.get_status()
    with SetAuthentication("ada", [role]):
        handle = start_workflow(function)
    Workflow.objects.update(authenticated_roles=others)
    with Runtime(), pytest.raises(NotAuthorized):
        handle.get_result(timeout=10)


@database
def test_an_empty_list_asks_for_nothing_whatever_the_class_says() -> None:
    assert OFFICE.visit() is None


@database
def test_a_default_holds_for_methods_whose_instance_is_an_argument() -> None:
    @default_required_roles(["staff"])
    class Desk:
        @workflow(name="Desk.sit")
        def sit(self) -> str | None:
            return assumed_role()

    row: Any = Row.objects.create(name="desk")
    with pytest.raises(NotAuthorized):
        Desk.sit(row)


# ---- steps and plain functions -------------------------------------------------------------------------------


@database
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("decorator", [step, transaction], ids=["step", "transaction"])
@pytest.mark.parametrize("is_above", [False, True], ids=["below", "above"])
def test_a_step_asks_when_it_is_called(decorator: Any, is_async: bool, is_above: bool) -> None:
    def sync_body() -> str | None:
        runs.append(assumed_role())
        return assumed_role()

    async def async_body() -> str | None:
        return sync_body()

    body: Any = async_body if is_async else sync_body
    decorate, require = decorator(name=f"asking-{decorator.__name__}-{is_async}-{is_above}"), required_roles(["admin"])
    asking: Any = require(decorate(body)) if is_above else decorate(require(body))

    async def aworkflow() -> Any:
        try:
            return [await asking(), assumed_role()]
        except NotAuthorized:
            return "denied"

    def sync_workflow() -> Any:
        try:
            return [asking(), assumed_role()]
        except NotAuthorized:
            return "denied"

    calling: Any = workflow(name=f"calling-{decorator.__name__}-{is_async}-{is_above}")(
        aworkflow if is_async else sync_workflow
    )
    with SetAuthentication("ada", ["admin"]):
        assert run(calling) == ["admin", None]
        assert run(asking) == "admin"
    assert len(runs) == 2
    with SetAuthentication("eve", []), SetWorkflowID("denied"):
        assert run(calling) == "denied"
        with pytest.raises(NotAuthorized):
            run(asking)
    assert len(runs) == 2
    assert Step.objects.get(workflow_id="denied").error
    Workflow.objects.update(authenticated_roles=["admin"])
    assert again("denied") == "denied"  # as it was recorded


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_plain_function_asks_too(is_async: bool) -> None:
    def sync_plain() -> str | None:
        return assumed_role()

    async def async_plain() -> str | None:
        return assumed_role()

    plain: Any = required_roles(["admin"])(async_plain if is_async else sync_plain)
    with SetAuthentication(None, ["admin"]):
        assert run(plain) == "admin"
        assert assumed_role() is None
    with pytest.raises(NotAuthorized):
        run(plain)


@pytest.mark.parametrize("roles", ["admin", None, [""], [7]])
def test_bad_roles_are_refused_at_the_decorator(roles: Any) -> None:
    for decorator in (required_roles, default_required_roles):
        with pytest.raises(InvalidOption, match="role"):
            decorator(roles)
