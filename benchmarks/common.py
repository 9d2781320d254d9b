"""What all benchmarks share: figures, clocks, processes. Only the standard library, for the peers use it too."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

OURS, POSTGRESQL, DBOS, CELERY = "django-dbos", "PostgreSQL", "DBOS", "Celery"
#: Peer -> the environment variable that names its Python, if it lives in another virtual environment; empty: leave out.
PYTHONS = {DBOS: "BENCHMARKS_DBOS_PYTHON", CELERY: "BENCHMARKS_CELERY_PYTHON"}
#: How much of a failed process's output is shown, in characters.
TAIL = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one contestant reached in one line of a workload."""

    workload: str
    line: str
    unit: str
    who: str
    value: float
    less_is_better: bool = False


@dataclass(slots=True, kw_only=True)
class Bench:
    """One run of one workload: its size, its contestants, and the figures that come out of it."""

    workload: str
    scale: float = 1.0
    rows: int = 200_000
    figures: list[Figure] = field(default_factory=list)

    def size(self, full: int, least: int = 2) -> int:
        """How many of something to do, which are ``full`` in a real run."""
        return max(least, round(full * self.scale))

    def rate(self, who: str, line: str, unit: str, value: float) -> None:
        """Write down how many of something were done in a second."""
        self._add(Figure(workload=self.workload, line=line, unit=unit, who=who, value=value))

    def cost(self, who: str, line: str, unit: str, value: float) -> None:
        """Write down what something cost: less is better."""
        self._add(Figure(workload=self.workload, line=line, unit=unit, who=who, value=value, less_is_better=True))

    def latency(self, who: str, line: str, seconds: Sequence[float]) -> None:
        """Write down how long something took: the median, and what 95 of 100 stayed below."""
        self.cost(who, f"{line}, p50", "ms", percentile(seconds, 0.50) * 1000)
        self.cost(who, f"{line}, p95", "ms", percentile(seconds, 0.95) * 1000)

    def peer(self, who: str, task: str, **options: Any) -> dict[str, Any]:
        """Let a peer do a task in a process of its own; what it measured, nothing if it is not installed."""
        python = os.environ.get(PYTHONS[who], "")
        return run_peer(python, who, task, options) if python else {}

    def _add(self, figure: Figure) -> None:
        self.figures.append(figure)

    def write(self) -> None:
        """Write the figures to standard output, one JSON object per line."""
        for figure in self.figures:
            say(json.dumps(asdict(figure)))


def say(text: str = "") -> None:
    """Write a line to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


# ---- clocks


def per_second(count: int, work: Callable[[], object]) -> float:
    """How many were done in a second, if ``work`` does ``count`` of them."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def percentile(values: Sequence[float], part: float) -> float:
    """What ``part`` (0.95, say) of the values stay below, between two of them if need be."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * part
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def at_random(count: int, least: float, most: float) -> Iterator[int]:
    """Numbers from 0, with a pause before each; the same pauses in each run, and in step with nobody's polling."""
    pauses = random.Random(7)
    for number in range(count):
        time.sleep(pauses.uniform(least, most))
        yield number


def delays(count: int) -> Iterator[float]:
    """So many delays of a workflow that somebody waits for, in seconds; the same in each run."""
    chosen = random.Random(3)
    return (chosen.uniform(0.3, 1.3) for _ in range(count))


def wait_until(
    condition: Callable[[], object], *workers: "Worker", timeout: float = 300.0, pause: float = 0.05
) -> None:
    """Ask until the answer is true. Raises if it takes too long, or a worker has ended meanwhile."""
    deadline = time.monotonic() + timeout
    while not condition():
        for worker in workers:
            if not worker.is_alive:
                raise RuntimeError(f"a worker has ended:\n{worker.output}")
        if time.monotonic() >= deadline:
            raise TimeoutError(f"not done after {timeout:g} s")
        time.sleep(pause)


# ---- processes


class Worker:
    """A process that works until the block is left."""

    def __init__(self, *command: str, env: dict[str, str] | None = None) -> None:
        self._command = command
        self._env = {**os.environ, **(env or {})}

    def __enter__(self) -> "Worker":
        handle, path = tempfile.mkstemp(prefix="benchmarks-", suffix=".log")
        self._log = Path(path)
        self._process = subprocess.Popen(
            self._command, cwd=ROOT, env=self._env, stdout=handle, stderr=handle, start_new_session=True
        )
        os.close(handle)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
        self._log.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-TAIL:]


def dbos_worker(*options: str) -> Worker:
    """A real worker of ours."""
    return Worker(sys.executable, "manage.py", "dbos_worker", *options)


def run_peer(python: str, who: str, task: str, options: dict[str, Any]) -> dict[str, Any]:
    """Let a peer do a task; what it measured, nothing (and a line that says so) if it could not."""
    module = f"benchmarks.peers.{who.lower()}_peer"
    done = subprocess.run(
        [python, "-m", module, task, json.dumps(options)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        sys.stderr.write(f"{who} could not do {task!r}, it is left out:\n{(done.stderr or done.stdout)[-TAIL:]}\n")
        return {}
    return answer


@contextmanager
def workers(makers: Iterable[Worker]) -> Iterator[list[Worker]]:
    """Several workers for the length of a block."""
    with ExitStack() as stack:
        yield [stack.enter_context(worker) for worker in makers]


def answer_as_peer(tasks: dict[str, Callable[..., dict[str, Any]]]) -> None:
    """The main program of a peer: the task and its options are arguments, the answer is the last line it writes."""
    task, options = sys.argv[1], json.loads(sys.argv[2])
    say(json.dumps(tasks[task](**options)))


# ---- what an idle process costs


def idle_costs(
    pid: int, transactions: Callable[[], int], connections: Callable[[], int], seconds: float
) -> dict[str, Any]:
    """What a process with nothing to do asks of its server and of its processor, per second."""
    time.sleep(min(seconds, 5))  # until what came before is over, and counted
    before, cpu, started = transactions(), cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    passed = time.monotonic() - started
    return {
        "requests": (transactions() - before) / passed,
        "connections": connections(),
        "cpu": (cpu_seconds(pid) - cpu) / passed * 100,
    }


def cpu_seconds(pid: int) -> float:
    """Processor time that a process and its children have used."""
    import psutil  # of the development tools; no other benchmark needs it

    process = psutil.Process(pid)
    times = [member.cpu_times() for member in (process, *process.children(recursive=True))]
    return float(sum(time.user + time.system for time in times))


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)
