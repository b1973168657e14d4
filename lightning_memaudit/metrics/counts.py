"""Counts of right predictions by group, and what is computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from lightning_memaudit.functional.checks import argument_error

if TYPE_CHECKING:
    from torch import Tensor


def check_batch(preds: Tensor, target: Tensor, groups: Tensor, num_groups: int) -> None:
    """Refuse a batch whose shapes or codes are wrong; on a GPU this waits for it.

    Args:
        preds: Labels [N], or one score a class [N, C].
        target: Labels [N].
        groups: Group codes [N].
        num_groups: G.

    Raises:
        ArgumentError: The message names the argument.

    Example:
        >>> check_batch(torch.tensor([1]), torch.tensor([1]), torch.tensor([2]), 3)
    """
    for name, tensor in (("target", target), ("groups", groups)):
        if tensor.ndim != 1 or tensor.is_floating_point() or len(tensor) != len(target):
            raise argument_error(
                name, tensor, f"{len(target) if target.ndim else 'N'} integers are needed, one for each example"
            )
    if preds.ndim not in (1, 2) or len(preds) != len(target):
        raise argument_error(
            "preds",
            preds,
            f"shape [{len(target)}] (labels) or [{len(target)}, classes] (logits or probabilities) is needed",
        )
    if preds.ndim == 1 and preds.is_floating_point():
        raise argument_error(
            "preds", preds, "integer labels are needed in one dimension; compare binary scores with a threshold"
        )
    if preds.ndim == 2 and preds.shape[1] < 2:
        raise argument_error("preds", preds, "at least 2 classes are needed; compare binary scores with a threshold")
    low, high = (int(groups.min()), int(groups.max())) if len(groups) else (0, 0)
    if low < 0 or high >= num_groups:
        raise argument_error(
            "groups",
            groups,
            f"codes in [0, {num_groups}) are needed (num_groups={num_groups}), and they go from {low} to {high}",
        )


def count_batch(preds: Tensor, target: Tensor, groups: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Count right predictions and examples by group; a group that is not in the batch has 0.

    A row of scores that holds a NaN is wrong, whatever its largest entry.

    Args:
        preds: Labels [N], or one score a class [N, C].
        target: Labels [N].
        groups: Group codes [N].
        num_groups: G.

    Returns:
        Right predictions and examples, int64[G].

    Example:
        >>> count_batch(torch.tensor([1, 0]), torch.tensor([1, 1]), torch.tensor([2, 2]), 3)
        (tensor([0, 0, 1]), tensor([0, 0, 2]))
    """
    right = preds == target if preds.ndim == 1 else (preds.argmax(dim=1) == target) & ~preds.isnan().any(dim=1)
    codes = groups.long()
    return torch.bincount(codes[right], minlength=num_groups), torch.bincount(codes, minlength=num_groups)


def accuracy(correct: Tensor, total: Tensor) -> Tensor:
    """Accuracy by group.

    Args:
        correct: Right predictions, int64[G].
        total: Examples, int64[G].

    Returns:
        float32[G]; NaN for a group never seen.

    Example:
        >>> accuracy(torch.tensor([1, 0]), torch.tensor([2, 0]))
        tensor([0.5000,    nan])
    """
    # Divided in float64, so that counts beyond 2^24 stay exact; MPS has none.
    wide = torch.float32 if correct.device.type == "mps" else torch.float64
    return (correct.to(wide) / total.to(wide)).to(torch.float32)
