"""The workflows that every worker of the suite knows: django_dbos imports this module of each application."""

from tests.acceptance import everything as everything
from tests.acceptance import workflows as workflows
