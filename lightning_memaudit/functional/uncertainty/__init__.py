"""Intervals of means over models and examples that are both random, and of what is made of them.

``two_way`` gives the interval of a mean difference between two arms, ``OneSided`` its bounds for decisions,
``relative_interval`` and ``against_rest`` those of ratios and excesses, ``adjust_p_values`` corrects for several
groups.
"""

from __future__ import annotations

from lightning_memaudit.functional.uncertainty._excess import (
    Excess,
    against_rest,
)
from lightning_memaudit.functional.uncertainty._flips import (
    Flips,
)
from lightning_memaudit.functional.uncertainty._inversion import (
    Tail,
    one_sided_p_value,
)
from lightning_memaudit.functional.uncertainty._multiplicity import (
    adjust_p_values,
)
from lightning_memaudit.functional.uncertainty._one_sided import (
    OneSided,
)
from lightning_memaudit.functional.uncertainty._relative import (
    relative_interval,
)
from lightning_memaudit.functional.uncertainty._take import (
    form_of,
    joined,
    take,
)
from lightning_memaudit.functional.uncertainty._two_way import (
    Alternative,
    Form,
    TwoWay,
    assemble,
    example_means,
    summarise,
    two_way,
)

__all__ = [
    "Alternative",
    "Excess",
    "Flips",
    "Form",
    "OneSided",
    "Tail",
    "TwoWay",
    "adjust_p_values",
    "against_rest",
    "assemble",
    "example_means",
    "form_of",
    "joined",
    "one_sided_p_value",
    "relative_interval",
    "summarise",
    "take",
    "two_way",
]
