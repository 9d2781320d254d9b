"""An agent: a loop of model and tools, each a step, that asks a human before it does what cannot be undone."""

from typing import Any

from django_dbos.dbos import DBOS

DBOS(config={"name": "agent"})

calls: list[str] = []
SCRIPT = [
    {"tool": "search", "input": "refund policy"},
    {"tool": "refund", "input": "order 17"},
    {"answer": "refunded"},
]


@DBOS.step(retries_allowed=True, max_attempts=3, interval_seconds=0.01)
async def ask_model(history: list[dict[str, Any]]) -> dict[str, Any]:
    calls.append("model")
    if len(calls) == 1:
        raise ConnectionError("the model is busy")
    return SCRIPT[len(history)]


@DBOS.step()
async def search(text: str) -> str:
    calls.append("search")
    return f"found: {text}"


@DBOS.step()
async def refund(text: str) -> str:
    calls.append("refund")
    return f"refunded: {text}"


@DBOS.workflow(name="agent")
async def run_agent(task: str) -> dict[str, Any]:
    history: list[dict[str, Any]] = []
    while True:
        decision = await ask_model(history)
        if "answer" in decision:
            return {"task": task, "answer": decision["answer"], "steps": len(history)}
        if decision["tool"] == "refund":
            await DBOS.set_event_async("awaiting_approval", decision["input"])
            if await DBOS.recv_async("approval", timeout_seconds=3600) != "approve":
                return {"task": task, "answer": "not approved", "steps": len(history)}
            history.append({"result": await refund(decision["input"])})
        else:
            history.append({"result": await search(decision["input"])})


async def main(decision: str) -> dict[str, Any]:
    handle = await DBOS.start_workflow_async(run_agent, "refund order 17")
    assert await DBOS.get_event_async(handle.workflow_id, "awaiting_approval") == "order 17"
    await DBOS.send_async(handle.workflow_id, decision, topic="approval")
    result: dict[str, Any] = await handle.get_result()
    return result
