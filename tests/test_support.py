"""The suite's own tools do what the other tests rely on."""

import os
import signal
import subprocess
import sys

import pytest
from django.db import connections

from tests.models import Row
from tests.support import ROOT, WorkerProcess, eventually, run_python

#: Keeps the contract of dbos_worker, and nothing else of it.
FAKE = """
import signal, sys, threading
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
print("dbos_worker fake-1 ready", flush=True)
stop.wait()
print("bye", file=sys.stderr)
"""


class FakeWorker(WorkerProcess):
    script = FAKE

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.script]


class BrokenWorker(FakeWorker):
    script = "raise SystemExit('no such table: dbos_workflow')"


def test_eventually_returns_the_answer() -> None:
    answers = iter([0, 0, 7])
    assert eventually(lambda: next(answers)) == 7


def test_eventually_says_what_it_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"no row after 0\.05 s(?s:.)*1 > 2(?s:.)*last: False"):
        eventually(lambda: 1 > 2, 0.05, message="no row")


def test_eventually_takes_an_assertion_as_not_yet() -> None:
    def condition() -> bool:
        raise AssertionError("not yet")

    with pytest.raises(AssertionError, match="not yet"):
        eventually(condition, 0.05)


def test_eventually_lets_other_errors_through() -> None:
    with pytest.raises(ZeroDivisionError):
        eventually(lambda: 1 / 0)


def test_worker_stops_with_its_exit_code() -> None:
    with FakeWorker() as worker:
        assert worker.wait_ready() == worker.executor_id == "fake-1"
        assert worker.stop() == 0
        assert "bye" in worker.output


def test_worker_dies_by_sigkill() -> None:
    with FakeWorker() as worker:
        worker.wait_ready()
        worker.kill()
        assert worker.process.returncode == -signal.SIGKILL


def test_suspended_worker_goes_on() -> None:
    with FakeWorker() as worker:
        worker.wait_ready()
        worker.suspend()
        worker.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(0.2)
        worker.cont()
        assert worker.wait() == 0


def test_suspended_worker_is_cleaned_up() -> None:
    with FakeWorker() as worker:
        worker.wait_ready()
        worker.suspend()
    assert worker.process.returncode == -signal.SIGKILL


def test_worker_that_ends_is_not_waited_for() -> None:
    with pytest.raises(AssertionError, match=r"it has ended(?s:.)*no such table") as caught, BrokenWorker() as worker:
        worker.wait_ready(timeout=30)
    assert "no such table" in caught.value.__notes__[0]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("alias", ["default", "other"])
def test_another_process_shares_the_databases_of_the_test(alias: str) -> None:
    Row.objects.using(alias).create(name=f"written by {os.getpid()}")
    done = run_python(
        "-c",
        "import django; django.setup()\n"
        "from tests.models import Row\n"
        f"print(Row.objects.using({alias!r}).get().name)\n"
        f"Row.objects.using({alias!r}).create(name='written there')\n",
    )
    assert done.stdout.strip() == f"written by {os.getpid()}", done.stderr
    assert Row.objects.using(alias).filter(name="written there").exists()


def test_the_two_databases_are_two() -> None:
    assert connections["default"].settings_dict["NAME"] != connections["other"].settings_dict["NAME"]


LEAKY = """
import threading

def test_leak():
    threading.Thread(target=threading.Event().wait, name="dbos-leaked", daemon=True).start()

def test_clean():
    thread = threading.Thread(target=int, name="dbos-clean")
    thread.start()
    thread.join()
"""


def test_a_leaked_thread_fails_its_test(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeconftest("from tests.conftest import no_leaked_threads")
    pytester.makepyfile(LEAKY)
    result = pytester.runpytest_subprocess("-p", "no:django", "-p", "no:randomly")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*threads survived the test: dbos-leaked*"])
