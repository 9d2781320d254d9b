"""Workflows of one step, each started and its result awaited, in a process that has a worker."""

from concurrent.futures import ThreadPoolExecutor

from django_dbos import Runtime, start_workflow

from . import postgresql
from .common import DBOS, OURS, POSTGRESQL, Bench, per_second

AT_A_TIME = 16
ALONE, TOGETHER = "one at a time", f"{AT_A_TIME} at a time"


def measure(bench: Bench) -> None:
    """A workflow is two commits at least, its start and its end; so is a row that is inserted and then updated."""
    from .workflows import one_step

    count = bench.size(1000, least=AT_A_TIME)

    def start(number: int) -> int:
        return start_workflow(one_step, number).get_result()

    bench.rate(POSTGRESQL, ALONE, "workflows/s", postgresql.inserts_and_updates(count))
    bench.rate(POSTGRESQL, TOGETHER, "workflows/s", postgresql.inserts_and_updates_together(4 * count, AT_A_TIME))
    with Runtime(), ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(start, range(bench.size(50))))
        bench.rate(OURS, ALONE, "workflows/s", per_second(count, lambda: [start(number) for number in range(count)]))
        bench.rate(OURS, TOGETHER, "workflows/s", per_second(count, lambda: list(pool.map(start, range(count)))))
    dbos = bench.peer(DBOS, "starts", count=count, at_a_time=AT_A_TIME)
    for line, rate in dbos.items():
        bench.rate(DBOS, line, "workflows/s", rate)


if __name__ == "__main__":
    from .__main__ import main

    main(["starts"])
