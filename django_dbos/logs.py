"""The logger of workflows: what they say carries their id and the number of the step."""

import logging
from collections.abc import MutableMapping
from typing import Any

from . import context


class _WorkflowLogger(logging.LoggerAdapter[logging.Logger]):
    """Adds ``workflow_id`` and ``step_id`` to each record, None outside workflows and steps."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """See LoggerAdapter.process()."""
        where = {"workflow_id": context.workflow_id(), "step_id": context.step_id()}
        return msg, {**kwargs, "extra": {**where, **(kwargs.get("extra") or {})}}


#: For workflows and steps. A body that runs again says again what it says outside steps.
logger = _WorkflowLogger(logging.getLogger("django_dbos.workflow"), {})
