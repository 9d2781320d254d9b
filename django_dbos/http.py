"""Views as workflows: ``@workflow`` straight on a view.

A call with a request is a view's. The request is stored as a snapshot and the response recorded; with the header
``Idempotency-Key`` the same request has the same workflow id, and so one response however often it is made. The user
of the request, with the groups as roles, is the one on whose behalf the workflow runs.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest
from django.http.request import RawPostDataException

from . import context
from .bridge import Database, Operation
from .exceptions import NotAuthorized
from .options import SetAuthentication, SetWorkflowID
from .registry import WorkflowDefinition

#: The header whose value makes two requests one.
IDEMPOTENCY_KEY = "Idempotency-Key"


def view_operation(
    definition: WorkflowDefinition, args: tuple[Any, ...], call: Callable[[], Operation[Any]]
) -> Operation[Any] | None:
    """What a call of a workflow becomes whose first argument is a request; None for any other call."""
    if not args or not isinstance(args[0], HttpRequest) or context.workflow_id() is not None:
        return None
    return _view(definition, args[0], call)


def _view(definition: WorkflowDefinition, request: HttpRequest, call: Callable[[], Operation[Any]]) -> Operation[Any]:
    key = _key(request)
    caller: _Caller | None = yield Database(partial(_prepare, request))
    with ExitStack() as options:
        if key is not None:
            options.enter_context(SetWorkflowID(_workflow_id(definition, request, caller, key)))
        if caller is not None:
            options.enter_context(SetAuthentication(caller.name, caller.roles))
        operation = call()
    try:
        return (yield from operation)
    except NotAuthorized as denial:
        raise PermissionDenied(str(denial)) from denial


def _key(request: HttpRequest) -> str | None:
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not key.strip():
        raise BadRequest(f"The header {IDEMPOTENCY_KEY} is empty: give each request its own key, or leave it out.")
    return key


def _workflow_id(definition: WorkflowDefinition, request: HttpRequest, caller: "_Caller | None", key: str) -> str:
    """The id that a request has by its key: the same one for the same user, method, path and view."""
    # Who logs in by a token is nobody to Django; others must not be given his responses.
    who = [request.headers.get("Authorization", "")] if caller is None else [caller.model, caller.pk]
    scope = json.dumps([definition.name, request.method, request.path, who, key])
    return f"http-{hashlib.sha256(scope.encode()).hexdigest()}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Caller:
    """Who is logged in."""

    model: str
    pk: str
    name: str
    roles: list[str]


def _prepare(request: HttpRequest) -> _Caller | None:
    """Load what the snapshot of a request needs; who made it, None if nobody is logged in."""
    _restore_body(request)
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return None
    groups = getattr(user, "groups", None)  # a project's own user may have none
    return _Caller(
        model=user._meta.label_lower,
        pk=str(user.pk),
        name=user.get_username(),
        roles=[] if groups is None else list(groups.order_by("name").values_list("name", flat=True)),
    )


def _restore_body(request: Any) -> None:
    """Put a form together again whose files were parsed before the view: by the check for CSRF, mostly."""
    try:
        request.body  # noqa: B018 - reads it
    except RawPostDataException:
        boundary = request.content_params.get("boundary")
        if boundary and getattr(request, "_files", None):
            request._body = b"".join(_parts(request, boundary.encode()))


def _parts(request: HttpRequest, boundary: bytes) -> Iterator[bytes]:
    for name, values in request.POST.lists():
        for value in values:
            yield _part(boundary, f'form-data; name="{_quoted(name)}"', "", str(value).encode())
    for name, files in request.FILES.lists():
        for file in files:
            disposition = f'form-data; name="{_quoted(name)}"; filename="{_quoted(file.name or "")}"'
            yield _part(boundary, disposition, f"Content-Type: {file.content_type}\r\n", file.read())
            file.seek(0)
    yield b"--" + boundary + b"--\r\n"


def _part(boundary: bytes, disposition: str, more: str, content: bytes) -> bytes:
    head = f"\r\nContent-Disposition: {disposition}\r\n{more}\r\n"
    return b"--" + boundary + head.encode() + content + b"\r\n"


def _quoted(text: str) -> str:
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
