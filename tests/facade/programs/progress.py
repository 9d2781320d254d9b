"""The starter of every guide, as Django views: a request starts a background task, another asks how far it is."""

from django.http import HttpRequest, JsonResponse

from django_dbos.dbos import DBOS, SetWorkflowID

DBOS(config={"name": "progress"})

STEPS_EVENT = "steps_event"


@DBOS.step()
def background_step(number: int) -> None:
    DBOS.logger.info("Step %d of %s", number, DBOS.workflow_id)


@DBOS.workflow()
def background_task(size: int) -> None:
    for number in range(1, size + 1):
        background_step(number)
        DBOS.set_event(STEPS_EVENT, number)


def start_background_task(request: HttpRequest, task_id: str, size: int) -> JsonResponse:
    with SetWorkflowID(task_id):
        DBOS.start_workflow(background_task, size)
    return JsonResponse({"task": task_id}, status=202)


def last_step(request: HttpRequest, task_id: str) -> JsonResponse:
    status = DBOS.get_workflow_status(task_id)
    if status is None:
        return JsonResponse({"error": "no such task"}, status=404)
    step = DBOS.get_event(task_id, STEPS_EVENT, timeout_seconds=0)
    return JsonResponse({"step": step or 0, "status": status.status})
