"""Views as workflows."""

import http.client
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, connections
from django.test import AsyncClient, Client, TransactionTestCase

from django_dbos.models import Workflow
from tests.acceptance.conftest import busy_sessions
from tests.acceptance.observed import Gate
from tests.models import Effect, Row
from tests.support import WorkerProcess, eventually

KEY = {"Idempotency-Key": "5c2f"}


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("ada", password="x")


# ---- what a view is given, and what it gives ------------------------------------------------------------------


@pytest.mark.django_db
class TestView:
    """A workflow that is a view is called like one."""

    def test_the_request_and_the_response(self, client: Client, user: User) -> None:
        user.groups.set([Group.objects.create(name="editors"), Group.objects.create(name="cooks")])
        client.force_login(user)
        response = client.post("/views/pay/7/?a=1", {"name": "x"}, headers={"User-Agent": "test"})
        assert response.status_code == 201
        assert response["X-Paid"] == "yes"
        assert response.cookies["paid"].value == "7"
        row = Workflow.objects.get()
        assert response.json() == {
            "charged": 1,
            "workflow": row.pk,
            "user": "ada",
            "identity": ["ada", ["cooks", "editors"]],
            "query": {"a": "1"},
            "agent": "test",
            "cookie": None,
        }
        assert (row.name, row.status) == ("views.pay", "SUCCESS")
        assert (row.authenticated_user, row.authenticated_roles) == ("ada", ["cooks", "editors"])

    def test_required_roles(self, client: Client, user: User) -> None:
        assert client.get("/views/edit/").status_code == 403
        client.force_login(user)
        assert client.get("/views/edit/").status_code == 403
        assert not Workflow.objects.exists()
        user.groups.add(Group.objects.create(name="editors"))
        assert client.get("/views/edit/").content == b"editors"

    def test_nobody(self, client: Client) -> None:
        answer = client.post("/views/pay/7/").json()
        assert (answer["user"], answer["identity"]) == ("", [None, []])

    def test_without_a_key_each_request_is_its_own(self, client: Client) -> None:
        assert [client.post("/views/pay/7/").json()["charged"] for _ in range(2)] == [1, 2]

    def test_other_decorators_hold(self, client: Client) -> None:
        assert client.get("/views/pay/7/").status_code == 405
        assert client.get("/views/atomic/").status_code == 302
        assert not Workflow.objects.exists()

    def test_csrf_exempt_holds_above_and_below(self) -> None:
        client = Client(enforce_csrf_checks=True)
        assert client.post("/views/pay/7/").status_code == 201
        assert client.post("/views/apay/7/", "{}", content_type="application/json").status_code == 200
        assert client.post("/views/upload/").status_code == 403

    def test_an_error_is_the_responses(self, client: Client) -> None:
        for _ in range(2):
            assert client.get("/views/missing/", headers=KEY).status_code == 404
        assert Row.objects.count() == 1
        assert Workflow.objects.get().status == "ERROR"


@pytest.mark.django_db
class TestIdempotencyKey:
    """The same request has one response."""

    def test_a_repeated_request_gets_the_recorded_response(self, client: Client) -> None:
        first = client.post("/views/pay/7/", {"name": "x"}, headers=KEY)
        again = client.post("/views/pay/7/", {"name": "not looked at"}, headers=KEY)
        assert again.content == first.content
        assert (again.status_code, again["X-Paid"], again["Content-Type"]) == (201, "yes", first["Content-Type"])
        assert again.cookies["paid"].output() == first.cookies["paid"].output()
        assert Row.objects.get().name == "7 x"

    def test_another_key_path_method_or_view_is_another_request(self, client: Client) -> None:
        client.post("/views/pay/7/", headers=KEY)
        client.post("/views/pay/8/", headers=KEY)
        client.post("/views/pay/7/", headers={"Idempotency-Key": "6d30"})
        client.get("/views/missing/", headers=KEY)
        client.head("/views/missing/", headers=KEY)
        assert Row.objects.count() == 5

    def test_each_user_has_his_own(self, client: Client, user: User) -> None:
        client.post("/views/pay/7/", headers=KEY)
        client.force_login(user)
        assert client.post("/views/pay/7/", headers=KEY).json()["user"] == "ada"
        client.force_login(User.objects.create_user("bob"))
        assert client.post("/views/pay/7/", headers=KEY).json()["user"] == "bob"

    def test_each_token_has_its_own(self, client: Client) -> None:
        for token in ("a", "b", "a"):
            client.post("/views/pay/7/", headers={**KEY, "Authorization": f"Token {token}"})
        assert Row.objects.count() == 2

    @pytest.mark.parametrize("key", ["x" * 1000, "žluťoučký", '"quoted"'])
    def test_any_key_will_do(self, client: Client, key: str) -> None:
        for _ in range(2):
            client.post("/views/pay/7/", headers={"Idempotency-Key": key})
        assert Row.objects.count() == 1

    def test_an_empty_key_is_a_bad_request(self, client: Client) -> None:
        assert client.post("/views/pay/7/", headers={"Idempotency-Key": " "}).status_code == 400
        assert not Workflow.objects.exists()


@pytest.mark.django_db
class TestForms:
    """A body that somebody has read before the view is stored all the same."""

    def test_files_which_the_check_for_csrf_has_parsed(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.cookies["csrftoken"] = "a" * 32
        files = [
            SimpleUploadedFile("ž.txt", b"one", "text/plain"),
            SimpleUploadedFile('q"uoted.txt', b"t\r\nwo", "text/x-special"),
        ]
        data = {"csrfmiddlewaretoken": "a" * 32, "name": ["x", "y"], "file": files}
        for _ in range(2):
            response = client.post("/views/upload/", data, headers=KEY)
            assert response.json() == {
                "names": ["x", "y"],
                "files": [["ž.txt", "text/plain", "one"], ["q%22uoted.txt", "text/x-special", "t\r\nwo"]],
            }
            for file in files:
                file.seek(0)
        assert Workflow.objects.count() == 1

    def test_fields_which_the_check_for_csrf_has_parsed(self) -> None:
        client = Client(enforce_csrf_checks=True)
        client.cookies["csrftoken"] = "a" * 32
        data = "csrfmiddlewaretoken=" + "a" * 32 + "&name=x"
        response = client.post("/views/upload/", data, content_type="application/x-www-form-urlencoded")
        assert response.json() == {"names": ["x"], "files": []}


# ---- async ---------------------------------------------------------------------------------------------------


class TestAsync(TransactionTestCase):
    """An async view is an async workflow."""

    async def test_a_repeated_request_gets_the_recorded_response(self) -> None:
        client = AsyncClient()
        user = await User.objects.acreate_user("ada")
        await client.aforce_login(user)
        for _ in range(2):
            response = await client.post("/views/apay/7/", {"x": 1}, content_type="application/json", headers=KEY)
            assert response.json() == {"charged": [7, 1], "body": {"x": 1}}
        assert await Workflow.objects.acount() == 1


# ---- ATOMIC_REQUESTS -----------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_atomic_requests_are_not_for_it(client: Client, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    client.force_login(user)
    assert client.get("/views/atomic/").content == b"False"
    assert client.post("/views/pay/7/").status_code == 201
    assert client.post("/views/apay/7/", "{}", content_type="application/json").status_code == 200


# ---- for real ------------------------------------------------------------------------------------------------


class WebProcess(WorkerProcess):
    """A real web server on the databases of the running test."""

    def __init__(self) -> None:
        super().__init__()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def command(self) -> list[str]:
        """See WorkerProcess.command()."""
        return [sys.executable, "-m", "django", "runserver", "--noreload", f"127.0.0.1:{self.port}"]

    def request(self, gate: Path) -> tuple[int, bytes]:
        """Ask for the view that is held at ``gate``; status and body of the response."""
        ours = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            ours.request("POST", f"/views/held/?gate={quote(str(gate))}", headers=KEY)
            response = ours.getresponse()
            return response.status, response.read()
        finally:
            ours.close()

    def is_listening(self) -> bool:
        """Whether it takes requests."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def web() -> Iterator[WebProcess]:
    with WebProcess() as process:
        eventually(process.is_listening, 30)
        yield process


@pytest.mark.django_db(transaction=True)
def test_a_retry_gets_the_answer_of_a_worker_that_took_over(web: WebProcess, start_worker: Any, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    answers: list[tuple[int, bytes]] = []

    def ask() -> None:
        answers.append(web.request(gate.path))

    def lose() -> None:
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            web.request(gate.path)

    lost = threading.Thread(target=lose)
    lost.start()
    assert gate.wait_held() == web.pid
    web.kill()
    lost.join()
    worker = start_worker()
    with WebProcess() as another:
        eventually(another.is_listening, 30)
        web.port = another.port
        retry = threading.Thread(target=ask)
        retry.start()
        retry.join()
    [(status, body)] = answers
    assert status == 200
    assert body == b'{"charged": 1, "pid": %d}' % worker.pid
    assert Row.objects.count() == 1
    assert Effect.objects.count() == 2
    worker.close()
    if connection.vendor == "postgresql":  # before the tables are emptied under them
        eventually(lambda: not busy_sessions(), message="a session is still at work")
