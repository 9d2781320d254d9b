"""Roles: what a user has to hold for a function to run on his behalf.

They are asked for when a workflow is called or started, and again when it is claimed; for a step, when it is called.
Held are the roles that SetAuthentication gives and, where the user is one of Django's, the names of his groups and his
permissions, spelled "app_label.codename".
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from asgiref.sync import markcoroutinefunction
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.db import DatabaseError, InterfaceError, router
from django.db.models import Q

from .bridge import Database, Operation, is_async
from .classes import UNGUARDED, defines, outside_in
from .clock import monotonic
from .context import Execution, Result
from .exceptions import InvalidOption, NotAuthorized
from .options import acting_as, ambient
from .registry import attached_definition, innermost
from .sysdb import vendor
from .sysdb.workflows import Identity
from .validation import short_text

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

# Under these attributes a function carries what it requires, and a class what its functions require by default.
_REQUIRED, _DEFAULT = "dbos_required_roles", "dbos_default_required_roles"


def required_roles(roles: Sequence[str]) -> Callable[[F], F]:
    """Let a workflow, step, transaction or plain function run only for who holds one of ``roles``; the first counts.

    An empty list asks for nothing, whatever the class asks for by default.
    """
    names = _names(roles)

    def require(function: Any) -> Any:
        setattr(innermost(function), _REQUIRED, names)
        # A decorated function asks by itself; any other may be decorated yet, or never.
        return function if attached_definition(function) is not None else _guarded(function)

    return functools.partial(outside_in, require)


def default_required_roles(roles: Sequence[str]) -> Callable[[C], C]:
    """Required roles for those methods of a class, and of its subclasses, that have none of their own.

    Static methods that a subclass inherits do not know it: they have the roles of the class that defines them.
    """
    names = _names(roles)

    def decorate(cls: C) -> C:
        setattr(cls, _DEFAULT, names)
        for attribute in vars(cls).values():
            if attached_definition(attribute) is not None:
                setattr(innermost(attribute), _DEFAULT, names)
        return cls

    return decorate


def _names(roles: Sequence[str]) -> tuple[str, ...]:
    if isinstance(roles, str) or not isinstance(roles, Sequence):
        raise InvalidOption(f"Required roles are a list of texts, not {roles!r:.300}.")
    return tuple(short_text("A role", role) for role in roles)


def required_by(function: Callable[..., Any], args: Sequence[Any]) -> tuple[str, ...]:
    """The roles that a call of ``function`` requires; ``args`` with what a method is called on."""
    function = innermost(function)
    own: tuple[str, ...] | None = getattr(function, _REQUIRED, None)
    if own is not None:
        return own
    if args:
        cls = args[0] if isinstance(args[0], type) else type(args[0])
        inherited: tuple[str, ...] | None = getattr(cls, _DEFAULT, None)
        if inherited is not None and defines(cls, function, object):
            return inherited
    default: tuple[str, ...] = getattr(function, _DEFAULT, ())
    return default


def assumed(function: Callable[..., Any], args: Sequence[Any], identity: Identity) -> Identity:
    """``identity`` with the first role that it holds of those that a call requires; raises NotAuthorized."""
    required = required_by(function, args)
    if not required:
        return identity
    account = _Account(identity.user)
    for role in required:
        if role in identity.roles or account.holds(role):
            return replace(identity, assumed_role=role)
    who = f"The user {identity.user!r} holds none" if identity.user else "Nobody is authenticated who holds one"
    raise NotAuthorized(f"{who} of the roles that {function.__qualname__}() requires: {', '.join(required)}.")


class _Account:
    """What one of Django's users holds; nothing, if the text names none."""

    def __init__(self, user: str) -> None:
        self._user = user

    def holds(self, role: str) -> bool:
        """Whether the account is active, and in a group of this name or has this permission."""
        account = self._account
        if account is None or not account.is_active:
            return False
        return role in self._groups or ("." in role and hasattr(account, "has_perm") and account.has_perm(role))

    @functools.cached_property
    def _account(self) -> Any:
        if not self._user:
            return None
        try:
            model = get_user_model()
        except ImproperlyConfigured:  # a project without django.contrib.auth
            return None
        named = Q(**{model.USERNAME_FIELD: self._user})
        with suppress(ValidationError):
            named |= Q(pk=model._meta.pk.to_python(self._user))
        found = list(model._default_manager.filter(named)[:2])
        # If one has the name and another the key, nobody knows who is meant: neither.
        return found[0] if len(found) == 1 else None

    @functools.cached_property
    def _groups(self) -> frozenset[str]:
        groups = getattr(self._account, "groups", None)
        return frozenset() if groups is None else frozenset(groups.values_list("name", flat=True))


# ---- where they are asked for --------------------------------------------------------------------------------


def identified(
    function: Callable[..., Any], args: Sequence[Any], identity: Identity, execution: Execution | None
) -> Operation[Identity]:
    """See assumed(); asks no database where no role is required, and waits for one where a workflow asks."""
    if not required_by(function, args):
        return identity
    look = functools.partial(assumed, function, args, identity)
    if execution is not None:
        look = functools.partial(vendor.patiently, functools.partial(_reconnecting, look), pause=execution.lease.pause)
    result: Identity = yield Database(look)
    return result


def _reconnecting(look: Callable[[], Identity]) -> Identity:
    try:
        return look()
    except (DatabaseError, InterfaceError):
        vendor.discard_connection(router.db_for_read(get_user_model()))
        raise


def permitted(
    operation: Operation[Any], execution: Execution, number: int, name: str, function: Callable[..., Any], args: Any
) -> Operation[Any]:
    """A step's operation, if the user may take the step; that he may not is recorded as the step's error."""
    if not required_by(function, args):
        return operation
    return _permitted(operation, execution, number, name, function, args)


def _permitted(
    operation: Operation[Any], execution: Execution, number: int, name: str, function: Callable[..., Any], args: Any
) -> Operation[Any]:
    if execution.name_recorded_at(number) is not None:
        return (yield from operation)
    try:
        identity = yield from identified(function, args, ambient().identity, execution)
    except NotAuthorized as denial:
        operation.close()
        yield from execution.begin()
        result = yield from execution.keep(Result(error=denial), number=number, name=name, started=monotonic())
        return result.unwrap()
    with acting_as(identity):
        return (yield from operation)


def guarded_call(function: Callable[..., Any], args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
    """``call()``, a plain one outside workflows or inside a step, if the user may make it."""
    with acting_as(assumed(function, args, ambient().identity)):
        return call()


async def aguarded_call(function: Callable[..., Any], args: tuple[Any, ...], call: Callable[[], Any]) -> Any:
    """See guarded_call()."""
    check = functools.partial(assumed, function, args, ambient().identity)
    with acting_as(await Database(check).aperform()):
        return await call()


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    guard = aguarded_call if is_async(function) else guarded_call

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return guard(function, args, functools.partial(function, *args, **kwargs))

    if is_async(function):
        markcoroutinefunction(call)
    setattr(call, UNGUARDED, function)
    return call
