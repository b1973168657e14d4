"""The privacy account of a module: what its steps have spent, and what the steps to come may spend."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from lightning_memaudit.exceptions import ArgumentError
from lightning_memaudit.functional.accounting import NoisySteps, affordable_steps, epsilon_spent, noise_multiplier
from lightning_memaudit.functional.checks import argument_error

__all__ = ["Account"]

_SPENT = 0.98
_NO_END = 10**7  # steps that a budget is looked through for, where training has no end of its own


@dataclass(slots=True)
class Account:
    """Counts steps, and settles how much noise they get.

    Attributes:
        history: All steps that the module has taken.
        steps_done: Those of the present training, which may have gone on from a checkpoint.
        settled: The terms on which the noise was settled, and the noise.
    """

    history: list[NoisySteps] = field(default_factory=list)
    steps_done: int = 0
    settled: dict[str, Any] = field(default_factory=dict)

    def settle(
        self, target_epsilon: float | None, delta: float, noise: float | None, sample_rate: float, planned: float
    ) -> tuple[float, float]:
        """The noise of the steps to come, and the step at which training has to end.

        A training that goes on from a checkpoint on the same terms keeps its noise; on other terms the noise is what
        the rest of the budget asks for.

        Args:
            target_epsilon: The budget, if there is one.
            delta: Its δ.
            noise: The noise multiplier, if it is given.
            sample_rate: Probability that an example enters a step.
            planned: Steps of the whole training; may be infinite.

        Raises:
            ArgumentError: No noise meets the budget, or it does not allow a single step.
        """
        to_come = planned - self.steps_done
        target = math.inf if target_epsilon is None else target_epsilon
        terms = {"target_epsilon": target_epsilon, "delta": delta, "sample_rate": sample_rate, "planned": planned}
        limit = planned
        if noise is None:
            if {key: value for key, value in self.settled.items() if key != "noise"} == terms:
                noise = self.settled["noise"]
            else:
                self._check_left(target, delta, planned)
                noise = noise_multiplier(
                    target, delta, sample_rate=sample_rate, steps=max(1, int(to_come)), history=self.history
                )
        elif target < math.inf and to_come > 0:
            affordable = affordable_steps(
                target,
                delta,
                noise_multiplier=noise,
                sample_rate=sample_rate,
                at_most=int(min(to_come, _NO_END)),
                history=self.history,
            )
            if not affordable:
                raise argument_error(
                    "target_epsilon",
                    target,
                    f"more is needed for one more step with noise_multiplier={noise:g} (spent: "
                    f"{epsilon_spent(self.history, delta):.3g}); raise either, or leave noise_multiplier out",
                )
            limit = self.steps_done + affordable
        self.settled = terms | {"noise": noise}
        return float(noise), limit

    def _check_left(self, target_epsilon: float, delta: float, planned: float) -> None:
        if math.isinf(planned):
            raise ArgumentError(
                f"target_epsilon={target_epsilon:g}: the Trainer has no last step that noise could be computed for; "
                "set max_epochs or max_steps, or pass steps= or noise_multiplier="
            )
        spent = epsilon_spent(self.history, delta)
        if spent >= _SPENT * target_epsilon:  # what is left would ask for noise that undoes the training before
            raise ArgumentError(
                f"target_epsilon={target_epsilon:g}: {spent:.3g} of it is spent already; raise it, or do not train on"
            )

    def step(self, noise: float, sample_rate: float) -> None:
        """Count one step."""
        self.steps_done += 1
        last = self.history[-1] if self.history else None
        if last is not None and last[:2] == (noise, sample_rate):
            self.history[-1] = NoisySteps(noise, sample_rate, last.steps + 1)
        else:
            self.history.append(NoisySteps(noise, sample_rate, 1))

    def state_dict(self) -> dict[str, Any]:
        """Plain values, which a checkpoint may hold."""
        return {
            "history": [list(part) for part in self.history],
            "steps_done": self.steps_done,
            "settled": dict(self.settled),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up an account that a checkpoint held."""
        self.history = [NoisySteps(*part) for part in state_dict["history"]]
        self.steps_done = state_dict["steps_done"]
        self.settled = dict(state_dict["settled"])
