"""Each test has a life of its own: nothing registered before, and nothing left behind."""

import importlib.util
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from django_dbos.dbos import DBOS

PROGRAMS = Path(__file__).parent / "programs"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True)
def one_life(transactional_db: None) -> Iterator[None]:
    """A program that begins with the test and ends with it."""
    yield
    DBOS.destroy(destroy_registry=True)


@pytest.fixture
def program() -> Iterator[Callable[[str], ModuleType]]:
    """``program("greeting")`` runs that file from its first line, as a module of its own."""
    loaded: list[str] = []

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"{name}_{next(_numbers)}", PROGRAMS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module.__name__] = module
        loaded.append(module.__name__)
        spec.loader.exec_module(module)
        return module

    yield load
    for name in loaded:
        del sys.modules[name]
