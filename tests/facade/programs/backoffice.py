"""Two programs in one file: the one that works, and a client elsewhere that knows it by names alone."""

from typing import Any

from django_dbos.dbos import DBOS, DBOSClient, EnqueueOptions, Queue

DBOS(config={"name": "backoffice"})

queue = Queue("backoffice")


@DBOS.workflow(name="invoice")
def invoice(customer: str, *, total: int) -> str:
    DBOS.set_event("state", "waiting")
    signature = DBOS.recv("signature", timeout_seconds=30)
    return f"{customer} owes {total}, signed by {signature}"


def client_program() -> dict[str, Any]:
    client = DBOSClient(system_database_url=None)
    client.check_connection()
    options: EnqueueOptions = {
        "queue_name": "backoffice",
        "workflow_name": "invoice",
        "workflow_id": "invoice-1",
        "workflow_timeout": 60,
        "attributes": {"customer": "ada"},
    }
    handle = client.enqueue(options, "ada", total=12)
    state = client.get_event("invoice-1", "state", 30)
    client.send("invoice-1", "grace", "signature", "delivery-1")
    client.send("invoice-1", "grace again", "signature", "delivery-1")
    result = handle.get_result()
    found = client.list_workflows(workflow_id_prefix="invoice-")
    client.destroy()
    return {"state": state, "result": result, "found": [status.workflow_id for status in found]}
