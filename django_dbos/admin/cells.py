"""How values look in the console: pills, short ids, times, durations, links, payloads."""

from contextlib import suppress
from datetime import datetime, timedelta

from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from .. import typed_json
from ..serialization import preview

#: Shown for "nothing", as the admin does.
EMPTY = "-"
#: How much of a payload is shown, in characters.
PREVIEW = 4096
#: preview() cuts the end, and the end of a traceback is what matters: it is read whole and cut here.
_TRACEBACK = 60_000


def pill(status: str, label: object) -> SafeString:
    """A status as a coloured label."""
    return format_html('<span class="dbos-pill dbos-{}">{}</span>', status.lower(), label)


def short_id(workflow_id: str) -> SafeString:
    """The begin and the end of an id: ids that were made together begin alike. The whole one is in the title."""
    short = workflow_id if len(workflow_id) <= 15 else f"{workflow_id[:6]}…{workflow_id[-6:]}"
    return format_html('<code title="{}">{}</code>', workflow_id, short)


def moment(value: datetime | None) -> SafeString | str:
    """A time to the second, in the current time zone; exact in the title."""
    if value is None:
        return EMPTY
    local = timezone.localtime(value) if timezone.is_aware(value) else value
    return format_html(
        '<time datetime="{0}" title="{0}">{1}</time>', local.isoformat(), date_format(local, "Y-m-d H:i:s")
    )


def duration(started: datetime | None, completed: datetime | None) -> str:
    """How long something took, or has been running."""
    if started is None:
        return EMPTY
    return duration_text((completed or timezone.now()) - started)


def duration_text(span: timedelta) -> str:
    """A span in its two largest units, rounded down; clocks that disagree make no negative one."""
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 1:
        return _("%s ms") % int(seconds * 1000)
    if seconds < 60:
        return _("%s s") % number_format(seconds, 1)
    minutes, hours, days = int(seconds // 60), int(seconds // 3600), int(seconds // 86400)
    if hours == 0:
        return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": seconds % 60}
    if days == 0:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes % 60}
    return _("%(days)d d %(hours)d h") % {"days": days, "hours": hours % 24}


def workflow_link(workflow_id: str, site: str, label: str = "") -> SafeString | str:
    """A link to a workflow's page on the admin site of that name."""
    if not workflow_id:
        return EMPTY
    url = reverse("admin:dbos_workflow_change", args=[quote(workflow_id)], current_app=site)
    return format_html('<a href="{}">{} {}</a>', url, label, short_id(workflow_id))


def payload(text: str | None, serializer: str, limit: int = PREVIEW) -> SafeString | str:
    """A stored value, readable and cut; never fails."""
    if not text:
        return EMPTY
    return format_html('<pre class="dbos-payload">{}</pre>', preview(text, serializer, limit))


def failure(text: str | None, serializer: str, limit: int = PREVIEW) -> SafeString | str:
    """A stored error: its class and message, its traceback folded; never fails."""
    if not text:
        return EMPTY
    shown = preview(text, serializer, _TRACEBACK)
    tail = shown if len(shown) <= limit else f"…{shown[-limit:]}"
    summary = _summary(text)
    if not summary:
        return payload(text, serializer, limit)
    return format_html(
        '<details class="dbos-failure"><summary>{}</summary><pre class="dbos-payload">{}</pre></details>', summary, tail
    )


def _summary(text: str) -> str:
    with suppress(Exception):  # whatever is wrong with it, it is shown as it is
        record = typed_json.parse(text)["value"]
        name = str(record["class"]).rpartition(":")[2]
        message = record["message"] if isinstance(record["message"], str) else ""
        return f"{name}: {message[:500]}" if message else name
    return ""
