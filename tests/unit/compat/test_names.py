import types

import pytest

from lightning_memaudit.compat.names import absent, require
from lightning_memaudit.exceptions import ConfigurationError

THING = types.SimpleNamespace(_there=1)


def test_the_first_missing_name_is_said_with_the_version() -> None:
    import opacus

    assert absent("opacus", THING, "_there") is None
    expected = f"opacus {opacus.__version__}, which has no _gone in SimpleNamespace"
    assert absent("opacus", THING, "_there", "_gone", "_gone_too") == expected
    with pytest.raises(ConfigurationError, match=f"^DP does not go with {expected}; install a version of opacus"):
        require("opacus", THING, "_there", "_gone", purpose="DP")
    require("opacus", THING, "_there", purpose="DP")
