"""The shop's pages, with Django's own test runner: ``python manage.py test testproject``."""

# ruff: noqa: PT009, PT027 - they are run by Django, not by pytest

import json
import os
import signal
import socket
import subprocess
import sys
from decimal import Decimal
from unittest import mock

from django.core.mail import EmailMessage
from django.test import TestCase
from django.urls import reverse

from django_dbos.models import Executor, Workflow
from django_dbos.states import ExecutorState, WorkflowStatus

from . import workers, workflows
from .middleware import POLICY
from .models import Order, Payment, Product, SentEmail, StepRun, StockMovement

BUYER = "buyer@example.com"


class ShopTestCase(TestCase):
    """A shop with three teapots."""

    def setUp(self) -> None:
        """See TestCase.setUp()."""
        self.product = Product.objects.create(name="Teapot", slug="teapot", price=Decimal("24.90"), stock=3)

    def place(self, quantity: int = 1, card: str = Order.Card.GOOD) -> Order:
        """An order, on its queue."""
        return workflows.place_order(self.product, quantity, BUYER, card)


class BuyTests(ShopTestCase):
    """Placing an order."""

    def test_an_order_and_its_workflow_are_there(self) -> None:
        """One commit, and the order's page."""
        data = {"product": self.product.pk, "quantity": 2, "email": BUYER, "card": Order.Card.GOOD}
        response = self.client.post(reverse("shop:buy"), data)
        order = Order.objects.get()
        self.assertRedirects(response, order.get_absolute_url())
        self.assertEqual(order.total, Decimal("49.80"))
        workflow = Workflow.objects.get(pk=order.workflow_id)
        self.assertEqual((workflow.name, workflow.status), ("buy", WorkflowStatus.ENQUEUED))
        self.assertEqual(workflow.queue_name, "orders")

    def test_a_bad_form_orders_nothing(self) -> None:
        """The page again, with the reason."""
        response = self.client.post(reverse("shop:buy"), {"product": self.product.pk, "quantity": 0})
        self.assertContains(response, "This field is required", status_code=400)
        self.assertFalse(Order.objects.exists())
        self.assertFalse(Workflow.objects.exists())

    def test_a_rollback_leaves_neither(self) -> None:
        """No order without a workflow, no workflow without an order."""
        with mock.patch.object(workflows.orders, "enqueue", side_effect=RuntimeError), self.assertRaises(RuntimeError):
            self.place()
        self.assertFalse(Order.objects.exists())


class PageTests(ShopTestCase):
    """What the pages show."""

    def test_the_front_page(self) -> None:
        """Products, orders and workers; nothing inline."""
        order = self.place()
        response = self.client.get(reverse("shop:front"))
        self.assertContains(response, "3 left")
        self.assertContains(response, order.get_absolute_url())
        self.assertEqual(response.headers["Content-Security-Policy"], POLICY)
        self.assertNotContains(response, "style=")
        self.assertNotContains(response, "<script>")

    def test_the_fragment_alone(self) -> None:
        """What the script fetches has no page around it."""
        response = self.client.get(reverse("shop:now"))
        self.assertContains(response, "Teapot")
        self.assertNotContains(response, "<html")

    def test_an_order_shows_recorded_running_and_coming_steps(self) -> None:
        """From the workflow's own rows, and from the ledger."""
        order = self.place()
        workflow = Workflow.objects.get(pk=order.workflow_id)
        workflow.steps.create(number=1, name="reserve_stock", output="null", executor_id="some-host-4711-abc")
        StepRun.objects.create(workflow_id=workflow.pk, name="charge", pid=4711)
        StepRun.objects.create(workflow_id=workflow.pk, name="charge", pid=4712)
        response = self.client.get(reverse("shop:order_steps", args=[order.pk]))
        states = [(line.name, line.state, line.worker) for line in response.context["lines"]]
        self.assertEqual(
            states[:3], [("reserve_stock", "done", "4711"), ("charge", "interrupted", ""), ("pick", "waiting", "")]
        )
        self.assertContains(response, "2 attempts")
        self.assertNotContains(response, "data-finished")

    def test_a_step_runs_as_long_as_its_worker_is_alive(self) -> None:
        """By the heartbeat of the worker."""
        order = self.place()
        StepRun.objects.create(workflow_id=order.workflow_id, name="reserve_stock", pid=4711)
        Executor.objects.create(id="h-4711-a", host="h", pid=4711, state=ExecutorState.RUNNING)
        response = self.client.get(reverse("shop:order_steps", args=[order.pk]))
        self.assertEqual(response.context["lines"][0].state, "running")

    def test_a_finished_order_says_so(self) -> None:
        """So that the page stops asking."""
        order = self.place()
        Workflow.objects.update(status=WorkflowStatus.SUCCESS)
        Order.objects.update(status=Order.Status.DONE)
        response = self.client.get(order.get_absolute_url())
        self.assertContains(response, "data-finished")

    def test_no_such_order(self) -> None:
        """404."""
        self.assertEqual(self.client.get(reverse("shop:order", args=[99])).status_code, 404)


class StepTests(ShopTestCase):
    """The steps, called as what they are outside a workflow: functions."""

    def test_stock_goes_out_and_comes_back(self) -> None:
        """Every movement leaves a row."""
        order = self.place(quantity=2)
        workflows.reserve_stock(order.pk)
        self.product.refresh_from_db()
        self.assertEqual(self.product.stock, 1)
        workflows.release_stock(order.pk)
        self.product.refresh_from_db()
        self.assertEqual(self.product.stock, 3)
        self.assertEqual(list(StockMovement.objects.order_by("pk").values_list("quantity", flat=True)), [-2, 2])

    def test_nothing_is_taken_of_what_is_not_there(self) -> None:
        """OutOfStock, and not a row written."""
        order = self.place(quantity=4)
        with self.assertRaises(workflows.OutOfStock):
            workflows.reserve_stock(order.pk)
        self.assertFalse(StockMovement.objects.exists())
        self.assertFalse(StepRun.objects.exists())

    def test_what_runs_low_is_filled_up(self) -> None:
        """The schedule's work."""
        self.assertEqual(workflows.fill_up(5, 20), ["Teapot"])
        self.assertEqual(workflows.fill_up(5, 20), [])
        self.product.refresh_from_db()
        self.assertEqual(self.product.stock, 20)

    def test_mail_is_kept(self) -> None:
        """The backend of the demo."""
        order = self.place()
        message = EmailMessage("Hello", "text", to=[BUYER], headers={"X-Order": str(order.pk)})
        with self.settings(EMAIL_BACKEND="testproject.shop.mail.EmailBackend"):
            self.assertEqual(message.send(), 1)
        self.assertEqual(SentEmail.objects.get().order, order)


class PaymentTests(ShopTestCase):
    """The payment service."""

    def pay(self, order: Order) -> tuple[int, dict[str, str]]:
        """Ask for the payment of an order; status and answer."""
        body = json.dumps({"order": order.pk, "amount": str(order.total), "card": order.card})
        with mock.patch("time.sleep"):
            response = self.client.post(
                reverse("shop:pay"),
                body,
                content_type="application/json",
                headers={"Idempotency-Key": order.workflow_id},
            )
        return response.status_code, response.json()

    def test_one_key_is_charged_once(self) -> None:
        """And has one reference."""
        order = self.place()
        self.assertEqual(self.pay(order), self.pay(order))
        payment = Payment.objects.get()
        self.assertEqual((payment.amount, payment.requests), (order.total, 2))

    def test_a_declined_card(self) -> None:
        """402, and nothing charged."""
        status, _ = self.pay(self.place(card=Order.Card.DECLINED))
        self.assertEqual(status, 402)
        self.assertFalse(Payment.objects.exists())


class CrashTests(ShopTestCase):
    """The button."""

    def executor(self, pid: int, host: str) -> Executor:
        """A worker's row."""
        return Executor.objects.create(id=f"{host}-{pid}-x", host=host, pid=pid, state=ExecutorState.RUNNING)

    def test_it_really_kills(self) -> None:
        """A process that is a worker by its command line."""
        code = "import signal; print(flush=True); signal.pause()"
        with subprocess.Popen([sys.executable, "-c", code, workers.COMMAND], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None  # noqa: S101 - for the types
            process.stdout.readline()
            self.executor(process.pid, socket.gethostname())
            response = self.client.post(reverse("shop:crash"), {"back": "/orders/1/"})
            self.assertEqual(response.headers["Location"], "/orders/1/")
            self.assertEqual(process.wait(10), -signal.SIGKILL)

    def test_it_kills_nobody_else(self) -> None:
        """Neither a worker of another machine, nor a process that has inherited a dead worker's number."""
        self.executor(os.getpid(), "elsewhere")
        self.executor(os.getppid(), socket.gethostname())
        with mock.patch("os.kill") as kill:
            response = self.client.post(reverse("shop:crash"), {"back": "https://example.com/"}, follow=True)
        kill.assert_not_called()
        self.assertRedirects(response, reverse("shop:front"))
        self.assertContains(response, "no worker here to kill")
