"""Views as workflows: ``@workflow`` straight on a view.

A call with a request is a view's. The request is stored as a snapshot and the response recorded; with the header
``Idempotency-Key`` the same request has the same workflow id, and so one response however often it is made.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from django.core.exceptions import BadRequest
from django.http import HttpRequest
from django.http.request import RawPostDataException

from . import context
from .bridge import Database, Operation
from .options import SetWorkflowID
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
    user = yield Database(partial(_prepare, request))
    if key is None:
        operation = call()
    else:
        with SetWorkflowID(workflow_id_of(definition, request, user, key)):
            operation = call()
    return (yield from operation)


def _key(request: HttpRequest) -> str | None:
    key = request.headers.get(IDEMPOTENCY_KEY)
    if key is not None and not key.strip():
        raise BadRequest(f"The header {IDEMPOTENCY_KEY} is empty: give each request its own key, or leave it out.")
    return key


def workflow_id_of(definition: WorkflowDefinition, request: HttpRequest, user: Any, key: str) -> str:
    """The id that a request has by its key: the same one for the same user, method, path and view."""
    # Who logs in by a token is nobody to Django; others must not be given his responses.
    who = [user._meta.label_lower, str(user.pk)] if user is not None else [request.headers.get("Authorization", "")]
    scope = json.dumps([definition.name, request.method, request.path, who, key])
    return f"http-{hashlib.sha256(scope.encode()).hexdigest()}"


def _prepare(request: HttpRequest) -> Any:
    """Load what the snapshot of a request needs; its user, None if it has none."""
    _restore_body(request)
    user = getattr(request, "user", None)
    return user if user is not None and user.is_authenticated else None


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
