from itertools import chain

import numpy as np
import pytest
import torch
from opacus.data_loader import DPDataLoader
from scipy import stats
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Subset,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lightning_memaudit.callbacks.dp.poisson import Draw, PoissonSampler, check_loader, parts_needed, poisson_loader
from lightning_memaudit.exceptions import UnsupportedDataError
from tests.unit.callbacks.dp.toys import loader, rows


def drawn(seed=0, n=50, **options):
    options = {"sample_rate": 0.1, "steps": 400} | options
    return list(PoissonSampler(rows(n), generator=torch.Generator().manual_seed(seed), **options))


def test_every_example_has_its_own_coin():
    mask = np.zeros((400, 50), bool)
    for step, sample in enumerate(drawn()):
        mask[step, sample] = True
    sizes = mask.sum(1)
    low, high = stats.binom.interval(0.9999, mask.size, 0.1)
    assert low < mask.sum() < high
    assert stats.chisquare(mask.sum(0)).pvalue > 1e-4  # rows alike
    spread = 399 * sizes.var(ddof=1) / (50 * 0.1 * 0.9)  # and independent: batch sizes are binomial
    assert stats.chi2.ppf(1e-4, 399) < spread < stats.chi2.isf(1e-4, 399)
    assert np.abs(np.corrcoef(mask.T) - np.eye(50)).max() < 0.3


def test_extreme_rates():
    assert drawn(sample_rate=1.0, steps=2) == [list(range(50))] * 2
    assert [] in drawn(sample_rate=0.001, steps=5)
    tiny = sum(len(sample) for sample in drawn(sample_rate=1e-6, steps=100, n=20_000))
    assert tiny <= stats.poisson.isf(1e-5, 2)


def test_parts_and_processes_share_each_sample():
    whole = drawn(seed=4)
    parts = drawn(seed=4, parts=3)
    assert [list(chain(*parts[3 * i : 3 * i + 3])) for i in range(400)] == whole
    assert max(len(part) for part in parts) <= max(-(-len(sample) // 3) for sample in whole)
    shares = [drawn(seed=4, rank=rank, world_size=2) for rank in range(2)]
    assert [sorted(chain(*pair)) for pair in zip(*shares, strict=True)] == whole


def test_practically_no_sample_has_parts_that_are_too_large():
    for n, rate, most in [(1000, 0.05, 16), (50, 0.5, 10), (60_000, 0.004, 32), (10, 1.0, 3)]:
        parts = parts_needed(n, rate, most)
        assert stats.binom.sf(parts * most, n, rate) < 1e-9 <= stats.binom.sf((parts - 1) * most - 1, n, rate)
        assert parts_needed(n, rate, most, world_size=2) <= parts
    assert parts_needed(10, 1.0, 100) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_say_how_many_examples_were_drawn_and_are_never_empty(workers):
    draw = Draw()
    plain = loader(20, 4, num_workers=workers, persistent_workers=bool(workers))
    made = poisson_loader(plain, draw, sample_rate=0.05, steps=30, parts=2, generator=torch.Generator().manual_seed(0))
    assert len(made) == 60
    assert made.batch_size == 4
    for epoch in range(2):
        sizes = []
        for number, (inputs, labels, index) in enumerate(made):
            assert draw.number == 60 * epoch + number + 1
            assert len(inputs) == len(labels) == max(1, draw.n_examples)
            assert draw.n_examples or index.tolist() == [0]
            sizes.append(draw.n_examples)
        assert {0, 1} <= set(sizes)
        assert number == 59


def test_collate_functions_and_samples_of_any_kind_are_kept():
    class Texts(Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, i):
            return {"text": "x" * i, "row": i}

    plain = DataLoader(Texts(), batch_size=3, collate_fn=lambda samples: [sample["text"] for sample in samples])
    made = poisson_loader(plain, Draw(), sample_rate=0.3, steps=20, generator=torch.Generator().manual_seed(0))
    assert all(isinstance(text, str) for batch in made for text in batch)


class Stream(IterableDataset):
    def __iter__(self):
        yield from rows(4)


def sampled(sampler, dataset=None):
    return DataLoader(dataset or rows(40), batch_size=8, sampler=sampler)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: [loader(), loader()], "training loader is a list.*ConcatDataset"),
        (lambda: {"a": loader()}, "training loader is a dict"),
        (lambda: DPDataLoader.from_data_loader(loader()), "training loader is a DPDataLoader.*one plain"),
        (lambda: iter(loader()), "training loader is a _SingleProcess"),
        (lambda: DataLoader(Stream(), batch_size=2), r"\(Stream\) has no numbered rows"),
        (lambda: DataLoader(rows(8), batch_size=None), "has no batch_size"),
        (lambda: DataLoader(rows(8), batch_sampler=BatchSampler(range(8), 2, False)), "has no batch_size"),
        (lambda: sampled(WeightedRandomSampler([1.0] * 40, 40)), "sampler WeightedRandomSampler.*shuffle=True"),
        (lambda: sampled(SubsetRandomSampler(range(10))), "sampler SubsetRandomSampler.*Subset"),
        (lambda: sampled(RandomSampler(rows(40), replacement=True)), "sampler RandomSampler"),
        (lambda: sampled(RandomSampler(rows(40), num_samples=20)), "sampler RandomSampler"),
        (lambda: DataLoader(Subset(rows(8), []), batch_size=2), "gives no batch .0 examples"),
        (lambda: loader(8, 16, drop_last=True), "gives no batch .8 examples, batch_size=16, drop_last=True"),
    ],
)
def test_loaders_that_poisson_samples_cannot_replace_are_refused(made, message):
    with pytest.raises(UnsupportedDataError, match=message):
        check_loader(made())


def test_shuffled_and_sequential_loaders_pass():
    for shuffle in (True, False):
        plain = loader(shuffle=shuffle)
        assert check_loader(plain) is plain
