"""One look at the database for all that is waited for in a process."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from ..hub import EVENT, MESSAGE, STREAM, Watch
from . import events, messages, streams

#: kind -> those of some watches of that kind of which there are news.
_LOOKS: Final[dict[str, Callable[[Iterable[Watch]], list[Watch]]]] = {
    MESSAGE: messages.waiting_among,
    EVENT: events.set_among,
    STREAM: streams.written_among,
}


def news_among(watches: Iterable[Watch]) -> Iterator[Watch]:
    """Those of ``watches`` for which a look is worth while; one query for each kind that is among them."""
    wanted = list(watches)
    for kind, look in _LOOKS.items():
        of_kind = [watch for watch in wanted if watch.kind == kind]
        if of_kind:
            yield from look(of_kind)
