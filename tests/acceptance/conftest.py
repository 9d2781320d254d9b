"""What the acceptance tests share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.observed import Gate, Ledger
from tests.support import WorkerProcess

NewGate = Callable[..., Gate]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """An empty ledger."""
    return Ledger(tmp_path / "ledger.jsonl")


@pytest.fixture
def new_gate(tmp_path: Path) -> NewGate:
    """``new_gate(name, holds=1)``: a closed gate of that name."""
    return lambda name, holds=1: Gate(tmp_path / name, holds)


@pytest.fixture
def gate(new_gate: NewGate) -> Gate:
    """A closed gate."""
    return new_gate("gate")


@pytest.fixture
def start_patient_worker() -> Iterator[Callable[..., WorkerProcess]]:
    """See start_worker(); these workers take nobody for dead, so what goes on elsewhere was handed over."""
    with ExitStack() as stack:

        def start(*args: str) -> WorkerProcess:
            worker = WorkerProcess(*args, settings="tests.acceptance.patient_settings")
            stack.callback(worker.close)
            stack.callback(lambda: print(worker.report()))  # noqa: T201 - pytest shows it with a failure
            worker.start().wait_ready()
            return worker

        yield start
