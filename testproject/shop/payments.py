"""
Both ends of the payment: what the workflow calls, and the service at ``POST /payments/`` that answers.

They talk over HTTP and know of each other only the address, as if the service were somebody else's.
"""

import json
import time
import uuid
from decimal import Decimal
from http import HTTPStatus
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from django.conf import settings
from django.db.models import F
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from .models import Order, Payment

#: How long the service may take, in seconds.
TIMEOUT = 10.0
#: Every so many orders the service takes so many seconds to answer - after it has charged.
SLOW_EVERY, SLOW = 2, 1.5


class PaymentRefused(Exception):
    """The bank said no. Asking again would not help."""


def request_payment(order: Order, idempotency_key: str) -> str:
    """
    Ask the payment service to charge an order; returns the reference.

    With the same key it charges once, however often it is asked. Raises PaymentRefused, or OSError if the service
    cannot be reached.
    """
    body = {"order": order.pk, "amount": str(order.total), "card": order.card}
    request = Request(  # noqa: S310 - the address comes from the settings
        settings.SHOP_PAYMENT_URL,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Idempotency-Key": idempotency_key},
    )
    try:
        with urlopen(request, timeout=TIMEOUT) as response:  # noqa: S310 - see above
            return str(json.load(response)["reference"])
    except HTTPError as error:
        with error:
            if error.code == HTTPStatus.PAYMENT_REQUIRED:
                raise PaymentRefused(f"The card of order {order.pk} was declined.") from None
            raise


@csrf_exempt
@require_POST
def pay(request: HttpRequest) -> JsonResponse:
    """The payment service: charges once per idempotency key, and answers with a reference."""
    asked = json.loads(request.body)
    if asked["card"] == Order.Card.DECLINED:
        return JsonResponse({"error": "declined"}, status=HTTPStatus.PAYMENT_REQUIRED)
    payment, _ = Payment.objects.get_or_create(
        idempotency_key=request.headers["Idempotency-Key"],
        defaults={
            "order_id": asked["order"],
            "amount": Decimal(asked["amount"]),
            "reference": f"PAY-{uuid.uuid4().hex[:12].upper()}",
        },
    )
    Payment.objects.filter(pk=payment.pk).update(requests=F("requests") + 1)
    if asked["order"] % SLOW_EVERY == 0:
        time.sleep(SLOW)
    return JsonResponse({"reference": payment.reference})
