"""The shop's pages. Every page has one fragment that it fetches again and again, see ``static/shop/shop.js``."""

from typing import Any

from django.contrib import messages
from django.db.models import Max
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from django_dbos.conf import conf
from django_dbos.models import Step, Workflow

from .forms import BuyForm
from .models import Order, Product, StockMovement
from .progress import JOURNEY, lines_of
from .workers import kill_local_workers, latest_workers
from .workflows import place_order

#: How many of the latest orders the front page shows.
SHOWN = 10


@require_safe
def front(request: HttpRequest) -> HttpResponse:
    """Products, the form, the latest orders, the workers."""
    return render(request, "shop/front.html", {"form": BuyForm(), **_now()})


@require_safe
def now(request: HttpRequest) -> HttpResponse:
    """The part of the front page that changes by itself."""
    return render(request, "shop/_now.html", _now())


def _now() -> dict[str, Any]:
    orders = list(Order.objects.select_related("product")[:SHOWN])
    done = dict(
        Step.objects.filter(workflow_id__in=[order.workflow_id for order in orders])
        .values_list("workflow_id")
        .annotate(last=Max("number"))
    )
    return {
        "products": Product.objects.all(),
        "orders": [(order, _share(order, done.get(order.workflow_id, 0))) for order in orders],
        "workers": latest_workers(),
        "restocked": StockMovement.objects.filter(reason="restocked").select_related("product").last(),
        "restocks": Workflow.objects.named("restock").count(),
    }


def _share(order: Order, steps: int) -> int:
    return 100 if order.is_finished else 100 * steps // len(JOURNEY)


@require_POST
def buy(request: HttpRequest) -> HttpResponse:
    """Take an order, and show it."""
    form = BuyForm(request.POST)
    if not form.is_valid():
        return render(request, "shop/front.html", {"form": form, **_now()}, status=400)
    return redirect(place_order(**form.cleaned_data))


@require_safe
def order(request: HttpRequest, order_id: int) -> HttpResponse:
    """One order and its steps."""
    return render(request, "shop/order.html", _order(order_id))


@require_safe
def order_steps(request: HttpRequest, order_id: int) -> HttpResponse:
    """The part of an order's page that changes by itself."""
    return render(request, "shop/_order.html", _order(order_id))


def _order(order_id: int) -> dict[str, Any]:
    order = get_object_or_404(Order.objects.select_related("product"), pk=order_id)
    return {
        "order": order,
        "lines": lines_of(order),
        "workflow": Workflow.objects.filter(pk=order.workflow_id).first(),
        "payment": order.payments.first(),
        "email": order.emails.first(),
        "workers": latest_workers(),
    }


@require_POST
def crash(request: HttpRequest) -> HttpResponseRedirect:
    """Kill every worker of this machine, as a power cut would, and go back to where one was."""
    pids = kill_local_workers()
    if pids:
        killed = " and ".join(f"worker {pid}" for pid in pids)
        rest = f"After {conf.HEARTBEAT_TIMEOUT:g} s of silence its orders go on in the next one; make demo starts it."
        messages.warning(request, f"SIGKILL: {killed} is gone. {rest}")
    else:
        messages.info(request, "There is no worker here to kill. Start one: python manage.py dbos_worker")
    back = request.POST.get("back", "")
    safe = url_has_allowed_host_and_scheme(back, allowed_hosts={request.get_host()})
    return HttpResponseRedirect(back if safe else reverse("shop:front"))
