import random
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from scipy.special import logsumexp
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit.data.randomness import seeded
from lightning_memaudit.exceptions import ArgumentError, UnsupportedDataError
from lightning_memaudit.outcomes.scoring import (
    Binary,
    ExampleScores,
    Multiclass,
    Sequence,
    find_score_function,
    multiclass_scores,
    score_split,
)


class Says(LightningModule):
    """Answers with its input, or with what ``wrap`` makes of it."""

    def __init__(self, wrap=lambda x: x):
        super().__init__()
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(x)


def brute_force(logits, target):
    z = np.asarray(logits, dtype=np.float64)
    rows = np.arange(len(z))
    rest = np.array([np.delete(z[i], target[i]) for i in rows])
    return z[rows, target] - logsumexp(rest, axis=1), logsumexp(z, axis=1) - z[rows, target]


def same(score_fn, logits, target, wrap=lambda x: x):
    return score_fn(Says(wrap), (logits, target))


def score(module, data, score_fn, batch_size=4, collate_fn=None):
    loader = DataLoader(data, batch_size=batch_size, collate_fn=collate_fn)
    return score_split(module, loader, score_fn, transfer=lambda batch: batch, split="train")


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [1.0, 50.0, 400.0])
def test_margin_and_loss_against_a_float64_brute_force(n_classes, scale):
    rng = np.random.default_rng(n_classes)
    logits = rng.normal(size=(64, n_classes)).clip(-1, 1) * scale
    target = rng.integers(n_classes, size=64)
    scores = same(Multiclass(), torch.tensor(logits), torch.tensor(target))
    margin, loss = brute_force(logits, target)
    np.testing.assert_allclose(scores.margin, margin, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(scores.loss, loss, rtol=1e-12, atol=1e-9)
    np.testing.assert_array_equal(scores.correct, logits.argmax(1) == target)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_saturated_logits_of_every_precision_stay_finite_and_right(dtype):
    logits = torch.tensor([[400.0, -400.0, 0.0], [-400.0, 400.0, 400.0]], dtype=dtype)
    scores = same(Multiclass(), logits, torch.tensor([0, 0]))
    assert scores.margin.dtype == torch.float64
    assert scores.margin[0] == 400
    assert scores.margin[1].item() == pytest.approx(-800 - np.log(2))
    assert scores.loss[0] == pytest.approx(0, abs=1e-12)


def test_logits_that_are_not_finite_are_wrong_and_no_crash():
    nan, inf = float("nan"), float("inf")
    logits = torch.tensor([[nan, 1.0], [inf, 0.0], [-inf, -inf], [0.0, -inf], [2.0, 1.0]])
    scores = same(Multiclass(), logits, torch.zeros(5, dtype=torch.long))
    assert scores.correct.tolist() == [False, False, False, True, True]
    assert scores.prediction.tolist() == [-1, -1, -1, 0, 0]
    assert scores.margin.isnan().tolist() == [True, True, True, False, False]
    assert scores.margin[3] == inf
    assert scores.loss[3] == 0


def test_a_diverged_model_is_stored_without_a_warning():
    data = TensorDataset(torch.tensor([[3e38, -3e38], [float("nan"), 0.0]]), torch.tensor([1, 0]))
    scores = score(Says(), data, Multiclass())
    assert scores.margin.dtype == np.float32
    assert scores.margin[0] == -np.inf
    assert np.isnan(scores.margin[1])
    assert scores.correct.tolist() == [False, False]


@pytest.mark.parametrize("target", [torch.tensor([0, 3, 0, 0]), torch.tensor([0, -1, 0, 0])])
def test_targets_that_are_no_class_are_refused(target):
    with pytest.raises(UnsupportedDataError, match=r"targets range over .* 3 classes"):
        same(Multiclass(), torch.randn(4, 3), target)


@pytest.mark.parametrize("value", [0.3, float("nan")])
def test_float_targets_are_class_numbers_or_refused(value):
    logits = torch.randn(3, 3)
    assert same(Multiclass(), logits, torch.tensor([0.0, 1.0, 2.0])).margin.shape == (3,)
    assert same(Multiclass(), logits, torch.tensor([[0], [1], [2]])).margin.shape == (3,)
    with pytest.raises(UnsupportedDataError, match="no class numbers"):
        same(Multiclass(), logits, torch.tensor([0.0, value, 1.0]))


def test_probabilities_are_refused_unless_announced():
    logits, target = torch.randn(16, 3), torch.randint(3, (16,))
    soft = logits.softmax(1)
    with pytest.raises(UnsupportedDataError, match=r"scoring.Multiclass\(outputs='probabilities'\)"):
        same(Multiclass(), soft, target)
    announced = same(Multiclass(outputs="probabilities"), soft, target)
    margin, loss = brute_force(logits, target.numpy())
    np.testing.assert_allclose(announced.margin, margin, atol=1e-5)
    np.testing.assert_allclose(announced.loss, loss, atol=1e-5)
    assert same(Multiclass(outputs="logits"), soft, target).margin.abs().max() < 2
    np.testing.assert_allclose(same(Multiclass(), logits.log_softmax(1), target).margin, margin, atol=1e-5)


def test_sigmoid_outputs_are_refused_unless_announced():
    logits, target = torch.tensor([-3.0, 2.0, 0.5, -1.0]), torch.tensor([0, 1, 0, 1])
    for outputs in (logits.sigmoid(), logits.sigmoid()[:, None]):
        with pytest.raises(UnsupportedDataError, match=r"scoring.Binary\(outputs='probabilities'\)"):
            same(Binary(), outputs, target)
        announced = same(Binary(outputs="probabilities"), outputs, target)
        np.testing.assert_allclose(announced.margin, [3.0, 2.0, -0.5, -1.0], atol=1e-5)
        assert announced.correct.tolist() == [True, True, False, False]
    with pytest.raises(UnsupportedDataError, match="probabilities"):
        same(Binary(), torch.stack([logits, -logits], 1).softmax(1), target)


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool, torch.uint8])
@pytest.mark.parametrize("target_shape", [(8,), (8, 1)])
def test_binary_with_one_logit(shape, dtype, target_shape):
    logits = torch.linspace(-400, 400, 8)
    target = torch.tensor([0, 1] * 4)
    scores = same(Binary(), logits.reshape(shape), target.to(dtype).reshape(target_shape))
    np.testing.assert_allclose(scores.margin, torch.where(target == 1, logits, -logits), rtol=1e-12)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), target.double(), reduction="none")
    np.testing.assert_allclose(scores.loss, loss, atol=1e-12)
    np.testing.assert_array_equal(scores.prediction, logits > 0)


def test_binary_with_two_logits_and_with_a_squeezed_last_batch():
    two = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    assert same(Binary(), two, torch.tensor([1.0, 1.0])).margin.tolist() == [2.0, -3.0]
    data = TensorDataset(torch.tensor([[2.0], [-3.0], [4.0]]), torch.tensor([1, 1, 1]))
    scores = score(Says(lambda x: x.squeeze()), data, Binary(), batch_size=2)  # the last batch squeezes to no dimension
    assert scores.margin.tolist() == [2.0, -3.0, 4.0]


@pytest.mark.parametrize(
    ("logits", "target", "match"),
    [
        (torch.zeros(3, 3), torch.zeros(3), "one or two logits"),
        (torch.zeros(2, 2), torch.zeros(2, 2), "one or two logits"),
        (torch.zeros(3), torch.tensor([-1.0, 1.0, 1.0]), r"targets 0 and 1.*-1"),
        (torch.zeros(3), torch.tensor([0.5, 1.0, 1.0]), "targets 0 and 1"),
    ],
)
def test_binary_refuses_other_shapes_and_targets(logits, target, match):
    with pytest.raises(UnsupportedDataError, match=match):
        same(Binary(), logits, target)


def test_sequence_means_over_tokens_and_nan_where_none_counts():
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.normal(size=(4, 5, 7)) * 20)
    target = torch.tensor(rng.integers(7, size=(4, 5)))
    target[0, 3:] = -100
    target[2] = -100
    scores = same(Sequence(), logits, target)
    for i in (0, 1, 3):
        rows = np.flatnonzero(target[i] != -100)
        margin, loss = brute_force(logits[i][rows], target[i][rows].numpy())
        right = (logits[i][rows].argmax(1) == target[i][rows]).double().mean()
        np.testing.assert_allclose(
            [scores.correct[i], scores.margin[i], scores.loss[i]], [right, margin.mean(), loss.mean()]
        )
    assert all(column[2].isnan() for column in (scores.correct, scores.margin, scores.loss))
    assert scores.prediction.tolist() == [-1] * 4
    whole = score(Says(), TensorDataset(logits, target), Sequence(), batch_size=3)
    assert whole.correct.dtype == np.float32
    assert np.isnan(whole.correct[2])
    other = same(Sequence(ignore_index=0), logits, target.clamp_min(0))
    assert other.correct.isfinite().sum() == 3


def test_sequence_of_all_right_stays_a_share():
    data = TensorDataset(torch.eye(3)[None].repeat(2, 1, 1) * 5, torch.arange(3)[None].repeat(2, 1))
    whole = score(Says(), data, Sequence())
    assert whole.correct.dtype == np.float32
    assert whole.correct.tolist() == [1, 1]
    with pytest.raises(UnsupportedDataError, match="sequence"):
        same(Sequence(), torch.zeros(2, 3), torch.zeros(2))


@pytest.mark.parametrize(
    ("batch", "score_fn"),
    [
        ({"image": 0, "label": 1}, Multiclass()),
        ({"x": 0, "y": 1}, Multiclass()),
        ({"input_ids": 0, "labels": 1, "attention_mask": 0}, Multiclass()),
        ({"pixels": 0, "digit": 1}, Multiclass(inputs="pixels", target="digit")),
        ((1, 0), Multiclass(inputs=1, target=0)),
        ([0, 1, 0], Multiclass()),
    ],
)
def test_inputs_and_targets_are_found(batch, score_fn):
    parts = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    filled = {k: parts[v] for k, v in batch.items()} if isinstance(batch, dict) else [parts[v] for v in batch]
    assert torch.equal(score_fn(Says(), filled).margin, Multiclass()(Says(), parts).margin)


def test_what_is_not_found_is_an_error_that_lists_what_is():
    batch = {"pixels": torch.zeros(2, 3), "digit": torch.zeros(2)}
    with pytest.raises(UnsupportedDataError, match=r"'pixels', 'digit'.*scoring.Multiclass\(inputs="):
        Multiclass()(Says(), batch)
    with pytest.raises(UnsupportedDataError, match=r"'answer'.*'pixels', 'digit'"):
        Multiclass(inputs="pixels", target="answer")(Says(), batch)
    with pytest.raises(UnsupportedDataError, match="of 1, and entry 1"):
        Multiclass()(Says(), (torch.zeros(2, 3),))
    with pytest.raises(UnsupportedDataError, match="which is a Tensor"):
        Multiclass()(Says(), torch.zeros(2, 3))
    with pytest.raises(UnsupportedDataError, match="no tensor of numbers"):
        Multiclass()(Says(), (torch.zeros(2, 3), ["cat", "dog"]))


def test_outputs_with_logits_are_unpacked_and_others_named():
    logits, target = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    expected = same(Multiclass(), logits, target).loss
    assert torch.equal(same(Multiclass(), logits, target, lambda x: {"logits": x, "loss": 0}).loss, expected)
    assert torch.equal(same(Multiclass(), logits, target, lambda x: type("Out", (), {"logits": x})()).loss, expected)
    with pytest.raises(UnsupportedDataError, match="returned a tuple"):
        same(Multiclass(), logits, target, lambda x: (x, x))


def test_a_users_function_and_what_it_may_not_return():
    data = TensorDataset(torch.randn(6, 2), torch.zeros(6, dtype=torch.long))

    def fine(pl_module, batch):
        n = len(batch[0])
        return ExampleScores(torch.ones(n, dtype=torch.int), torch.zeros(n).bfloat16(), torch.zeros(n), torch.zeros(n))

    scores = score(Says(), data, fine)
    assert scores.correct.dtype == bool
    assert scores.correct.all()

    def with_correct(value):
        return lambda m, b: ExampleScores(value(len(b[0])), *[torch.zeros(len(b[0]))] * 3)

    assert score(Says(), data, with_correct(lambda n: torch.full((n,), 0.25))).correct.tolist() == [0.25] * 6
    for wrong, match in [
        (with_correct(lambda n: torch.full((n,), 1.5)), r"outside \[0, 1\]"),
        (
            with_correct(lambda n: torch.ones(n, 1)),
            r"batch of 4 examples of split 'train' gave correct of shape \[4, 1\]",
        ),
        (with_correct(lambda n: torch.tensor(1.0)), "one value an example"),
        (lambda m, b: torch.zeros(4), "must return scoring.ExampleScores"),
    ]:
        with pytest.raises(UnsupportedDataError, match=match):
            score(Says(), data, wrong)


def test_a_collate_that_drops_samples_is_detected():
    data = TensorDataset(torch.randn(6, 2), torch.zeros(6, dtype=torch.long))

    def drop(samples):
        return torch.utils.data.default_collate(samples[1:])

    with pytest.raises(UnsupportedDataError, match="collate_fn must keep every sample"):
        score(Says(), data, Multiclass(), collate_fn=drop)


def test_modes_are_restored_and_scoring_is_in_evaluation_mode():
    class Net(LightningModule):
        def __init__(self):
            super().__init__()
            self.norm, self.drop, self.out = torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 3)

        def forward(self, x):
            return self.out(self.drop(self.norm(x)))

    module = Net().train()
    module.norm.eval()  # frozen by the user
    with torch.no_grad():
        module.norm.running_mean += 1
    before = {name: value.clone() for name, value in module.state_dict().items()}
    data = TensorDataset(torch.randn(10, 4), torch.randint(3, (10,)))
    first, second = (score(module, data, Multiclass()) for _ in range(2))
    np.testing.assert_array_equal(first.margin, second.margin)
    assert [module.training, module.norm.training, module.drop.training] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with pytest.raises(UnsupportedDataError):
        score(module, data, Binary())
    assert module.drop.training


def test_the_pass_neither_reads_nor_moves_global_randomness():
    class Noisy(LightningModule):
        def forward(self, x):
            return x + torch.rand_like(x) + random.random() + np.random.random()  # noqa: NPY002

    data = TensorDataset(torch.randn(10, 3), torch.randint(3, (10,)))
    margins = []
    for seed in (1, 2):
        torch.manual_seed(seed), random.seed(seed), np.random.seed(seed)  # noqa: NPY002
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        with seeded(0):  # as OutcomeRecorder does
            margins.append(score(Noisy(), data, Multiclass()).margin)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert random.getstate() == before[1]
        assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002
    np.testing.assert_array_equal(*margins)


def test_names_of_score_functions():
    assert find_score_function("sequence") == Sequence()
    with pytest.raises(ArgumentError, match="multiclass, binary, sequence"):
        find_score_function("regression")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(multiclass_scores(torch.zeros(0, 3), torch.zeros(0)).margin) == 0


def test_confidence_is_the_probability_of_the_prediction():
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)) * 3
    logits[3, 1] = torch.nan
    scores = multiclass_scores(logits, torch.arange(50) % 4)
    expected = logits.double().softmax(1).amax(1)
    torch.testing.assert_close(scores.confidence, expected, equal_nan=True)
    assert scores.confidence[3].isnan()
    right = scores.correct & ~scores.confidence.isnan()
    torch.testing.assert_close(scores.confidence[right], scores.margin[right].sigmoid())
