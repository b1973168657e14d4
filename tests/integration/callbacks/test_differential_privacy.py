import copy
import json
import pickle
import signal
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    StochasticWeightAveraging,
)
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.tuner import Tuner
from scipy import stats
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from lightning_memaudit import SubsetDataModule, SubsetPlan
from lightning_memaudit.callbacks.differential_privacy import DifferentialPrivacy
from lightning_memaudit.exceptions import ArgumentError, ConfigurationError, UnsupportedDataError
from lightning_memaudit.functional.accounting import epsilon_spent
from tests.unit.callbacks.dp.toys import Net, fit, loader, mlp, private, reference, replay, rows, twin, weights

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "pld.json").read_text())["cases"][:3]
DELTA = {"target_delta": 1e-3}


@pytest.fixture(autouse=True)
def _interrupts_as_before():
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


# ------------------------------------------------------------------------------------------------------ the budget


class Digits(LightningDataModule):
    def setup(self, stage=None):
        inputs, labels = load_digits(return_X_y=True)
        data = TensorDataset(torch.tensor(inputs / 16, dtype=torch.float32), torch.tensor(labels), torch.arange(1797))
        self.train, self.test = torch.utils.data.random_split(data, [1257, 540])

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=64, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.test, batch_size=540)


class DigitsNet(Net):
    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(64, 32), nn.ReLU(inplace=True), nn.Linear(32, 10)))

    def validation_step(self, batch, batch_idx):
        self.log("accuracy", (self(batch[0]).argmax(1) == batch[1]).float().mean())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"epsilon {case['target']:g}")
def test_a_plain_script_trains_digits_to_its_budget(case):
    callback = DifferentialPrivacy(target_epsilon=case["target"])
    assert callback.epsilon == 0
    trainer = fit(DigitsNet(), callback, Digits(), max_epochs=20, check_val_every_n_epoch=20, limit_val_batches=1.0)
    assert trainer.global_step == 400
    assert 0.98 * case["target"] <= callback.epsilon <= case["target"]
    (noise, rate, steps), *others = case["history"]
    assert not others
    assert callback.mechanism.noise_multiplier == pytest.approx(noise, rel=1e-3)
    assert (callback.mechanism.sample_rate, callback.mechanism.steps) == (rate, steps)
    assert epsilon_spent(case["history"], case["delta"]) == pytest.approx(case["epsilon"], abs=0.015)
    assert callback.epsilon == pytest.approx(case["epsilon"], abs=0.015)
    assert trainer.callback_metrics["dp/epsilon"] == pytest.approx(callback.epsilon)
    assert trainer.callback_metrics["accuracy"] > 0.25  # of ten digits: it learns


def test_training_ends_before_the_step_that_would_exceed_the_budget():
    callback = DifferentialPrivacy(target_epsilon=2.0, noise_multiplier=1.5, **DELTA)
    trainer = fit(Net(), callback, max_epochs=50)
    steps = trainer.global_step
    assert 0 < steps < 250
    assert epsilon_spent([(1.5, 0.2, steps)], 1e-3) == callback.epsilon <= 2.0
    assert epsilon_spent([(1.5, 0.2, steps + 1)], 1e-3) > 2.0


def test_no_step_beyond_the_budget_even_when_the_trainer_goes_on():
    class Stubborn(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.fit_loop.epoch_loop.max_steps = -1

    model, callback = Net(), private(steps=7)
    seen = []
    model.on_before_zero_grad = lambda optimizer: seen.append(weights(model))
    fit(model, callback, callbacks=[Stubborn()], max_epochs=4)
    assert callback._account.steps_done == 7
    assert not torch.equal(seen[6], seen[7])
    assert torch.equal(seen[7], weights(model))


def test_an_endless_trainer_needs_a_noise_or_a_number_of_steps():
    with pytest.raises(ArgumentError, match=r"target_epsilon=3.*no last step.*steps="):
        fit(Net(), DifferentialPrivacy(target_epsilon=3.0, **DELTA), max_epochs=-1)
    for options in ({"steps": 12}, {"noise_multiplier": 2.0}):
        callback = DifferentialPrivacy(target_epsilon=3.0, **DELTA, **options)
        fit(Net(), callback, max_epochs=-1)
        assert 2.0 < callback.epsilon <= 3.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"target_epsilon": 1e-6, "target_delta": 1e-9},
            "target_epsilon=1e-06: no noise_multiplier up to 10000.*raise target_epsilon",
        ),
        ({"target_epsilon": 1e9}, "spend only .* set noise_multiplier yourself"),
        ({"target_epsilon": 0.5, "noise_multiplier": 0.5}, "target_epsilon=0.5: more is needed for one more step"),
        ({"target_epsilon": 5.0, "noise_multiplier": 0.0}, "target_epsilon=5.0: more is needed for one more step"),
    ],
)
def test_budgets_that_cannot_be_met(options, message):
    with pytest.raises(ArgumentError, match=message):
        fit(Net(), DifferentialPrivacy(**(DELTA | options)))


def test_a_large_delta_is_warned_of():
    with pytest.warns(UserWarning, match="target_delta=0.5 is not below 1 / 40 examples"):
        fit(Net(), private(target_delta=0.5), max_epochs=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "target_epsilon=None: a budget is needed.* or a noise_multiplier"),
        ({"target_epsilon": 0}, "target_epsilon=0"),
        ({"target_epsilon": float("nan")}, "target_epsilon=nan"),
        ({"target_epsilon": "3"}, "target_epsilon='3'"),
        ({"noise_multiplier": -1.0}, "noise_multiplier=-1.0"),
        ({"noise_multiplier": float("inf")}, "noise_multiplier=inf"),
        ({"target_epsilon": 1.0, "target_delta": 0.0}, "target_delta=0.0"),
        ({"target_epsilon": 1.0, "target_delta": 2.0}, "target_delta=2.0"),
        ({"target_epsilon": 1.0, "max_grad_norm": 0.0}, "max_grad_norm=0.0"),
        ({"target_epsilon": 1.0, "max_grad_norm": None}, "max_grad_norm=None"),
        ({"target_epsilon": 1.0, "sample_rate": 1.5}, "sample_rate=1.5"),
        ({"target_epsilon": 1.0, "expected_batch_size": -3}, "expected_batch_size=-3"),
        ({"target_epsilon": 1.0, "steps": 0}, "steps=0: a whole number"),
        ({"target_epsilon": 1.0, "max_physical_batch_size": 1.5}, "max_physical_batch_size=1.5: a whole number"),
        ({"target_epsilon": 1.0, "grad_sample_mode": "ew"}, "grad_sample_mode='ew'"),
        ({"target_epsilon": 1.0, "loss_reduction": "max"}, "loss_reduction='max'"),
    ],
)
def test_arguments_out_of_range_are_named(options, message):
    with pytest.raises(ArgumentError, match=message):
        DifferentialPrivacy(**options)


# ------------------------------------------------------------------------------------------------- what a step does


@pytest.mark.parametrize("mode", ["hooks", "functorch", "ghost"])
@pytest.mark.parametrize("optimizer", [None, partial(torch.optim.Adam, lr=0.01)], ids=["sgd", "adam"])
def test_without_noise_and_clipping_it_is_plain_training_on_the_same_batches(mode, optimizer):
    model = Net(optimizer=optimizer, one_cycle=True)
    plain = twin(model, scale=lambda n: n / 8)  # 40 examples at a rate of .2
    callback = private(grad_sample_mode=mode)
    trainer = fit(model, callback, max_epochs=3)
    assert trainer.global_step == len(model.seen) == 15
    replay(plain, model.seen)
    np.testing.assert_allclose(weights(model), weights(plain), atol=1e-5)
    assert model.rates == plain.rates
    assert callback.epsilon == float("inf")
    assert "dp/epsilon" not in trainer.callback_metrics


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_it_clips_example_by_example(mode):
    model = Net()
    by_hand = twin(model)
    fit(model, private(max_grad_norm=0.2, grad_sample_mode=mode))
    reference(by_hand, model.seen, max_grad_norm=0.2, expected=8)
    np.testing.assert_allclose(weights(model), weights(by_hand), atol=1e-5)


def test_noise_has_the_stated_size_and_is_new_in_every_step():
    model = Net(mlp(6, 60), loss=lambda net, batch: net(batch[0]).sum() * 0, optimizer=partial(torch.optim.SGD, lr=1.0))
    states = [weights(model)]
    model.on_train_batch_end = lambda outputs, batch, batch_idx: states.append(weights(model))
    callback = DifferentialPrivacy(noise_multiplier=3.0, max_grad_norm=0.5, expected_batch_size=10.0)
    fit(model, callback, max_epochs=4)
    noise = -np.diff(torch.stack(states).numpy(), axis=0) * 10 / 1.5  # sigma C / expected size
    low, high = stats.chi2.interval(0.9999, noise.size)
    assert low < (noise**2).sum() < high
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-4
    assert np.abs(np.corrcoef(noise) - np.eye(20)).max() < 0.25  # 542 weights: 5 sigma


def test_runs_differ_by_their_seed_alone():
    start = Net()
    results = []
    for seed in (1, 1, 2):
        model = twin(start)
        fit(model, DifferentialPrivacy(noise_multiplier=1.0), seed=seed)
        results.append((weights(model), model.seen))
    assert torch.equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1] != results[2][1]
    assert not torch.equal(results[0][0], results[2][0])


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_samples_larger_than_memory_come_in_parts_of_one_step(mode):
    whole, data = Net(one_cycle=True), loader(60, 30)
    parted = twin(whole)
    fit(whole, private(max_grad_norm=0.2, grad_sample_mode=mode), data)
    callback = private(max_grad_norm=0.2, grad_sample_mode=mode, max_physical_batch_size=8)
    trainer = fit(parted, callback, data)
    parts = trainer.num_training_batches // 2  # 2 samples an epoch
    assert parts > 4
    assert max(len(batch) for batch in parted.seen) <= 8
    samples = [sorted(chain.from_iterable(parted.seen[i : i + parts])) for i in range(0, 4 * parts, parts)]
    assert samples == [sorted(batch) for batch in whole.seen]
    assert trainer.global_step == callback._account.steps_done == 4
    assert trainer.accumulate_grad_batches == 1
    assert parted.rates[::parts] == whole.rates
    np.testing.assert_allclose(weights(parted), weights(whole), atol=1e-6)


def test_an_empty_sample_takes_a_step_of_noise_alone():
    data, model = loader(5, 1), Net()
    before = weights(model)
    callback = private(sample_rate=1e-9, steps=6)
    trainer = fit(model, callback, data, max_steps=6, max_epochs=-1, limit_train_batches=6)
    assert callback._account.steps_done == 6
    assert model.seen == [[0]] * 6
    assert torch.equal(weights(model), before)
    assert torch.isfinite(trainer.callback_metrics["train_loss"])
    fit(
        twin(model),
        DifferentialPrivacy(noise_multiplier=1.0, sample_rate=1e-9),
        data,
        limit_train_batches=3,
        max_epochs=1,
    )
    noisy = twin(model)
    fit(noisy, DifferentialPrivacy(noise_multiplier=1.0, sample_rate=1e-9), data, limit_train_batches=3, max_epochs=1)
    assert not torch.equal(weights(noisy), before)


def manual(loss_of):
    class Manual(Net):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch, batch_idx):
            self.seen.append(batch[2].tolist())
            return loss_of(self, self.optimizers(), lambda: cross_entropy(self(batch[0]), batch[1]), batch_idx)

    return Manual()


def one_step(model, optimizer, loss, batch_idx):
    optimizer.zero_grad()
    model.manual_backward(loss())
    optimizer.step()


def test_manual_optimization():
    model = manual(one_step)
    automatic = Net()
    automatic.load_state_dict(model.state_dict())
    callback = private(max_grad_norm=0.2)
    fit(model, callback)
    fit(automatic, private(max_grad_norm=0.2))
    assert model.seen == automatic.seen
    assert torch.equal(weights(model), weights(automatic))
    assert callback._account.steps_done == 10


def test_manual_optimization_may_leave_a_batch_out_but_not_use_one_twice_or_add_two_up():
    def skipping(model, optimizer, loss, batch_idx):
        if batch_idx % 2:
            one_step(model, optimizer, loss, batch_idx)

    def twice(model, optimizer, loss, batch_idx):
        one_step(model, optimizer, loss, batch_idx)
        one_step(model, optimizer, loss, batch_idx)

    def adding(model, optimizer, loss, batch_idx):
        model.manual_backward(loss())
        if batch_idx % 2:
            optimizer.step()
            optimizer.zero_grad()

    callback = private()
    fit(manual(skipping), callback)
    assert callback._account.steps_done == 4
    with pytest.raises(ConfigurationError, match="a second optimizer step was taken on one batch"):
        fit(manual(twice), private())
    with pytest.raises(ConfigurationError, match="gradients of more than one batch were added up"):
        fit(manual(adding), private())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch about torch.compile
@pytest.mark.parametrize(
    ("net", "options", "trainer"),
    [
        (lambda: mlp(), {"grad_sample_mode": "hooks"}, {"precision": "bf16-mixed"}),
        (lambda: mlp(), {"grad_sample_mode": "ghost"}, {"precision": "bf16-mixed"}),
        (lambda: mlp(), {"loss_reduction": "mean"}, {"limit_train_batches": 3}),
        (lambda: torch.compile(mlp(), backend="eager"), {}, {}),
        (
            lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)),
            {"fix_modules": True},
            {},
        ),
    ],
    ids=["bf16", "bf16-ghost", "limited", "compiled", "fixed"],
)
def test_it_learns_in_other_settings(net, options, trainer):
    torch.manual_seed(0)
    model = Net(net(), optimizer=partial(torch.optim.Adam, lr=0.03))
    callback = DifferentialPrivacy(noise_multiplier=0.7, **options)
    made = fit(model, callback, loader(400, 40), max_epochs=6, **trainer)
    assert callback._account.steps_done == made.global_step == 6 * made.num_training_batches
    inputs, labels, _ = rows(400).tensors
    with torch.no_grad():
        assert (model(inputs).argmax(1) == labels).float().mean() > 0.75


def test_a_callback_that_copies_the_module_in_mid_training_gets_a_clean_copy():
    class Shadow(Callback):
        def on_train_batch_end(self, trainer, pl_module, *args):
            shadow = copy.deepcopy(pl_module)
            cross_entropy(shadow(torch.randn(3, 6)), torch.tensor([0, 1, 0])).backward()

    model, alone = Net(), Net()
    alone.load_state_dict(model.state_dict())
    fit(model, private(max_grad_norm=0.3), callbacks=[Shadow()])
    fit(alone, private(max_grad_norm=0.3))
    assert model.seen == alone.seen
    assert torch.equal(weights(model), weights(alone))


@pytest.mark.filterwarnings("ignore:Swapping scheduler")
def test_weight_averaging():
    model, callback = Net(), private()
    trainer = fit(model, callback, callbacks=[StochasticWeightAveraging(swa_lrs=0.05, swa_epoch_start=1)], max_epochs=4)
    assert trainer.global_step == callback._account.steps_done == 20
    assert all(not vars(parameter) for parameter in model.parameters())


# --------------------------------------------------------------------------------------------------- fixed by a plan


class Rows(LightningDataModule):
    def train_dataloader(self):
        return loader(60, 10)


def test_a_mechanism_fixed_by_a_plan_is_the_same_for_subsets_of_any_size():
    plan = SubsetPlan(60, subset_fraction=0.5, design="bernoulli", seed=1)
    sizes, mechanisms = set(), []
    for model_id in (0, 1, 2):
        callback = DifferentialPrivacy(target_epsilon=3.0, **DELTA, sample_rate=1 / 3, expected_batch_size=10, steps=9)
        model = Net()
        trainer = fit(model, callback, SubsetDataModule(Rows(), plan, model_id), max_epochs=4)
        assert trainer.global_step == 9
        mechanisms.append(callback.mechanism)
        assert set(chain.from_iterable(model.seen)) <= set(np.flatnonzero(plan.mask(model_id)))
        sizes.add(int(plan.mask(model_id).sum()))
        assert 2.94 <= callback.epsilon <= 3.0
    assert len(sizes) > 1
    assert mechanisms == mechanisms[:1] * 3
    assert mechanisms[0].expected_batch_size == 10


def test_left_open_the_mechanism_follows_the_subset():
    plan = SubsetPlan(60, subset_fraction=0.5, seed=1)
    callback = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    fit(Net(), callback, SubsetDataModule(Rows(), plan, 0))
    assert callback.mechanism.sample_rate == 1 / 3
    assert callback.mechanism.expected_batch_size == 10
    assert callback.mechanism.steps == 6


# ------------------------------------------------------------------------------------------------- what is left behind


def traces(model, trainer=None):
    """Everything that a fit could leave on a module and its Trainer, but for gradients and what Lightning sets."""
    modules = {
        name: (
            sorted(set(vars(module)) - {"_trainer", "_hparams", "seen", "rates"}),
            len(module._forward_hooks),
            len(module._backward_hooks),
            len(module._forward_pre_hooks),
            module._is_full_backward_hook,
        )
        for name, module in model.named_modules()
    }
    parameters = {name: sorted(vars(parameter)) for name, parameter in model.named_parameters()}
    return modules, parameters, list(model.state_dict())


def assert_as_before(trainer, before):
    assert traces(trainer.lightning_module) == before
    assert type(trainer.optimizers[0]) is torch.optim.SGD
    assert "dataloader" not in vars(trainer.fit_loop._data_source)
    assert (trainer.accumulate_grad_batches, trainer.max_steps) == (1, -1)


class Raises(Callback):
    def __init__(self, error, hook="on_train_batch_end"):
        self.trainer = None

        def fail(trainer, *args):
            self.trainer = trainer
            if trainer.global_step >= 3 or hook == "on_fit_start":
                raise error

        setattr(self, hook, fail)


MODES = [
    {},
    {"grad_sample_mode": "functorch"},
    {"grad_sample_mode": "ghost"},
    {"max_physical_batch_size": 4},
    {"steps": 7},
]


@pytest.mark.parametrize("options", MODES, ids=str)
@pytest.mark.parametrize("how", ["success", "exception", "Ctrl-C", "exception at the start", "within a step"])
def test_nothing_is_left_behind(how, options):
    model, callback = Net(), private(**options)
    before = traces(model)
    if how == "success":
        trainer = fit(model, callback)
    elif how == "within a step":
        model.loss = lambda net, batch: cross_entropy(net(batch[0]), batch[1]) if len(net.seen) < 4 else 1 / 0
        spy = Raises(None, "on_train_start")
        spy.on_train_start = lambda trainer, pl_module: setattr(spy, "trainer", trainer)
        with pytest.raises(ZeroDivisionError):
            fit(model, callback, callbacks=[spy])
        trainer = spy.trainer
    else:
        error = KeyboardInterrupt() if how == "Ctrl-C" else RuntimeError("mine")
        spy = Raises(error, "on_fit_start" if how.endswith("start") else "on_train_batch_end")
        with pytest.raises(SystemExit if how == "Ctrl-C" else RuntimeError):
            fit(model, callback, callbacks=[spy])
        trainer = spy.trainer
    assert_as_before(trainer, before)
    assert callback._attached is None
    steps = callback._account.steps_done
    plain = cross_entropy(model(rows().tensors[0]), rows().tensors[1])
    plain.backward()
    assert callback._account.steps_done == steps
    model.loss = None
    fit(model, private(**options))  # and it can be trained again


def test_a_refusal_leaves_nothing_behind_either():
    model = Net(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)))
    before = traces(model)
    for data in (loader(), [loader(), loader()]):
        with pytest.raises((ConfigurationError, UnsupportedDataError)):
            fit(model, private(), data)
        assert traces(model) == before


def test_copies_and_pickles_of_the_callback():
    callback = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    fit(Net(), callback)
    for other in (copy.deepcopy(callback), pickle.loads(pickle.dumps(callback))):
        assert other.epsilon == callback.epsilon
        fit(Net(), other)
        assert other.epsilon == callback.epsilon


# --------------------------------------------------------------------------------------------- checkpoints and resuming


def save_at(folder, epochs, model, callback, **options):
    keeper = ModelCheckpoint(dirpath=folder, save_last=True, filename="{epoch}", save_top_k=-1)
    fit(model, callback, callbacks=[keeper], max_epochs=epochs, enable_checkpointing=True, **options)
    return folder / "last.ckpt"


def test_checkpoints_have_the_keys_of_plain_training(tmp_path):
    paths = [save_at(tmp_path / str(i), 1, Net(), callback) for i, callback in enumerate([None, private()])]
    plain, ours = (torch.load(path, weights_only=True) for path in paths)
    assert list(plain["state_dict"]) == list(ours["state_dict"])
    assert set(plain) == set(ours)
    assert plain["optimizer_states"][0]["param_groups"] == ours["optimizer_states"][0]["param_groups"]
    assert set(ours["callbacks"]) - set(plain["callbacks"]) == {"DifferentialPrivacy"}


class StopsAfter(Callback):
    def __init__(self, epochs):
        self.epochs = epochs

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch + 1 >= self.epochs


def interrupted(folder, callback, after=2, of=4, model=None):
    """The checkpoint of a training that was stopped."""
    model = model or Net()
    keeper = ModelCheckpoint(dirpath=folder, save_last=True)
    fit(model, callback, callbacks=[keeper, StopsAfter(after)], max_epochs=of, enable_checkpointing=True)
    return folder / "last.ckpt", model


def test_a_resumed_training_goes_on_with_its_account_its_noise_and_new_samples(tmp_path):
    first = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    path, model = interrupted(tmp_path, first)
    assert 0 < first.epsilon < 2.7
    whole = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    fit(Net(), whole, max_epochs=4)
    resumed, later = DifferentialPrivacy(target_epsilon=3.0, **DELTA), Net()
    trainer = fit(later, resumed, ckpt_path=path, max_epochs=4)
    assert trainer.global_step == 20
    assert resumed.mechanism == first.mechanism == whole.mechanism
    assert resumed.epsilon == whole.epsilon
    assert len(later.seen) == 10
    assert not {tuple(batch) for batch in later.seen} & {tuple(batch) for batch in model.seen}  # under the same seed
    assert all(not vars(parameter) for parameter in later.parameters())


def test_resuming_on_other_terms_spends_the_rest_of_the_budget_only(tmp_path):
    first = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    path, _ = interrupted(tmp_path, first)
    longer = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    trainer = fit(Net(), longer, ckpt_path=path, max_epochs=10)
    assert trainer.global_step == 50
    assert longer.mechanism.noise_multiplier > first.mechanism.noise_multiplier
    assert 2.94 <= longer.epsilon <= 3.0
    more = DifferentialPrivacy(target_epsilon=5.0, **DELTA)
    fit(Net(), more, ckpt_path=path, max_epochs=4)
    assert more.mechanism.noise_multiplier < first.mechanism.noise_multiplier
    assert 4.9 <= more.epsilon <= 5.0


def test_a_budget_that_is_spent_is_spent(tmp_path):
    done = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    path = save_at(tmp_path, 4, Net(), done)
    with pytest.raises(ArgumentError, match=r"target_epsilon=3: 2\.9\d of it is spent already; raise it"):
        fit(Net(), DifferentialPrivacy(target_epsilon=3.0, **DELTA), ckpt_path=path, max_epochs=6)
    again = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    trainer = fit(Net(), again, ckpt_path=path, max_epochs=4)  # nothing left to do
    assert trainer.global_step == 20
    assert again.epsilon == done.epsilon


def test_the_budget_stop_counts_the_steps_before_the_checkpoint(tmp_path):
    options = {"target_epsilon": 2.0, "noise_multiplier": 1.5, **DELTA}
    path, _ = interrupted(tmp_path, DifferentialPrivacy(**options), after=1, of=50)
    resumed, whole = DifferentialPrivacy(**options), DifferentialPrivacy(**options)
    assert (
        fit(Net(), resumed, ckpt_path=path, max_epochs=50).global_step == fit(Net(), whole, max_epochs=50).global_step
    )
    assert resumed.epsilon == whole.epsilon <= 2.0


def test_going_on_from_steps_that_were_not_private_is_refused(tmp_path):
    path = save_at(tmp_path, 1, Net(), None)
    with pytest.raises(ConfigurationError, match="comes after 5 steps, of which 0 are on the account"):
        fit(Net(), private(), ckpt_path=path, max_epochs=2)


def test_going_on_from_between_two_parts_is_refused(tmp_path):
    class SavesInBetween(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx == 9:
                trainer.save_checkpoint(tmp_path / "between.ckpt")

    options = {"max_physical_batch_size": 4}
    trainer = fit(Net(), private(**options), callbacks=[SavesInBetween()])
    assert 10 % (trainer.num_training_batches / 5)
    with pytest.raises(ConfigurationError, match=r"between the parts of a sample.*a whole step"):
        fit(Net(), private(**options), ckpt_path=tmp_path / "between.ckpt")


def test_training_a_module_once_more_goes_on_spending():
    model, callback = Net(), DifferentialPrivacy(noise_multiplier=1.0, **DELTA)
    trainer = fit(model, callback)
    once = callback.epsilon
    trainer.fit_loop.max_epochs = 4
    trainer.fit(model, loader())  # the same Trainer goes on
    assert callback.epsilon == epsilon_spent([(1.0, 0.2, 20)], 1e-3)
    fit(model, callback)  # and another one, under the seed of the first
    assert callback.epsilon == epsilon_spent([(1.0, 0.2, 30)], 1e-3)
    assert not {tuple(batch) for batch in model.seen[:10]} & {tuple(batch) for batch in model.seen[20:]}
    fit(Net(), callback)  # another module
    assert callback.epsilon == once


# ------------------------------------------------------------------------------------------------------------- logging


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_epsilon_is_logged_at_the_end_of_epochs_and_shown_in_the_bar(tmp_path):
    logger = CSVLogger(tmp_path)
    callback = DifferentialPrivacy(noise_multiplier=1.0, **DELTA)
    trainer = fit(Net(), callback, logger=logger, max_epochs=3, log_every_n_steps=50)
    logged = np.genfromtxt(Path(logger.log_dir) / "metrics.csv", delimiter=",", names=True)
    expected = [epsilon_spent([(1.0, 0.2, steps)], 1e-3) for steps in (5, 10, 15)]
    np.testing.assert_allclose(logged["dpepsilon"][~np.isnan(logged["dpepsilon"])], expected, rtol=1e-5)
    assert trainer.progress_bar_metrics["dp/epsilon"] == pytest.approx(callback.epsilon)


def test_epsilon_is_logged_within_long_epochs(tmp_path):
    logger = CSVLogger(tmp_path)
    fit(Net(), DifferentialPrivacy(noise_multiplier=1.0, **DELTA), logger=logger, max_epochs=1, log_every_n_steps=2)
    logged = np.genfromtxt(Path(logger.log_dir) / "metrics.csv", delimiter=",", names=True)["dpepsilon"]
    expected = [epsilon_spent([(1.0, 0.2, steps)], 1e-3) for steps in (2, 4, 5)]
    np.testing.assert_allclose(logged[~np.isnan(logged)], expected, rtol=1e-5)


# ------------------------------------------------------------------------------------------------------------ refusals


class Clips(Net):
    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        self.clip_gradients(optimizer, 1.0)


class OwnBackward(Net):
    def backward(self, loss, *args, **kwargs):
        loss.backward(*args, **kwargs)


class Two(Net):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def configure_optimizers(self):
        return [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (self.net[0], self.net[2])]


class Mixed(Net):
    """Parameters of which one is not used."""

    def __init__(self):
        super().__init__()
        self.unused = nn.Linear(3, 3)


class SkipsBatches(Net):
    def training_step(self, batch, batch_idx):
        return None


PARTS = {"max_physical_batch_size": 4}


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
@pytest.mark.parametrize(
    ("model", "options", "trainer", "message"),
    [
        (Net, {}, {"accumulate_grad_batches": 2}, "accumulate_grad_batches=2.*max_physical_batch_size"),
        (Net, {}, {"callbacks": [GradientAccumulationScheduler({0: 1, 1: 2})]}, "accumulate_grad_batches"),
        (Net, {}, {"gradient_clip_val": 1.0}, "gradient_clip_val=1.0.*max_grad_norm"),
        (Clips, {}, {}, "configure_gradient_clipping is overridden"),
        (Net, {}, {"overfit_batches": 2}, "overfit_batches=2"),
        (Net, {}, {"callbacks": [LearningRateFinder()]}, "finders train on the data outside the accounting"),
        (Net, {}, {"precision": "bf16-true"}, "precision='bf16-true'.*bf16-mixed"),
        (Net, PARTS, {"limit_train_batches": 3}, "limit_train_batches=3 may end in the middle"),
        (Two, {}, {}, "configure_optimizers gives 2 optimizers"),
        (partial(manual, one_step), PARTS, {}, "max_physical_batch_size needs automatic optimization"),
        (OwnBackward, {"grad_sample_mode": "ghost"}, {}, "backward is overridden.*'hooks'"),
        (partial(Net, optimizer=torch.optim.LBFGS), {}, {}, "optimizer LBFGS"),
        (Mixed, {}, {}, r"no per-example gradient of 'unused\.weight', 'unused\.bias'.*requires_grad_\(False\)"),
        (SkipsBatches, {}, {}, "training_step returned None"),
        (lambda: torch.compile(Net(), backend="eager"), {}, {}, "the whole LightningModule is compiled.*torch.compile"),
        (
            partial(Net, nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))),
            {},
            {},
            r"'net\.1' \(BatchNorm1d\).*fix_modules=True",
        ),
    ],
)
def test_what_would_make_the_accounting_wrong_is_refused_with_a_way_out(model, options, trainer, message):
    trainer = dict(trainer)
    with pytest.raises(ConfigurationError, match=message):
        fit(model(), private(**options), callbacks=trainer.pop("callbacks", ()), **trainer)


def bare_trainer(**options):
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, **({"devices": 1} | options))


def test_fp16_is_refused():
    trainer = bare_trainer()
    trainer.strategy.precision_plugin.precision = "16-mixed"  # a real one would need a GPU
    with pytest.raises(ConfigurationError, match=r"precision='16-mixed'.*bf16-mixed"):
        private().setup(trainer, Net(), "fit")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"strategy": "ddp_spawn", "devices": 2},
            "end without telling this one what they have spent; use strategy='ddp'",
        ),
        ({"strategy": "fsdp", "devices": 2}, "strategy=FSDPStrategy.*strategy='ddp'"),
        ({"callbacks": [BatchSizeFinder()]}, "finders train on the data outside the accounting"),
    ],
)
def test_strategies_and_finders_that_are_refused(options, message):
    if options.get("strategy") == "fsdp":
        trainer = bare_trainer()
        trainer._accelerator_connector.strategy = FSDPStrategy()  # Lightning makes one on GPUs only
    else:
        trainer = bare_trainer(**options)
    with pytest.raises(ConfigurationError, match=message):
        private().setup(trainer, Net(), "fit")


def test_the_learning_rate_finder_of_the_tuner_is_refused():
    with pytest.raises(ConfigurationError, match="finders train on the data outside the accounting"):
        Tuner(bare_trainer(callbacks=[private()], max_epochs=1)).lr_find(Net(), loader())


def test_several_at_once_are_refused_by_lightning():
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `DifferentialPrivacy`"):
        bare_trainer(callbacks=[private(), private()])


def test_an_overridden_backward_is_fine_with_hooks_and_frozen_parameters_are_left_alone():
    model = OwnBackward()
    model.net[0].requires_grad_(False)
    before = model.net[0].weight.clone()
    fit(model, DifferentialPrivacy(noise_multiplier=1.0))
    assert torch.equal(model.net[0].weight, before)


def test_data_that_poisson_samples_cannot_replace_are_refused():
    with pytest.raises(UnsupportedDataError, match="training loader is a list"):
        fit(Net(), private(), [loader(), loader()])


def test_a_loader_that_was_asked_for_too_early_is_asked_for_again():
    class Early(Callback):
        def setup(self, trainer, pl_module, stage):
            assert trainer.estimated_stepping_batches == 10

    model, callback = Net(), private()
    trainer = Trainer(
        callbacks=[Early(), callback],
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(model, loader())
    assert callback._account.steps_done == 10
    assert len({len(batch) for batch in model.seen}) > 1  # Poisson, not 8 each


@pytest.mark.filterwarnings("ignore:.*limit_train_batches")
def test_a_fit_without_batches_spends_nothing():
    callback = DifferentialPrivacy(target_epsilon=3.0, **DELTA)
    fit(Net(), callback, limit_train_batches=0)
    assert callback.epsilon == 0


def test_other_stages_are_left_alone(tmp_path):
    model, callback = Net(), private()
    model.validation_step = lambda batch, batch_idx: None
    trainer = Trainer(callbacks=[callback], accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.validate(model, loader(shuffle=False), verbose=False)
    assert callback.mechanism is None
