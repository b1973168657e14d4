"""The names that the contract promises."""

from lightning_memaudit.functional import impact, subgroups


def test_names_of_the_contract_are_there_and_documented() -> None:
    assert all(hasattr(impact, name) for name in impact.__all__)
    for name in ("accuracy_drop", "exemplars", "taxicab_exemplars", "hooker_test", "memorization_slope"):
        assert name in impact.__all__
        assert getattr(impact, name).__doc__
    for name in ("by_group", "worst_group", "difference", "ratio"):
        assert name in subgroups.__all__
    fields = impact.DropResult.__dataclass_fields__
    assert {"group", "n", "base", "treated", "drop", "low", "high", "excess", "relative"} <= set(fields)
