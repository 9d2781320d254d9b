"""What an operator may do to a workflow: how it is called, what it means in words, and the call that does it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext_lazy

from ..control import cancel_workflow
from ..forks import fork_workflow
from ..states import TRANSITIONS, allows
from ..sysdb import control

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One thing to do. ``apply(id, start_step)`` returns the id of the workflow that stands now; None: refused."""

    name: str
    label: "StrPromise"
    #: The question of the confirm page, for one workflow and for many.
    question: Any
    effect: "StrPromise"
    #: Why it cannot be done in some states.
    obstacle: "StrPromise"
    done: Any
    log: "StrPromise"
    apply: Callable[[str, int], str | None]
    #: Whether it begins at a step that the operator chooses.
    has_start_step: bool = False

    def is_allowed(self, status: str) -> bool:
        """Whether a workflow in this state takes it; a verb that leaves the workflow as it is knows no states."""
        return self.name not in TRANSITIONS or allows(self.name, status)

    def log_message(self, *, new_id: str, start_step: int, status: str, reason: str) -> str:
        """What the history of the workflow says about it."""
        sentences = [
            self.log % {"id": new_id, "step": start_step},
            _("Status before: %s.") % status,
            _("Reason: %s") % reason if reason else "",
        ]
        return " ".join(sentence for sentence in sentences if sentence)


def _cancel(workflow_id: str, start_step: int) -> str | None:
    return workflow_id if cancel_workflow(workflow_id) else None


def _resume(workflow_id: str, start_step: int) -> str | None:
    # The floor below: resume_workflow() does not tell whether it changed anything.
    return workflow_id if control.resume(workflow_id) else None


def _fork(workflow_id: str, start_step: int) -> str | None:
    return fork_workflow(workflow_id, start_step).workflow_id


CANCEL: Final = Verb(
    name="cancel",
    label=gettext_lazy("Cancel"),
    question=ngettext_lazy("Cancel %d workflow?", "Cancel %d workflows?"),
    effect=gettext_lazy(
        "A workflow that waits will not start. One that runs stops before its next step; the step that is running now "
        "ends first. What finished steps have done stays done. A cancelled workflow can be resumed."
    ),
    obstacle=gettext_lazy("What has finished cannot be cancelled."),
    done=ngettext_lazy("%d workflow was cancelled.", "%d workflows were cancelled."),
    log=gettext_lazy("Cancelled."),
    apply=_cancel,
)
RESUME: Final = Verb(
    name="resume",
    label=gettext_lazy("Resume"),
    question=ngettext_lazy("Resume %d workflow?", "Resume %d workflows?"),
    effect=gettext_lazy(
        "The workflow goes back to its queue and continues after its last finished step, with its count of attempts "
        "at zero and without its deadline. If it still runs somewhere, that execution loses it."
    ),
    obstacle=gettext_lazy("What has a result or an error cannot be resumed; a fork runs it again."),
    done=ngettext_lazy("%d workflow was resumed.", "%d workflows were resumed."),
    log=gettext_lazy("Resumed."),
    apply=_resume,
)
FORK: Final = Verb(
    name="fork",
    label=gettext_lazy("Fork"),
    question=ngettext_lazy("Fork %d workflow?", "Fork %d workflows?"),
    effect=gettext_lazy(
        "A copy starts under a new id, with the same inputs. It takes over the recorded steps before its first step, "
        "and runs every step from there on again, with all that those steps do. The original stays as it is."
    ),
    obstacle=gettext_lazy("This cannot be forked."),
    done=ngettext_lazy("%d workflow was forked.", "%d workflows were forked."),
    log=gettext_lazy("Forked from step %(step)d as %(id)s."),
    apply=_fork,
    has_start_step=True,
)
VERBS: Final = {verb.name: verb for verb in (CANCEL, RESUME, FORK)}
