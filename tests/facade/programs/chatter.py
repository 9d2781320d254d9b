"""A stream of words that is read while it is written, and a summary that a workflow makes of it."""

from collections.abc import Iterator

from django_dbos.dbos import DBOS

DBOS(config={"name": "chatter"})


@DBOS.step()
def say(word: str) -> None:
    DBOS.write_stream("words", word)


@DBOS.workflow()
def talk(words: list[str], *, is_closed: bool = True) -> int:
    DBOS.write_stream("words", "begin")
    for word in words:
        say(word)
    if is_closed:
        DBOS.close_stream("words")
    return len(words)


@DBOS.workflow()
def listen(workflow_id: str) -> str:
    return " ".join(DBOS.read_stream(workflow_id, "words"))


def tokens(workflow_id: str) -> Iterator[str]:
    for word in DBOS.read_stream(workflow_id, "words"):
        yield f"data: {word}\n\n"


async def atokens(workflow_id: str, offset: int = 0) -> list[str]:
    return [word async for word in DBOS.read_stream_async(workflow_id, "words", offset=offset)]
