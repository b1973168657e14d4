"""From misfits on the training set to the excess error that they announce."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np

from lightning_memaudit.functional.checks import argument_error, as_array, as_choice, as_number, element_error

if TYPE_CHECKING:
    from lightning_memaudit.functional.checks import Array

__all__ = ["Unit", "label_confidence", "predicted_excess"]

Unit = Literal["point", "subpopulation"]


def label_confidence(label_noise: float, *, test_labels: Literal["clean", "noisy"] = "clean") -> float:
    """Posterior margin of a label seen once, when labels are redrawn uniformly now and then (conf in Feldman 2019).

    With κ = 1 − ``label_noise`` a label seen once is more probable than any other by κ; a test label that is as noisy
    agrees with the true one by another factor κ. Costs and predictions for singletons are multiplied by it.

    Args:
        label_noise: Probability that a training label is drawn anew, uniformly over the classes, in [0, 1].
        test_labels: ``"clean"``, or ``"noisy"`` with the same noise.

    Returns:
        κ or κ².

    Raises:
        ArgumentError: A number is out of range, or a name is unknown.

    Example:
        >>> label_confidence(0.5), label_confidence(0.5, test_labels="noisy")
        (0.5, 0.25)
    """
    kappa = 1 - as_number(label_noise, name="label_noise", most=1.0)
    as_choice(test_labels, name="test_labels", options=("clean", "noisy"))
    return kappa if test_labels == "clean" else kappa**2


def predicted_excess(
    tau: Array, errn: Array, *, ell: Array, unit: Unit = "point", coupling: Array = 1.0, confidence: Array = 1.0
) -> float:
    """Excess error that misfits on the training set announce: Σ_ℓ λ_ℓ τ_ℓ errn(ℓ) (Feldman 2019, the main theorems).

    ``unit="point"``: errn(ℓ) is the number of points seen ℓ times that are missed. ``unit="subpopulation"``: it is the
    number of missed training EXAMPLES in subpopulations with ℓ of them, and is divided by ℓ. λ_ℓ is the probability
    with which the answer to a fresh member copies that to a seen one, whichever that is. The paper asks for less,
    a total-variation distance of at most 1 − λ_ℓ between the two answers; then only Pr[miss] − (1 − λ_ℓ) is sure, as a
    learner shows that is wrong on half of the seen members and on no fresh one.

    Args:
        tau: τ_ℓ [L], from ``tau`` or ``good_turing_tau``.
        errn: Misfits [L], at least 0, not necessarily whole.
        ell: ℓ [L], at least 1.
        unit: ``"point"`` or ``"subpopulation"``.
        coupling: λ_ℓ in [0, 1], one number or [L].
        confidence: Posterior margins of the labels in [0, 1], one number or [L].

    Returns:
        The excess over the optimal error; at most 1, since an error is a probability. NaN where points are missed whose
        τ_ℓ is NaN.

    Raises:
        ArgumentError: Shapes differ or a number is out of range.

    Example:
        >>> predicted_excess([0.01, 0.02], [4, 6], ell=[1, 2], unit="subpopulation", coupling=0.5)
        0.05
    """
    ells = as_array(ell, name="ell", ndim=1)
    given = {"tau": tau, "errn": errn, "coupling": coupling, "confidence": confidence}
    arrays = {name: as_array(value, name=name) for name, value in given.items()}
    for name, array in arrays.items():
        scalar = array.ndim == 0 and name in ("coupling", "confidence")
        if array.shape != ells.shape and not scalar:
            raise argument_error(name, array, f"the shape of ell, {list(ells.shape)}, is needed")
        most = np.inf if name == "errn" else 1.0
        good = (array >= 0) & (array <= most) & np.isfinite(array) | (np.isnan(array) & (name == "tau"))
        if not good.all():
            raise element_error(name, array, ~good, f"numbers in [0, {most:g}] are needed")
    wrong = ~((ells >= 1) & (ells == np.floor(ells)))
    if wrong.any():
        raise element_error("ell", ells, wrong, "whole numbers of at least 1 are needed")
    as_choice(unit, name="unit", options=get_args(Unit))
    misses = arrays["errn"] / (ells if unit == "subpopulation" else 1.0)
    terms = np.where(misses > 0, arrays["coupling"] * arrays["confidence"] * arrays["tau"] * misses, 0.0)
    return float(np.minimum(terms.sum(), 1.0))
