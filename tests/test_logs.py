"""The logger of workflows."""

import logging
from typing import Any

import pytest

from django_dbos import SetWorkflowID, logger, step, workflow


@step
def saying_step() -> None:
    logger.info("in the step", extra={"colour": "red"})


@workflow
def saying() -> None:
    logger.warning("in the %s", "body")
    saying_step()


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[Any, ...]]:
    return [
        (record.getMessage(), vars(record)["workflow_id"], vars(record)["step_id"])
        for record in caplog.records
        if record.name == "django_dbos.workflow"
    ]


@pytest.mark.django_db(transaction=True)
def test_what_a_workflow_says_carries_its_id_and_its_step(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="django_dbos.workflow")
    with SetWorkflowID("w"):
        saying()
    assert records(caplog) == [("in the body", "w", None), ("in the step", "w", 1)]
    assert vars(caplog.records[-1])["colour"] == "red"


def test_elsewhere_it_is_a_plain_logger(caplog: pytest.LogCaptureFixture) -> None:
    logger.error("outside")
    assert records(caplog) == [("outside", None, None)]
