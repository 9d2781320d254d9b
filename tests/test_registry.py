"""The registry: functions by the name under which they are recorded."""

import pytest

from django_dbos.exceptions import DuplicateRegistration, UnknownWorkflow
from django_dbos.registry import Registry, StepDefinition


def one() -> None:
    """A function."""


def two() -> None:
    """Another one."""


def definition(function: object, name: str = "a_name") -> StepDefinition:
    return StepDefinition(name=name, function=function, is_async=False)  # type: ignore[arg-type]


@pytest.fixture
def registry() -> Registry[StepDefinition]:
    return Registry("step")


def test_a_definition_is_found_by_its_name(registry: Registry[StepDefinition]) -> None:
    registry.register(definition(one))
    assert registry.find("a_name") is registry.get("a_name")
    assert registry.get("a_name").function is one
    assert registry.find("another") is None


def test_names_are_sorted(registry: Registry[StepDefinition]) -> None:
    assert registry.names() == []
    for name in ("b", "c", "a"):
        registry.register(definition(one, name))
    assert registry.names() == ["a", "b", "c"]


def test_two_functions_under_one_name_are_refused_with_both_and_the_remedy(registry: Registry[StepDefinition]) -> None:
    registry.register(definition(one))
    with pytest.raises(DuplicateRegistration) as refusal:
        registry.register(definition(two))
    message = str(refusal.value)
    assert "'a_name'" in message
    assert f"{__name__}.one" in message
    assert f"{__name__}.two" in message
    assert "@step(name=...)" in message
    assert registry.get("a_name").function is one


def test_the_same_function_seen_again_replaces_its_former_self(registry: Registry[StepDefinition]) -> None:
    registry.register(definition(one))

    def reloaded() -> None:
        """As after a module was loaded again."""

    reloaded.__qualname__ = one.__qualname__
    registry.register(definition(reloaded))
    assert registry.get("a_name").function is reloaded


def test_an_unknown_name_is_refused_with_what_to_do(registry: Registry[StepDefinition]) -> None:
    with pytest.raises(UnknownWorkflow, match=r"No step named 'nobody'.*import the module that defines it"):
        registry.get("nobody")
