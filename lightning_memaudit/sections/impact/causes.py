"""What a private arm's drop is made of, and what must be said beside its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_memaudit.functional.impact import decompose_drop
from lightning_memaudit.record.levels import LEVEL
from lightning_memaudit.record.partitions import Partition, whole
from lightning_memaudit.sections.entries import available, unavailable
from lightning_memaudit.sections.impact.groups import drop_row

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning_memaudit.outcomes.arms import Arm
    from lightning_memaudit.record.pairs import PairedArm

__all__ = ["clip_only_of", "describe_decomposition", "is_private", "notes"]

_SHARED = ("max_grad_norm", "lr", "max_epochs")


def is_private(arm: Arm | None) -> bool:
    """Whether an arm was trained with DP-SGD."""
    return arm is not None and _class(arm) == "DPSGD"


def clip_only_of(private: Arm, arms: Mapping[str, Arm | None]) -> str | None:
    """The arm with the clipping, learning rate and epochs of a private one, on the same data, and no noise."""
    for name, arm in arms.items():
        if (
            arm is not None
            and _class(arm) == "ClipOnly"
            and arm.data == private.data
            and all(arm.treatment.get(key) == private.treatment.get(key) for key in _SHARED)
        ):
            return name
    return None


def describe_decomposition(
    private: PairedArm, clip_only: PairedArm, divided: Mapping[str, Partition | None]
) -> dict[str, Any]:
    """Drop of a private arm as what clipping takes and what the noise takes beyond that, overall and by group."""
    shared, rows, others = np.intersect1d(private.model_ids, clip_only.model_ids, return_indices=True)
    if not len(shared):
        return unavailable(f"arms {private.name!r} and {clip_only.name!r} have no model in common")
    base, treated = private.outcomes()
    clipped = clip_only.outcomes()[1]
    described = {}
    for name, part in {"": whole(private.judged.shape[1]), **divided}.items():
        if part is None:
            continue
        total = len(part.names)
        split = decompose_drop(
            base[rows], clipped[others], treated[rows], part.codes, paired=True, level=LEVEL, n_groups=total
        )
        described[name] = [
            {
                "group": group,
                **{cause: drop_row(getattr(split, cause), g) for cause in ("total", "clipping", "noise")},
                "difference": float(split.difference[g]),
                "difference_low": float(split.difference_low[g]),
                "difference_high": float(split.difference_high[g]),
            }
            for g, group in enumerate(part.names)
        ]
    overall = described.pop("")[0]
    return available(clip_only=clip_only.name, n_models=len(shared), overall=overall, by_group=described)


def notes(arm: Arm | None, paired: PairedArm, clip_only: str | None) -> list[str]:
    """What a reader must know beside the numbers of an arm."""
    said = []
    if paired.n_models == 1:
        said.append(
            "One model an arm: intervals are Tango's on the examples that flip, and seed variance is not covered."
        )
    if paired.without_base:
        ids = ", ".join(map(str, paired.without_base))
        said.append(f"Models {ids} are left out: the models to compare them with are not in the store.")
    if arm is not None and arm.lr_search is not None:
        said += _search(arm.lr_search)
    if is_private(arm):
        assert arm is not None  # noqa: S101
        if clip_only is None:
            said.append(
                "There is no clip-only arm with the same max_grad_norm, lr and max_epochs: what clipping takes passes "
                "for the price of privacy here, which is misleading. Add treatments.ClipOnly with these settings."
            )
        if arm.treatment.get("lr") is None:
            said.append(
                "The learning rate is the baseline's, not chosen for clipped gradients: that is misleading, since one "
                "that suits SGD can make clipping alone look like the price of privacy. Give the treatment lr=, or "
                "several to have it searched: lr=(0.1, 0.3, 1.0)."
            )
    if arm is not None and arm.privacy is not None:
        said.append(_privacy(arm))
    return said


def _search(search: Mapping[str, Any]) -> list[str]:
    """How a learning rate was chosen."""
    tried = ", ".join(f"{row['rate']:g} ({100 * row['accuracy']:.1f} %)" for row in search["table"])
    chosen = (
        f"The learning rate {search['rate']:g} was searched for {search['arm']}: it has the best accuracy of {tried}, "
        f"each from {search['n_models']} models on the {search['n_examples']} training examples that at least one of "
        "them did not train on. No test or validation example was looked at. The choice depends on the data, and is "
        "not covered by ε."
    )
    if not search["is_at_the_edge"]:
        return [chosen]
    return [chosen, "The chosen rate is the smallest or the largest that was tried; one beyond it may be better."]


def _privacy(arm: Arm) -> str:
    privacy = arm.privacy or {}
    size = privacy.get("n_examples", arm.regime.get("n_examples"))
    examples = "its training set" if size is None else f"a training set of {size} examples"
    if arm.data == "subset":
        examples += ", the size of a subset and not of all the data"
    budget, noise = "The privacy budget", ""
    if privacy.get("epsilon") is not None:
        budget = f"ε = {privacy['epsilon']:.3g} at δ = {privacy['delta']:g}"
    if privacy.get("noise_multiplier") is not None:
        noise = f" (noise multiplier {privacy['noise_multiplier']:.3g})"
    said = (
        f"{budget}{noise} is that of one model, for {examples}; neighbouring data sets differ by one example that is "
        "added or removed."
    )
    if size is not None and privacy.get("delta") is not None and privacy["delta"] >= 1 / size:
        said += (
            f" δ is not below 1/n = {1 / size:.2g}: a mechanism that publishes one example in the open keeps such a "
            "promise; choose a smaller target_delta."
        )
    return said


def _class(arm: Arm) -> str:
    return str(arm.treatment.get("class", "")).rpartition(".")[2]
