"""``manage.py dbos_replay``: would today's code do what is recorded? For a deploy's pipeline; it writes nothing."""

import json
import re
import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime, time, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from ...exceptions import NonExistentWorkflow
from ...models import Workflow
from ...registry import workflow_registry
from ...replay import Replay, replay_workflow, replays

#: Exit codes; the last one is argparse's own for wrong arguments.
AGREED, DIVERGED, WRONG_ARGUMENTS = 0, 1, 2
#: How many workflows are replayed unless more are asked for.
LIMIT = 1000
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def _since(text: str) -> datetime:
    """``2h`` ago, a date or a date and time, in the project's time zone unless it names another."""
    duration = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    try:
        if duration:
            return timezone.now() - timedelta(seconds=int(duration[1]) * _SECONDS[duration[2]])
        moment = parse_datetime(text)
        day = None if moment else parse_date(text)
    except (ValueError, OverflowError):
        moment = day = None
    moment = moment or (datetime.combine(day, time.min) if day else None)
    if moment is None:
        raise ArgumentTypeError(f"{text!r} is neither a duration such as 2h or 7d nor a date such as 2026-03-31T12:00")
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


class Command(BaseCommand):
    """Replay recorded workflows."""

    help = (
        "Replays recorded workflows against today's code: every step gives what is recorded, nothing is written. "
        "Exit code 0: the code does what is recorded; 1: it does not; 2: wrong arguments."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """See BaseCommand.add_arguments()."""
        parser.add_argument("--name", help="Only runs of this workflow function.")
        parser.add_argument("--workflow", metavar="ID", help="Only this one workflow.")
        parser.add_argument(
            "--since", type=_since, metavar="WHEN", help="Only what was made since: 2h, 7d, or a date (and time)."
        )
        parser.add_argument(
            "--limit",
            type=_count,
            default=LIMIT,
            metavar="N",
            help="At most so many, the newest (default: %(default)s).",
        )
        parser.add_argument("--json", action="store_true", help="Write one JSON object.")

    def handle(self, *args: Any, **options: Any) -> None:
        """See BaseCommand.handle()."""
        done = list(self._replays(options))
        diverged = [replay for replay in done if not replay.agrees]
        if options["json"]:
            self.stdout.write(json.dumps(_summary(done, diverged), indent=2))
        else:
            self._tell(done, diverged)
        if diverged:
            sys.exit(DIVERGED)

    def _replays(self, options: dict[str, Any]) -> Iterator[Replay]:
        name, workflow_id = options["name"], options["workflow"]
        if workflow_id is not None:
            if name is not None or options["since"] is not None:
                raise CommandError("--workflow stands alone: it names one workflow.", returncode=WRONG_ARGUMENTS)
            try:
                yield replay_workflow(workflow_id)
            except NonExistentWorkflow as error:
                raise CommandError(str(error), returncode=WRONG_ARGUMENTS) from error
            return
        if name is not None and workflow_registry.find(name) is None and not Workflow.objects.named(name).exists():
            raise CommandError(f"No workflow named {name!r} is registered or recorded.", returncode=WRONG_ARGUMENTS)
        yield from replays(name=name, since=options["since"], limit=options["limit"])

    def _tell(self, done: list[Replay], diverged: list[Replay]) -> None:
        for replay in diverged:
            assert replay.divergence is not None  # noqa: S101 - that is why it is here
            self.stdout.write(f"{replay.name} {replay.workflow_id}: {replay.divergence.message}")
        unknown = _count_unknown(done)
        left_out = f", {unknown} finished ones of functions that are gone left out" if unknown else ""
        self.stdout.write(f"{len(done) - unknown} replayed, {len(diverged)} diverged{left_out}")


def _count_unknown(done: list[Replay]) -> int:
    return sum(not replay.is_known and replay.agrees for replay in done)


def _summary(done: list[Replay], diverged: list[Replay]) -> dict[str, Any]:
    unknown = _count_unknown(done)
    return {
        "replayed": len(done) - unknown,
        "left_out": unknown,
        "diverged": [
            {"workflow_id": replay.workflow_id, "name": replay.name, **asdict(replay.divergence)}
            for replay in diverged
            if replay.divergence is not None
        ],
    }
