"""The Django application: registration only. Nothing is started and no connection is opened here."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

from .hub import provide_ear, provide_heart


class DBOSConfig(AppConfig):
    """Durable workflows."""

    name = "django_dbos"
    label = "dbos"
    verbose_name = _("Durable workflows")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Learn the workflows of every application, and who beats and listens where no worker runs."""
        # Imported here: the models must be ready.
        from . import checks  # noqa: F401 - registers them
        from .http import view_operation
        from .runtime.ear import start_ear
        from .runtime.heart import start_heart
        from .workflows import adapt_calls

        provide_heart(start_heart)
        provide_ear(start_ear)
        adapt_calls(view_operation)
        autodiscover_modules("workflows")
