"""Philox4x64-10 and the five designs in plain Python integers, sharing no code with the package or with numpy.

``python tests/unit/data/philox.py`` prints ``tests/golden/masks.json``.
"""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WORD = 2**64 - 1

# (name, arguments of SubsetPlan, model ids)
CASES = [
    ("fixed_size", {"n_examples": 23, "subset_fraction": 0.7, "seed": 0}, [0, 1, 2, 1000003]),
    ("fixed_size-seed", {"n_examples": 23, "subset_fraction": 0.25, "seed": 2**62 + 5}, [0, 7]),
    ("bernoulli", {"n_examples": 30, "subset_fraction": 0.3, "design": "bernoulli", "seed": 11}, [0, 5, 2**61]),
    ("paired", {"n_examples": 21, "subset_fraction": 0.5, "design": "paired", "seed": 3}, [0, 1, 2, 3, 9]),
    (
        "stratified",
        {"n_examples": 20, "subset_fraction": 0.6, "design": "stratified", "seed": 4, "strata": [4, 9, 4, -1] * 5},
        [0, 1],
    ),
    ("canaries", {"n_examples": 18, "design": "canaries", "seed": 5, "canaries": [17, 0, 3, 4, 5, 9, 3]}, [0, 1, 2]),
    (
        "units",
        {"n_examples": 18, "subset_fraction": 0.5, "seed": 6, "units": [30, 7, 7, -2, 5, 5, 5, 8, 8] * 2},
        [0, 1],
    ),
    (
        "units-canaries",
        {"n_examples": 12, "design": "canaries", "seed": 8, "units": [i // 3 for i in range(12)], "canaries": [1, 9]},
        [0, 1, 2],
    ),
]


def block(counter: list[int], key: list[int]) -> list[int]:
    """Ten rounds of Philox4x64 (Salmon, Moraes, Dror and Shaw 2011)."""
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        low = 0xD2E7470EE14C6C93 * c[0]
        high = 0xCA5A826395121157 * c[2]
        c = [high >> 64 ^ c[1] ^ k0, high & WORD, low >> 64 ^ c[3] ^ k1, low & WORD]
        k0, k1 = k0 + 0x9E3779B97F4A7C15 & WORD, k1 + 0xBB67AE8584CAA73B & WORD
    return c


def words(seed: int, key: int, stream: int) -> Iterator[int]:
    """The counter's lowest word goes up by one before each block; its highest names the stream."""
    i = 0
    while True:
        i += 1
        yield from block([i, 0, 0, stream], [seed, key])


def take(seed: int, key: int, stream: int, count: int) -> list[int]:
    source = words(seed, key, stream)
    return [next(source) for _ in range(count)]


def lowest(drawn: list[tuple[int, int]], size: int) -> set[int]:
    """The units with the ``size`` lowest words."""
    return {unit for _, unit in sorted(drawn)[:size]}


def mask(model_id: int, n_examples: int, subset_fraction=0.7, design="fixed_size", seed=0, **columns) -> str:
    unit_values = columns.get("units") or list(range(n_examples))
    number = {value: i for i, value in enumerate(sorted(set(unit_values)))}
    unit = [number[value] for value in unit_values]
    n_units = len(number)
    drawn = [(word, i) for i, word in enumerate(take(seed, model_id, 0, n_units))]
    if design == "fixed_size":
        chosen = lowest(drawn, round(subset_fraction * n_units))
    elif design == "bernoulli":
        chosen = {i for word, i in drawn if word < Fraction(subset_fraction) * 2**64}
    elif design == "paired":
        pair = model_id // 2
        drawn = [(word, i) for i, word in enumerate(take(seed, pair, 0, n_units))]
        coin = take(seed, pair, 2, 1)[0] >> 63
        chosen = lowest(drawn, (n_units + coin) // 2)
        if model_id % 2:
            chosen = set(range(n_units)) - chosen
    elif design == "stratified":
        stratum = {unit[row]: columns["strata"][row] for row in range(n_examples)}
        chosen = set()
        for value in set(stratum.values()):
            members = [(word, i) for word, i in drawn if stratum[i] == value]
            chosen |= lowest(members, round(subset_fraction * len(members)))
    else:
        coins = {unit[row] for row in columns["canaries"]}
        chosen = {i for word, i in drawn if i not in coins or word >> 63}
    return "".join(str(int(unit[row] in chosen)) for row in range(n_examples))


def model_seed(seed: int, model_id: int) -> int:
    return take(seed, model_id, 1, 1)[0] >> 32


def golden() -> dict:
    return {
        name: {
            "plan": arguments,
            "masks": {str(k): mask(k, **arguments) for k in ids},
            "model_seeds": {str(k): model_seed(arguments["seed"], k) for k in ids},
        }
        for name, arguments, ids in CASES
    }


if __name__ == "__main__":
    print(json.dumps(golden(), indent=1))
