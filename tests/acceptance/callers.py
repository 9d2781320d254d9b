"""Processes that are no workers, and call workflows themselves."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.acceptance.observed import Gate, Ledger
from tests.support import ROOT, process_environment

#: What such a process does: it calls a workflow, as a request or a management command would.
DIRECT_CALL = """
import sys
from pathlib import Path
import django
django.setup()
from django_dbos import SetWorkflowID
from tests.acceptance import workflows
from tests.acceptance.observed import Gate, Ledger

_, name, ledger, gate = sys.argv
with SetWorkflowID("called"):
    print(getattr(workflows, name)(Ledger(Path(ledger)), Gate(Path(gate))), flush=True)
"""


@contextmanager
def direct_call(workflow: str, ledger: Ledger, gate: Gate) -> Iterator[subprocess.Popen[str]]:
    """A process that calls a workflow of two arguments under the id "called" and prints its result."""
    with subprocess.Popen(
        [sys.executable, "-c", DIRECT_CALL, workflow, str(ledger.path), str(gate.path)],
        cwd=ROOT,
        env=process_environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
