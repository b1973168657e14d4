from tests.integration.cli.conftest import memaudit  # noqa: F401
