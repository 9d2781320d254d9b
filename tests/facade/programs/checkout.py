"""A shop: the buyer is told where to pay by an event, the payment provider's webhook sends a message back."""

from typing import Any

from django_dbos.dbos import DBOS, SetWorkflowID

DBOS(config={"name": "widget-store"})

PAYMENT_URL = "payment_url"
ORDER_URL = "order_url"
PAYMENT_STATUS = "payment_status"

stock = {"widget": 5}
dispatched: list[str] = []


@DBOS.step()
def reserve() -> bool:
    if stock["widget"] == 0:
        return False
    stock["widget"] -= 1
    return True


@DBOS.step()
def undo_reserve() -> None:
    stock["widget"] += 1


@DBOS.step()
def create_payment_session(order: str) -> str:
    return f"https://pay.example/{order}"


@DBOS.workflow()
def dispatch(order: str) -> None:
    DBOS.sleep(0.01)
    dispatched.append(order)


@DBOS.workflow()
def checkout_workflow(wait_seconds: float = 60) -> str:
    order = DBOS.workflow_id
    if not reserve():
        DBOS.logger.warning("There are no widgets left")
        DBOS.set_event(PAYMENT_URL, None)
        return "sold out"
    DBOS.set_event(PAYMENT_URL, create_payment_session(order))
    payment = DBOS.recv(PAYMENT_STATUS, timeout_seconds=wait_seconds)
    if payment == "paid":
        DBOS.start_workflow(dispatch, order)
    else:
        undo_reserve()
    DBOS.set_event(ORDER_URL, f"/orders/{order}")
    return payment or "not paid in time"


def checkout_endpoint(key: str, wait_seconds: float = 60) -> Any:
    """POST /checkout/<key>: the key makes it safe to send twice."""
    with SetWorkflowID(key):
        handle = DBOS.start_workflow(checkout_workflow, wait_seconds)
    return DBOS.get_event(handle.workflow_id, PAYMENT_URL)


def payment_webhook(order: str, payment_status: str, delivery: str) -> Any:
    """POST /payment_webhook/<order>/<status>: the provider delivers it at least once."""
    DBOS.send(order, payment_status, PAYMENT_STATUS, idempotency_key=delivery)
    return DBOS.get_event(order, ORDER_URL)
