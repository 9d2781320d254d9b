"""Django's objects: a row is stored as its key, a request and a response as snapshots."""

from contextlib import suppress
from http.cookies import Morsel
from typing import Any, cast

from django.apps import apps
from django.core.exceptions import ObjectDoesNotExist
from django.core.files import File
from django.db import models
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase, ResponseHeaders
from django.template.response import ContentNotRenderedError
from django.utils.functional import LazyObject, SimpleLazyObject, empty
from django.utils.module_loading import import_string

from ..exceptions import DeserializationError
from .codec import Encoder, Refused, decode, refuses, stores_family, tagged


def _load_model(node: dict[str, Any]) -> models.Model:
    label, pk, alias = node["model"], decode(node["pk"]), node["database"]
    try:
        return cast(models.Model, apps.get_model(label)._base_manager.using(alias).get(pk=pk))
    except LookupError:
        raise DeserializationError(f"There is no model {label!r} in this project") from None
    except ObjectDoesNotExist:
        raise DeserializationError(f"{label} {pk!r} is gone from the database {alias or 'default'!r}") from None


@stores_family(models.Model, tag="model", load=_load_model)
def _dump_model(encoder: Encoder, value: models.Model) -> Any:
    label = value._meta.label
    if value.pk is None or value._state.adding:
        raise Refused(f"is an unsaved {label}, which cannot be stored: save() it first")
    return tagged("model", {"model": label, "pk": encoder.encode(value.pk), "database": value._state.db})


_SECRET_HEADERS = frozenset({"cookie", "authorization", "proxy-authorization"})
_META = ("SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "SCRIPT_NAME", "REMOTE_ADDR")


def _dump_request(encoder: Encoder, request: HttpRequest) -> Any:
    snapshot = {
        "method": request.method,
        "scheme": request.scheme,
        "path": request.path,
        "path_info": request.path_info,
        "query": request.META.get("QUERY_STRING") or request.GET.urlencode(),
        "content_type": request.content_type,
        "headers": {key: item for key, item in request.headers.items() if key.lower() not in _SECRET_HEADERS},
        "meta": {key: str(request.META[key]) for key in _META if key in request.META},
        **_request_body(request),
        "user": _loaded_user(request),
    }
    encoded = encoder.encode_values(snapshot, ".{}")
    return tagged("request", {**encoded, "user": vars(request).get("_dbos_user") or encoded["user"]})


def _request_body(request: HttpRequest) -> dict[str, Any]:
    try:
        return {"body": request.body, "post": None}
    except Exception as error:
        # A form that was parsed before anyone asked for the body has no body any more, but its fields.
        post = getattr(request, "_post", None)
        if post is None or getattr(request, "_files", None):
            raise Refused(
                f"is a request whose body cannot be stored ({error}): read request.body before request.POST or "
                "request.FILES, or pass what you need of it"
            ) from None
        return {"body": b"", "post": post.urlencode()}


def _loaded_user(request: HttpRequest) -> Any:
    """Return the authenticated user if this costs no query."""
    for name in ("_cached_user", "_acached_user", "user"):
        user = vars(request).get(name)
        if isinstance(user, LazyObject):
            user = user._wrapped
        if user is not None and user is not empty and getattr(user, "is_authenticated", True):
            return user
    return None


def _load_request(node: dict[str, Any]) -> HttpRequest:
    stored = {key: decode(item) for key, item in node.items() if key != "user"}
    request: Any = HttpRequest()  # Any: what a handler sets is not declared
    request.method, request.path, request.path_info = stored["method"], stored["path"], stored["path_info"]
    request.META = _meta(stored)
    request._set_content_type_params(request.META)
    request._get_scheme = lambda: stored["scheme"]
    request.GET = QueryDict(stored["query"], encoding=request.encoding)
    request._body, request._read_started = stored["body"], False
    _parse_form(request, stored["post"])
    _attach_user(request, node["user"])
    return cast(HttpRequest, request)


def _meta(stored: dict[str, Any]) -> dict[str, Any]:
    names = {key: key.upper().replace("-", "_") for key in stored["headers"]}
    bare = ("CONTENT_TYPE", "CONTENT_LENGTH")  # WSGI gives these two no prefix
    return {
        **stored["meta"],
        "REQUEST_METHOD": stored["method"],
        "PATH_INFO": stored["path_info"],
        "QUERY_STRING": stored["query"],
        "CONTENT_LENGTH": str(len(stored["body"])),
        "wsgi.url_scheme": stored["scheme"],
        **{name if name in bare else f"HTTP_{name}": stored["headers"][key] for key, name in names.items()},
    }


def _parse_form(request: Any, post: str | None) -> None:
    if post is not None:
        request.POST = QueryDict(post, encoding=request.encoding)
        return
    with suppress(Exception):  # a bad form has no fields, as the view would have found; the body is there
        request._load_post_and_files()
        request.POST, request._files = request._post, request._files
        request.FILES = request._files


def _attach_user(request: Any, node: Any) -> None:
    if node is not None:
        request._dbos_user = node
        request.user = SimpleLazyObject(lambda: decode(node))
    elif apps.is_installed("django.contrib.auth"):
        request.user = import_string("django.contrib.auth.models.AnonymousUser")()


stores_family(HttpRequest, tag="request", load=_load_request)(_dump_request)


def _load_response(node: dict[str, Any]) -> HttpResponse:
    stored = {key: decode(item) for key, item in node.items()}
    response = HttpResponse(stored["body"], status=stored["status"], reason=stored["reason"])
    response.headers = ResponseHeaders(stored["headers"])
    for key, value, coded_value, attributes in stored["cookies"]:
        morsel: Morsel[str] = Morsel()
        morsel.set(key, value, coded_value)
        morsel.update(attributes)
        response.cookies[key] = morsel
    return response


@stores_family(HttpResponse, tag="response", load=_load_response)
def _dump_response(encoder: Encoder, response: HttpResponse) -> Any:
    try:
        body = response.content
    except ContentNotRenderedError:
        raise Refused("is a response that is not rendered: call its render() first") from None
    cookies = [[it.key, it.value, it.coded_value, dict(it)] for it in response.cookies.values()]
    snapshot = {
        "status": response.status_code,
        "reason": response.reason_phrase,
        "headers": dict(response.headers.items()),
        "body": body,
        "cookies": cookies,
    }
    return tagged("response", encoder.encode_values(snapshot, ".{}"))


refuses(HttpResponseBase, remedy="it streams, and can be read once only; build an HttpResponse")
refuses(models.QuerySet, remedy="pass list(queryset.values_list('pk', flat=True)), or list(queryset)")
refuses(models.Manager, remedy="use the model's manager inside the workflow")
refuses(File, remedy="save it and pass its path, or pass its bytes")
