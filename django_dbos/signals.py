"""Django signals: what a project may hook into. ``sender`` is always the model class ``Workflow``.

They are sent in the process that executed the workflow, after the change is durable, with ``workflow_id`` and
``name``; a receiver's error is logged and changes nothing.
"""

from django.dispatch import Signal

#: A workflow finished with a result.
workflow_succeeded = Signal()
#: A workflow finished with an error (also sent with ``error``).
workflow_failed = Signal()
