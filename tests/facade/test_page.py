"""The page about the facade names what there is, and what is to come."""

import re

from django_dbos import dbos
from django_dbos.dbos import DBOS, names
from tests.support import ROOT

TEXT = (ROOT / "docs/dbos.md").read_text()


def test_every_name_of_the_facade_stands_on_its_page() -> None:
    there = {name for name in vars(DBOS) if not name.startswith("_") and not name.endswith("_async")}
    missing = sorted(name for name in {*there, *names.TO_COME, *dbos.__all__} if not re.search(rf"\b{name}\b", TEXT))
    assert not missing


def test_what_the_page_says_is_there() -> None:
    table = re.search(r"## Names\n(.*?)\n## ", TEXT, re.DOTALL)
    assert table is not None
    for row in re.findall(r"^\| (`.*?) \|", table[1], re.MULTILINE):
        for name in re.findall(r"`(\w+)`", row):
            assert callable(getattr(DBOS, name)), name
