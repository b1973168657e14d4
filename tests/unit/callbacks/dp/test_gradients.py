import copy
import io
import pickle

import pytest
import torch
from opacus.grad_sample import GradSampleModule
from opacus.layers import DPLSTM
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.nn.functional import cross_entropy, linear
from torch.utils.checkpoint import checkpoint

from lightning_memaudit.callbacks.dp.gradients import PerExampleGradients
from lightning_memaudit.callbacks.dp.poisson import Draw
from lightning_memaudit.exceptions import ConfigurationError

N = 7


class Twice(nn.Module):
    """A layer that is called twice, and one that is registered under two names."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Linear(6, 6)
        self.head = nn.Sequential(nn.Linear(6, 2))
        self.alias = self.head[0]

    def forward(self, x):
        return self.head(torch.tanh(self.shared(torch.tanh(self.shared(x)))))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4, padding_idx=0)
        self.out = nn.Linear(4, 6, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, x):
        return self.out(self.embed((x.abs() * 2).long().clamp(max=5)).mean(1))[:, :2]


class Scaled(nn.Module):
    """Parameters of its own around a child."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, 6))
        self.child = nn.Linear(6, 2)

    def forward(self, x):
        return self.child(x * self.scale)


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(6, 4, padding_idx=0)
        self.norm = nn.LayerNorm(4)
        self.out = nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.norm(self.embed((x.abs() * 2).long().clamp(max=5)))).mean(1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = DPLSTM(2, 3, batch_first=True)
        self.out = nn.Linear(3, 2)

    def forward(self, x):
        return self.out(self.lstm(x.view(-1, 3, 2))[0][:, -1])


class Idle(nn.Module):
    """A forward pass that the loss leaves out."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        kept = self.layer(x)
        self.layer(x.flip(0))
        return kept


class Checkpointed(nn.Module):
    """Activations are computed again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(6, 5), nn.Tanh())
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        return self.out(checkpoint(self.inner, x, use_reentrant=False))


def conv():
    return nn.Sequential(
        nn.Unflatten(1, (1, 2, 3)),
        nn.Conv2d(1, 4, 2, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(48, 2),
    )


def in_place():
    return nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(0.3, inplace=True), nn.Linear(5, 2))


def scalar():
    class Temperature(nn.Module):
        def __init__(self):
            super().__init__()
            self.temperature = nn.Parameter(torch.tensor(0.7))

        def forward(self, x):
            return x * self.temperature

    return nn.Sequential(nn.Linear(6, 2), Temperature())


def frozen():
    net = in_place()
    net[0].requires_grad_(False)
    return net


NETS = {
    "in place": in_place,
    "conv": conv,
    "words": Words,
    "own parameters": Scaled,
    "scalar": scalar,
    "frozen": frozen,
    "idle": Idle,
    "checkpointed": Checkpointed,
    "twice": Twice,
    "tied": Tied,
    "lstm": Recurrent,
}
ONLY_HOOKS = {"twice", "tied", "lstm"}


def made(name):
    torch.manual_seed(1)
    return NETS[name](), torch.randn(N, 6), torch.arange(N) % 2


def trained(net):
    return [parameter for parameter in net.parameters() if parameter.requires_grad]


def one_by_one(net, x, y, max_norm):
    """The oracle: one backward pass an example."""
    sums = [torch.zeros_like(parameter) for parameter in trained(net)]
    for i in range(len(x)):
        gradient = torch.autograd.grad(cross_entropy(net(x[i : i + 1]), y[i : i + 1]), trained(net))
        norm = torch.sqrt(sum((part**2).sum() for part in gradient))
        for total, part in zip(sums, gradient, strict=True):
            total += part * min(1.0, max_norm / float(norm))
    return sums


def attach(net, mode, draw=None, **options):
    draw = draw or Draw(1, N)
    return PerExampleGradients(net, draw, mode=mode, **({"loss_is_mean": True, "parts": 1, "verify": True} | options))


def backward(net, x, y, **options):
    net.zero_grad()
    cross_entropy(net(x), y, **options).backward(retain_graph=True)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("mode", ["hooks", "functorch", "ghost"])
@pytest.mark.parametrize("max_norm", [0.3, 1e6])
def test_clipped_sums_are_those_of_one_backward_pass_an_example(name, mode, max_norm):
    net, x, y = made(name)
    expected = one_by_one(net, x, y, max_norm)
    gradients = attach(net, mode)
    if mode == "ghost" and name in ONLY_HOOKS:
        with pytest.raises(ConfigurationError, match=r"more than once in a step.*grad_sample_mode='hooks'"):
            backward(net, x, y)
        return
    backward(net, x, y)
    for ours, theirs in zip(gradients.clipped_sum(max_norm, trained(net)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("name", ["conv", "words", "tied", "lstm"])
def test_the_update_is_the_one_of_opacus(name):
    net, x, y = made(name)
    if name == "conv":
        net[3].inplace = False  # which Opacus's hooks forbid
    if name in ("words", "tied"):
        net.embed.padding_idx = None  # to whose row Opacus gives gradients
    theirs, ours = GradSampleModule(copy.deepcopy(net)), attach(net, "hooks")
    optimizer = DPOptimizer(
        torch.optim.SGD(theirs.parameters(), lr=1.0), noise_multiplier=0.0, max_grad_norm=0.3, expected_batch_size=N
    )
    before = [parameter.detach().clone() for parameter in trained(net)]
    cross_entropy(theirs(x), y).backward()
    optimizer.step()
    backward(net, x, y)
    for start, after, clipped in zip(before, theirs.parameters(), ours.clipped_sum(0.3, trained(net)), strict=True):
        torch.testing.assert_close(start - after.detach(), clipped / N, atol=1e-6, rtol=1e-5)


def test_summed_losses_and_losses_that_lightning_divided():
    net, x, y = made("in place")
    expected = one_by_one(net, x, y, 0.3)
    gradients = attach(net, "hooks", loss_is_mean=False)
    backward(net, x, y, reduction="sum")
    for ours, theirs in zip(gradients.clipped_sum(0.3, trained(net)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)
    gradients.detach()
    gradients = attach(net, "ghost", parts=4)
    net.zero_grad()
    (cross_entropy(net(x), y) / 4).backward(retain_graph=True)
    for ours, theirs in zip(gradients.clipped_sum(0.3, trained(net)), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_the_example_that_stands_in_for_none_counts_for_nothing(mode):
    net, x, y = made("conv")
    gradients = attach(net, mode, Draw(1, 0))
    backward(net, x[:1], y[:1])
    assert all(not total.any() for total in gradients.clipped_sum(1.0, trained(net)))


@pytest.mark.parametrize("mode", ["hooks", "ghost"])
def test_a_gradient_with_respect_to_inputs_is_not_counted_when_gradients_are_zeroed_after_it(mode):
    """Adversarial training: the attack's gradients go back through the layers too."""
    net, x, y = made("in place")
    gradients = attach(net, mode)
    inputs = x.clone().requires_grad_()
    (attack,) = torch.autograd.grad(cross_entropy(net(inputs), y), inputs)
    moved = x + 0.1 * attack.sign()
    loss = cross_entropy(net(moved), y)
    gradients.discard()
    loss.backward(retain_graph=True)
    found = gradients.clipped_sum(0.3, trained(net))
    gradients.detach()
    for ours, theirs in zip(found, one_by_one(net, moved, y, 0.3), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            lambda net, x, y: cross_entropy(net(x), y) + 0.01 * net[0].weight.pow(2).sum(),
            r"'0\.weight'.*weight_decay",
        ),
        (
            lambda net, x, y: cross_entropy(net(torch.cat([x, x])), torch.cat([y, y])),
            r"'2' \(Linear\): it sees 14 rows",
        ),
        (lambda net, x, y: cross_entropy(net[2](x[:, :5]), y), r"no per-example gradient of '0\.weight', '0\.bias'"),
        (
            lambda net, x, y: cross_entropy(linear(x[:, :5], net[2].weight), y),
            "no per-example gradient was computed",
        ),
        (
            lambda net, x, y: torch.autograd.grad(net(x).sum(), net[0].weight, create_graph=True)[0].pow(2).sum(),
            r"layer '0' \(Linear\): gradients go back through it twice",
        ),
    ],
)
def test_gradients_that_are_not_those_of_single_examples_are_refused(loss, message):
    net, x, y = made("in place")
    net[1] = nn.Tanh()
    gradients = attach(net, "hooks")

    def step():
        loss(net, x, y).backward()
        gradients.clipped_sum(1.0, trained(net))

    with pytest.raises(ConfigurationError, match=message):
        step()


def test_two_batches_for_one_step_are_refused():
    net, x, y = made("in place")
    draw = Draw(1, N)
    gradients = attach(net, "hooks", draw)
    backward(net, x, y)
    draw.number += 1
    with pytest.raises(ConfigurationError, match="gradients of more than one batch"):
        backward(net, x, y)
    gradients.discard()
    backward(net, x, y)
    draw.number += 1
    with pytest.raises(ConfigurationError, match="without a backward pass on this batch"):
        gradients.clipped_sum(1.0, trained(net))


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.RNN(6, 2), r"layer 'first' \(RNN\): Opacus cannot compute"),
        (nn.Bilinear(6, 6, 2), r"layer 'first' \(Bilinear\): Opacus cannot compute"),
    ],
)
def test_a_layer_that_opacus_cannot_handle_is_named(layer, message):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = layer

        def forward(self, x):
            return self.first(x, x) if isinstance(layer, nn.Bilinear) else self.first(x[:, None])[0][:, 0]

    net = Odd()
    attach(net, "hooks")
    with pytest.raises(ConfigurationError, match=message):
        backward(net, torch.randn(N, 6), torch.arange(N) % 2)


def test_a_trained_layer_with_a_buffer_is_named():
    class Buffered(nn.Linear):
        def __init__(self):
            super().__init__(6, 2)
            self.register_buffer("mean", torch.zeros(6))

    with pytest.raises(ConfigurationError, match=r"layer '1' \(Buffered\).*buffers"):
        attach(nn.Sequential(nn.Identity(), Buffered()), "hooks")


@pytest.mark.parametrize("mode", ["hooks", "functorch", "ghost"])
def test_copies_and_evaluation_are_left_alone(mode):
    net, x, y = made("own parameters")
    gradients = attach(net, mode)
    copied, buffer = copy.deepcopy(net), io.BytesIO()
    pickle.dump(net, buffer)
    buffer.seek(0)
    for other in (copied, pickle.load(buffer)):
        cross_entropy(other(x), y).backward()
        assert not gradients._found
        assert torch.equal(other(x), net(x))
    net.eval()
    cross_entropy(net(x), y).backward()
    net.train()
    with torch.no_grad():
        net(x)
    assert not gradients._found
    assert all(not vars(parameter) for parameter in net.parameters())


@pytest.mark.parametrize("mode", ["hooks", "functorch", "ghost"])
def test_detaching_leaves_nothing(mode):
    net, x, y = made("own parameters")
    before = [(dict(vars(module)), dict(module._forward_hooks)) for module in net.modules()]
    gradients = attach(net, mode)
    backward(net, x, y)
    gradients.detach()
    assert [(dict(vars(module)), dict(module._forward_hooks)) for module in net.modules()] == before
    backward(net, x, y)
    assert not gradients._found
