"""A mail backend that delivers into the database, so that the pages can show what was sent."""

from collections.abc import Sequence

from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend

from .models import SentEmail

#: The header that says which order a message is about.
ORDER_HEADER = "X-Order"


class EmailBackend(BaseEmailBackend):
    """Keeps every message as a ``SentEmail``."""

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        """See BaseEmailBackend.send_messages()."""
        for message in email_messages:
            SentEmail.objects.create(
                order_id=message.extra_headers.get(ORDER_HEADER),
                to=", ".join(message.recipients()),
                subject=str(message.subject),
                body=str(message.body),
            )
        return len(email_messages)
