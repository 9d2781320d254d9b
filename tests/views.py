"""Views that are workflows."""

import json
import os
from pathlib import Path
from typing import Any

from django.contrib.auth.decorators import login_required
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from django_dbos import (
    assumed_role,
    authenticated_roles,
    authenticated_user,
    required_roles,
    step,
    transaction,
    workflow,
    workflow_id,
)
from tests.acceptance.observed import Gate
from tests.models import Effect, Row


@transaction(name="views.charge")
def charge(number: int, name: str) -> int:
    """One row for each time it was committed."""
    Row.objects.create(name=f"{number} {name}")
    return Row.objects.count()


@require_POST
@workflow(name="views.pay")
@csrf_exempt
def pay(request: HttpRequest, number: int) -> HttpResponse:
    """What a request may bring comes back."""
    answer = {
        "charged": charge(number, request.POST.get("name", "")),
        "workflow": workflow_id(),
        "user": request.user.get_username(),
        "identity": [authenticated_user(), authenticated_roles()],
        "query": request.GET.dict(),
        "agent": request.headers.get("User-Agent", ""),
        "cookie": request.headers.get("Cookie"),
    }
    response = JsonResponse(answer, status=201)
    response["X-Paid"] = "yes"
    response.set_cookie("paid", str(number))
    return response


@step(name="views.look_up")
async def look_up(number: int) -> list[int]:
    """How many rows there are."""
    await Row.objects.acreate(name=str(number))
    return [number, await Row.objects.acount()]


@csrf_exempt
@workflow(name="views.apay")
async def apay(request: HttpRequest, number: int) -> HttpResponse:
    """As pay(), on an event loop."""
    return JsonResponse({"charged": await look_up(number), "body": json.loads(request.body)})


@workflow(name="views.upload")
def upload(request: HttpRequest) -> HttpResponse:
    """A form with a file, whose check for CSRF reads it first."""
    files: Any = request.FILES.getlist("file")
    names = [[file.name, file.content_type, file.read().decode()] for file in files]
    return JsonResponse({"names": request.POST.getlist("name"), "files": names})


@workflow(name="views.missing")
def missing(request: HttpRequest) -> HttpResponse:
    """Nothing is here."""
    charge(0, "missing")
    raise Http404("not here")


@login_required
@workflow(name="views.atomic")
def atomic(request: HttpRequest) -> HttpResponse:
    """Whether a transaction is open around the view."""
    return HttpResponse(str(connection.in_atomic_block))


@required_roles(["editors"])
@workflow(name="views.edit")
def edit(request: HttpRequest) -> HttpResponse:
    """For editors only."""
    return HttpResponse(assumed_role())


@step(name="views.hold")
def hold(gate: str) -> None:
    """Held in the middle."""
    Effect.objects.create(key="held", pid=os.getpid())
    Gate(Path(gate)).hold()


@csrf_exempt
@workflow(name="views.held")
def held(request: HttpRequest) -> HttpResponse:
    """A view that can be killed between two steps."""
    charged = charge(1, "held")
    hold(request.GET["gate"])
    return JsonResponse({"charged": charged, "pid": os.getpid()})
