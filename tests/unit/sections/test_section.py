import sys
import types

import pytest

from lightning_memaudit import sections
from lightning_memaudit.sections import section
from lightning_memaudit.sections.section import Section, find_sections


def test_sections_are_found_in_their_order() -> None:
    names = [found.name for found in find_sections()]
    assert names == ["memorization", "gallery", "accuracy", "impact", "long_tail"]


def test_a_new_module_is_all_that_a_section_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("lightning_memaudit.sections.extra")
    module.SECTION = Section(name="extra", order=15, compute=lambda store: None)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    real = list(section.iter_modules(sections.__path__))
    monkeypatch.setattr(section, "iter_modules", lambda path: [*real, types.SimpleNamespace(name="extra")])
    find_sections.cache_clear()
    try:
        assert [found.name for found in find_sections()][:3] == ["memorization", "extra", "gallery"]
    finally:
        find_sections.cache_clear()
