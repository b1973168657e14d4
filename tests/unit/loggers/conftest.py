import pytest

from lightning_memaudit import AuditReport
from lightning_memaudit.loggers.payload import Payload, payload_of
from tests.helpers.reports import small_store

SECTIONS = ("memorization", "gallery", "impact", "accuracy")


@pytest.fixture(scope="session")
def report(tmp_path_factory) -> AuditReport:
    return AuditReport.from_store(small_store(tmp_path_factory.mktemp("audited")), sections=SECTIONS)


@pytest.fixture(scope="session")
def payload(report) -> Payload:
    return payload_of(report)
