"""The house keeps its own rules: floors, the lazy table of names, docstrings, sizes, no sleeps in tests."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import django_dbos
from tests.support import ROOT, run_python

PACKAGE = ROOT / "django_dbos"
TESTS = ROOT / "tests"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.relative_to(PACKAGE).parts)
MAX_FUNCTION_LINES = 40
MAX_MODULE_LINES = 400

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def absolute(module: str) -> str:
    """``.queues``, ``queues`` and ``django_dbos.queues`` are the same module."""
    return module if module.split(".")[0] == "django_dbos" else f"django_dbos.{module.lstrip('.')}".rstrip(".")


def type_checking_names() -> dict[str, str]:
    """Public name -> module, as the ``if TYPE_CHECKING:`` block of the package says."""
    names = {}
    for node in parse(PACKAGE / "__init__.py").body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for statement in ast.walk(node):
                if isinstance(statement, ast.ImportFrom):
                    module = absolute("." * statement.level + (statement.module or ""))
                    names.update({alias.asname or alias.name: module for alias in statement.names})
    return names


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, Function))


def length(function: Function) -> int:
    """Lines of the function, its docstring not counted."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None and first.end_lineno is not None:
        lines -= first.end_lineno - first.lineno + 1
    return lines


def test_the_floors_hold() -> None:
    done = run_python("-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache")
    assert done.returncode == 0, f"Imports go down only (ARCHITECTURE.md); `make floors` shows:\n{done.stdout}"


def test_lazy_table_and_its_twin_agree() -> None:
    table = {name: absolute(module) for name, module in django_dbos._EXPORTS.items()}
    twin = type_checking_names()
    assert table == twin, (
        f"django_dbos/__init__.py: only in _EXPORTS: {sorted(table.items() - twin.items())};"
        f" only under TYPE_CHECKING: {sorted(twin.items() - table.items())}."
        " Write each public name in both, as `from .module import Name as Name`."
    )


def test_every_public_name_is_there() -> None:
    for name, module in django_dbos._EXPORTS.items():
        assert getattr(django_dbos, name) is getattr(importlib.import_module(absolute(module)), name)
    assert set(django_dbos._EXPORTS) <= set(dir(django_dbos)), "django_dbos.__dir__() must list the names of _EXPORTS"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(django_dbos, "no_such_name")  # noqa: B009 - mypy would refuse the attribute


def test_every_module_has_a_docstring() -> None:
    missing = [name_of(path) for path in MODULES if not ast.get_docstring(parse(path))]
    assert not missing, f"Say in one sentence, at the top of the file, what it holds: {missing}"


def test_functions_are_short() -> None:
    long = [
        f"{name_of(path)}:{function.lineno} {function.name} ({length(function)} lines)"
        for path in MODULES
        for function in functions(path)
        if length(function) > MAX_FUNCTION_LINES
    ]
    assert not long, f"Longer than {MAX_FUNCTION_LINES} lines: give the parts names of their own: {long}"


def test_modules_are_short() -> None:
    sizes = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    long = {name: lines for name, lines in sizes.items() if lines > MAX_MODULE_LINES}
    assert not long, f"Longer than {MAX_MODULE_LINES} lines: split by story, never into utils: {long}"


def sleeps(path: Path) -> list[str]:
    """Where a test waits for time to pass; ``asyncio.sleep(0)`` only yields and is fine."""
    return [
        f"{name_of(path)}:{node.lineno}"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep")
        and ast.unparse(node) != "asyncio.sleep(0)"
    ]


def test_no_test_sleeps() -> None:
    # Bodies under test may take time, and a gate in another process is a file that has to be looked for.
    exempt = {TESTS / "support.py", TESTS / "acceptance" / "workflows.py", TESTS / "acceptance" / "observed.py"}
    found = [place for path in sorted({*TESTS.rglob("*.py")} - exempt) for place in sleeps(path)]
    assert not found, (
        "Wait for a condition with tests.support.eventually, hold a step with threading.Event().wait(),"
        f" hold a coroutine with asyncio.Event().wait(): {found}"
    )
