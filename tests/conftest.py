"""Fixtures and session-wide rules of the suite."""

import glob
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest
from django.conf import settings

from tests.support import WorkerProcess

hypothesis.settings.register_profile("suite", deadline=None, print_blob=True)
hypothesis.settings.load_profile("suite")

#: How long a thread that was told to end may take for its last lines, in seconds.
GRACE = 2.0


def pytest_unconfigure() -> None:
    """Remove the SQLite files of this run; a killed worker leaves its journal files behind."""
    for path in glob.glob(glob.escape(settings.SQLITE) + "*.sqlite3*"):
        Path(path).unlink(missing_ok=True)


@pytest.fixture(autouse=True)
def no_leaked_threads() -> Iterator[None]:
    """Fail a test that leaves a thread of ours behind."""
    before = set(threading.enumerate())
    yield
    ours = [thread for thread in threading.enumerate() if thread not in before and thread.name.startswith("dbos-")]
    for thread in ours:
        thread.join(GRACE)
    leaked = sorted(thread.name for thread in ours if thread.is_alive())
    if leaked:
        pytest.fail(f"threads survived the test: {', '.join(leaked)}. Whoever starts a thread stops and joins it.")


@pytest.fixture(autouse=True)
def stopped_heart(_django_db_helper: None) -> Iterator[None]:
    """A direct call starts a heart for this process, a long wait an ear; they stop before the tables are emptied."""
    yield
    from django_dbos.runtime.ear import stop_ear  # not before the apps are ready
    from django_dbos.runtime.heart import stop_heart

    stop_heart()
    stop_ear()


@pytest.fixture
def start_worker() -> Iterator[Callable[..., WorkerProcess]]:
    """
    ``start_worker(*args, env=...)`` starts a ``WorkerProcess`` and waits until it is ready.

    All of them are gone after the test; their output is shown if the test fails.
    """
    with ExitStack() as stack:

        def start(*args: str, env: dict[str, str] | None = None, ready: bool = True) -> WorkerProcess:
            worker = WorkerProcess(*args, env=env)
            stack.callback(worker.close)
            stack.callback(lambda: print(worker.report()))  # noqa: T201 - pytest shows it with a failure
            worker.start()
            if ready:
                worker.wait_ready()
            return worker

        yield start
