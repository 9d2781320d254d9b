"""Async all the way: steps side by side, children side by side, the first that is done."""

import asyncio

from django_dbos.dbos import DBOS

DBOS(config={"name": "pipeline"})

loops: set[int] = set()


@DBOS.step()
async def fetch(page: int) -> int:
    await asyncio.sleep(0)
    return page * 10


@DBOS.workflow()
async def part(number: int) -> int:
    loops.add(id(asyncio.get_running_loop()))
    return number + await fetch(number)


@DBOS.workflow()
async def whole(size: int) -> dict[str, object]:
    loops.add(id(asyncio.get_running_loop()))
    pages = await asyncio.gather(*(fetch(page) for page in range(size)))
    handles = [await DBOS.start_workflow_async(part, number) for number in range(size)]
    parts = await asyncio.gather(*(handle.get_result() for handle in handles))
    return {"pages": pages, "parts": parts}


async def main(size: int) -> dict[str, object]:
    loops.add(id(asyncio.get_running_loop()))
    handle = await DBOS.start_workflow_async(whole, size)
    result: dict[str, object] = await handle.get_result()
    return result
