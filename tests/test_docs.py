"""The documentation says what is true: its examples run, its tables are those of the code, its links lead somewhere."""

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import django_dbos
from django_dbos import Runtime, exceptions, queues, schedules
from django_dbos.conf import Settings
from django_dbos.management.commands.dbos_worker import Command
from django_dbos.registry import class_registry, step_registry, workflow_registry
from django_dbos.states import TRANSITIONS, WorkflowStatus
from tests import models
from tests.support import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("*.md"), *ROOT.glob("*.md")])
#: The worker's own options, by the name under which they are parsed; the others are those of every Django command.
OPTIONS = ("queue", "concurrency", "processes", "no_scheduler", "shutdown_timeout", "autoreload")
#: The pages whose Python blocks are run.
RUNNABLE = (
    "README.md",
    *(
        f"docs/{noun}.md"
        for noun in (
            "quickstart",
            "workflows",
            "steps",
            "transactions",
            "classes",
            "roles",
            "options",
            "queues",
            "schedules",
        )
    ),
    *(f"docs/{noun}.md" for noun in ("handles", "streams", "control", "listing", "worker", "settings", "errors")),
    *(f"docs/{noun}.md" for noun in ("patching", "versions", "replay", "dbos", "testing", "http")),
)


# ---- examples ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One block of a page: its code, the line before it, and whether a worker runs beside it."""

    code: str
    line: int
    has_runtime: bool


def examples(page: Path) -> Iterator[Example]:
    """
    The Python blocks of a page, in their order.

    A fenced block is shown; one between ``<!-- python`` and ``-->`` is run and not shown; ``<!-- runtime -->`` before
    a block runs it inside ``with Runtime():``.
    """
    lines = iter(enumerate(page.read_text().splitlines(), 1))
    has_runtime = False
    for number, line in lines:
        if line == "<!-- runtime -->":
            has_runtime = True
        elif line in ("```python", "<!-- python"):
            end = "```" if line.startswith("`") else "-->"
            code = []
            for _, inner in lines:
                if inner == end:
                    break
                code.append(inner)
            yield Example(code="\n".join(code), line=number, has_runtime=has_runtime)
            has_runtime = False


def stub(name: str, **members: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(members)
    return module


def charge_card(order_id: int, *, idempotency_key: str) -> str:
    """The payment service of the examples."""
    return f"paid-{idempotency_key}"


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The application that the examples import from; a page is its ``workflows`` module, under fresh registries."""
    for owner, attribute in (
        (workflow_registry, "_definitions"),
        (step_registry, "_definitions"),
        (class_registry, "_classes"),
        (class_registry, "_instances"),
        (queues, "_declared"),
        (schedules, "_declared"),
    ):
        monkeypatch.setattr(owner, attribute, {})
    page = stub("shop.workflows")
    modules = (
        stub("shop", __path__=[]),
        stub("shop.models", Order=models.Order, Product=models.Product),
        stub("shop.payments", charge_card=charge_card),
        page,
    )
    for module in modules:
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return page


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
@pytest.mark.parametrize("name", RUNNABLE)
def test_the_examples_run(name: str, shop: ModuleType) -> None:
    found = list(examples(ROOT / name))
    assert found, f"{name} has no example"
    for example in found:
        code = compile("\n" * example.line + example.code, str(ROOT / name), "exec")
        with Runtime() if example.has_runtime else nullcontext():
            exec(code, vars(shop))  # noqa: S102 - our own pages


def test_every_fence_is_closed_and_every_example_has_valid_syntax() -> None:
    for page in PAGES:
        fences = [line for line in page.read_text().splitlines() if line.startswith("```")]
        assert len(fences) % 2 == 0, f"{page.name}: a fence is not closed"
        for example in examples(page):
            ast.parse(example.code)


# ---- tables --------------------------------------------------------------------------------------------------


def rows(page: str) -> list[list[str]]:
    """The cells of every table row of a page, without the lines below the headings."""
    lines = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if set(line) - set("|- ")]


def codes(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def test_settings_page_has_every_key_and_its_default() -> None:
    table = {codes(row[0])[0]: row[1].strip("`") for row in rows("settings.md") if codes(row[0])}
    assert {key: ast.literal_eval(default) for key, default in table.items()} == {
        key: vars(Settings)[key] for key in Settings.names()
    }


def test_checks_page_has_every_id() -> None:
    ids = set(re.findall(r'id="(dbos\.[EW]\d+)"', (ROOT / "django_dbos/checks.py").read_text()))
    assert [codes(row[0])[0] for row in rows("checks.md")[1:]] == sorted(ids)


def test_errors_page_has_every_class_and_its_code() -> None:
    table = {codes(row[0])[0]: codes(row[1])[0] for row in rows("errors.md") if codes(row[0])}
    classes = {
        name: member.code
        for name, member in vars(exceptions).items()
        if isinstance(member, type) and issubclass(member, exceptions.DBOSError | exceptions.WorkflowInterrupted)
    }
    assert table == classes


def test_states_page_draws_every_change() -> None:
    arrows = re.findall(r"^    (\w+) --> (\w+): (\w+)$", (DOCS / "states.md").read_text(), re.MULTILINE)
    allowed = [
        (before.value, after.value, verb) for verb, (expected, after) in TRANSITIONS.items() for before in expected
    ]
    assert sorted(arrows) == sorted(allowed)


def test_states_page_explains_every_verb_and_every_state() -> None:
    table = {codes(row[0])[0]: row for row in rows("states.md") if codes(row[0])}
    for verb, (expected, after) in TRANSITIONS.items():
        assert set(codes(table[verb][1])) == {state.value for state in expected}, verb
        assert codes(table[verb][2]) == [after.value], verb
    assert set(table) == {*TRANSITIONS, *(state.value for state in WorkflowStatus)}


def test_features_page_keeps_its_numbers() -> None:
    numbers = [int(row[0]) for row in rows("features.md")[1:]]
    assert numbers == list(range(1, 107))


def test_worker_page_has_every_option() -> None:
    parser = Command().create_parser("manage.py", "dbos_worker")
    options = {word for action in parser._actions for word in action.option_strings if action.dest in OPTIONS}
    table = {codes(row[0])[0].split()[0] for row in rows("worker.md") if codes(row[0]) and "`--" in row[0]}
    assert table == options


# ---- names and links -----------------------------------------------------------------------------------------


def test_every_public_name_stands_on_some_page() -> None:
    text = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    missing = [name for name in django_dbos._EXPORTS if not re.search(rf"\b{name}\b", text)]
    assert not missing, f"These names are on no page of docs/: {missing}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{page.name}: {target} is not there"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target} names no heading"


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (DOCS / "index.md").read_text()
    listed = {line for block in re.findall(r"```{toctree}(.*?)```", index, re.DOTALL) for line in block.split()}
    assert {page.stem for page in DOCS.glob("*.md")} - {"index"} <= listed
