from tests.unit.data.conftest import _no_trace  # noqa: F401
