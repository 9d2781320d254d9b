"""Transactions of one workflow, one row by the ORM in each, committed together with its checkpoint."""

from django.db import transaction

from .common import DBOS, OURS, POSTGRESQL, Bench, per_second

LINE = "one row each"


def measure(bench: Bench) -> None:
    """A transaction is one commit; so is a ``create`` inside ``atomic()``."""
    from .models import Item
    from .workflows import transactions

    count = bench.size(1000)

    def plain() -> None:
        for number in range(count):
            with transaction.atomic():
                Item.objects.create(payload=f"item {number}")

    Item.objects.create(payload="the first opens the connection")
    bench.rate(POSTGRESQL, LINE, "transactions/s", per_second(count, plain))
    transactions(bench.size(50))
    bench.rate(OURS, LINE, "transactions/s", count / transactions(count))
    dbos = bench.peer(DBOS, "transactions", count=count)
    if dbos:
        bench.rate(DBOS, LINE, "transactions/s", dbos[LINE])


if __name__ == "__main__":
    from .__main__ import main

    main(["transactions"])
