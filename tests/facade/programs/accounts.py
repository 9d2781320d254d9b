"""Transactions: the rows that a body writes and its checkpoint are one commit, so money moves once."""

from django.db.models import F

from django_dbos.dbos import DBOS
from tests.models import Product

DBOS(config={"name": "accounts"})


@DBOS.transaction()
def withdraw(account: str, amount: int) -> int:
    Product.objects.filter(name=account).update(stock=F("stock") - amount)
    return Product.objects.get(name=account).stock


@DBOS.transaction(isolation_level="READ COMMITTED")
def deposit(account: str, amount: int) -> int:
    Product.objects.filter(name=account).update(stock=F("stock") + amount)
    return Product.objects.get(name=account).stock


@DBOS.step()
def notify(account: str) -> None:
    if account == "nobody":
        raise LookupError(account)


@DBOS.workflow()
def transfer(source: str, target: str, amount: int) -> bool:
    withdraw(source, amount)
    try:
        notify(target)
    except LookupError:
        deposit(source, amount)
        return False
    deposit(target, amount)
    return True
