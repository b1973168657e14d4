import builtins

import matplotlib
import pytest

from lightning_memaudit.sections.canvas import figure_of, new_axes


def test_a_script_gets_a_figure_that_nothing_holds() -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    assert tuple(figure_of(new_axes(3, 2)).get_size_inches()) == (3, 2)
    assert pyplot.get_fignums() == before


def test_a_notebook_gets_one_that_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib import pyplot

    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    with matplotlib.rc_context({"backend": "agg"}):
        ax = new_axes(3, 2)
        assert figure_of(ax).number in pyplot.get_fignums()
        pyplot.close(figure_of(ax))
