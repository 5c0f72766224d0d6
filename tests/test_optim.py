"""Optimizers beside PyTorch's own numbers and a plain formula, schedules, clipping, and what is refused."""

import math

import numpy as np
import pytest

import nissl as ns
from nissl import nn, optim
from nissl.errors import GradientError, OptionError, ShapeError
from nissl.optim import schedules

# Ten steps on `loss_of` from `START`, in float64, by torch.optim of PyTorch 2.13.
TRAJECTORIES = {
    "SGD(lr=0.05)": [
        1.0488013194814816,
        -1.0015848580704716,
        -0.6243826225506057,
        -0.030628891231012385,
        -0.42752592572554515,
    ],
    "SGD(lr=0.05, weight_decay=0.1)": [
        1.0011750170459868,
        -0.9768294413445521,
        -0.6270578349505218,
        -0.03062469198239623,
        -0.4134378877259819,
    ],
    "SGD(lr=0.05, momentum=0.9)": [
        0.262245179746367,
        -0.3159280604987414,
        -1.4027558988599236,
        -0.6720509455467372,
        0.5663320279906784,
    ],
    "SGD(lr=0.05, momentum=0.9, nesterov=True, weight_decay=0.1)": [
        0.3488605709643411,
        -0.444372422407596,
        -1.3549609055705,
        -0.5435169756601342,
        0.5123807092969856,
    ],
    "AdaGrad(lr=0.1)": [
        1.0712957853903013,
        -1.123629500901984,
        -0.2735679113343418,
        -0.15209036411933335,
        -0.7227201234722475,
    ],
    "AdaGrad(lr=0.1, weight_decay=0.1)": [
        1.0665200777386392,
        -1.1208340782684392,
        -0.27229940562680444,
        -0.1461518154861701,
        -0.7209372085050555,
    ],
    "RMSProp(lr=0.02)": [
        0.8394931073348941,
        -1.2265764629039808,
        -0.49377818330636863,
        -0.4414496080477067,
        -0.52423220948484,
    ],
    "RMSProp(lr=0.02, alpha=0.9, momentum=0.5, weight_decay=0.1, eps=1e-06)": [
        0.956286099836897,
        -1.2298789205654028,
        -0.3833770469958438,
        -0.26489542231590296,
        -0.627341376579761,
    ],
    "Adam(lr=0.1)": [
        0.6285837424214011,
        -1.3333767523153006,
        -0.6916271165657175,
        -0.6001295257076372,
        -0.28888464127215574,
    ],
    "Adam(lr=0.1, betas=(0.8, 0.95), eps=1e-06, weight_decay=0.1)": [
        0.6520531313088922,
        -1.2919229749996894,
        -0.6487888806310217,
        -0.5539954768384493,
        -0.3317696709475345,
    ],
    "AdamW(lr=0.1)": [
        0.6205114700732847,
        -1.3271797846193485,
        -0.690797138232445,
        -0.5979115411913525,
        -0.28404405634346314,
    ],
    "AdamW(lr=0.1, weight_decay=0.3)": [
        0.4374304780764632,
        -1.1507568769808114,
        -0.6583081666115546,
        -0.5348140925960181,
        -0.16490579609998357,
    ],
}

START = ([1.5, -0.7, 0.2], [[0.3], [-1.1]])


def start(dtype="float64"):
    return [nn.Parameter(values, dtype) for values in START]


def loss_of(p, q):
    curve = (p[0] - 1) ** 2 + 3 * (p[1] * p[2] - 0.5) ** 2 + ns.sin(p).sum()
    return curve + (q**4).sum() + 0.5 * (q[0] * p[0]).sum()


def made(description, parameters):
    """Return the optimizer that a description as in TRAJECTORIES stands for."""
    name, _, arguments = description.rstrip(")").partition("(")
    return getattr(optim, name)(parameters, **eval(f"dict({arguments})"))


def take(optimizer, parameters, steps):
    for _ in range(steps):
        loss_of(*parameters).backward()
        optimizer.step()
    return np.concatenate([p.numpy().reshape(-1) for p in parameters])


@pytest.mark.parametrize("description", TRAJECTORIES)
def test_the_path_is_that_of_pytorch(description):
    parameters = start()
    found = take(made(description, parameters), parameters, 10)
    np.testing.assert_allclose(found, TRAJECTORIES[description], rtol=1e-12)


@pytest.mark.parametrize("description", TRAJECTORIES)
def test_float32_parameters_stay_float32_and_follow_the_same_path(description):
    parameters = start("float32")
    optimizer = made(description, parameters)
    found = take(optimizer, parameters, 10)
    assert found.dtype == np.float32
    assert all(t.dtype == np.float32 for state in optimizer.state.values() for t in state.values())
    np.testing.assert_allclose(found, TRAJECTORIES[description], rtol=1e-4)


@pytest.mark.parametrize("description", TRAJECTORIES)
def test_the_state_goes_on_where_it_was(description):
    parameters = start()
    optimizer = made(description, parameters)
    take(optimizer, parameters, 4)
    copies = [nn.Parameter(p.numpy()) for p in parameters]
    again = made(description, copies)
    again.load_state_dict(optimizer.state_dict())
    np.testing.assert_array_equal(take(again, copies, 6), take(optimizer, parameters, 6))


@pytest.mark.parametrize("description", TRAJECTORIES)
def test_a_parabola_has_its_lowest_point_found(description):
    x = nn.Parameter([3.0, -2.0])
    optimizer = made(description.replace("weight_decay=0.1", "weight_decay=0.0").replace("0.3", "0.0"), [x])
    optimizer.lr = 0.1
    for _ in range(400):
        ((x - 1.0) ** 2).sum().backward()
        optimizer.step()
    # AdaGrad's steps shrink; AdamW pulls towards 0 by its default decay.
    np.testing.assert_allclose(x.numpy(), 1.0, atol=0.5 if description.startswith("AdaGrad") else 0.06)


def test_the_first_step_of_adam_is_lr_whatever_the_gradient():
    for scale in (1e-4, 1.0, 1e4):
        w = nn.Parameter([1.0], "float64")
        (w * scale).sum().backward()
        optim.Adam([w], lr=0.01).step()
        assert w.item() == pytest.approx(0.99, abs=1e-5)


def test_weight_decay_of_adamw_does_not_go_through_the_moments():
    w = nn.Parameter([2.0], "float64")
    optimizer = optim.AdamW([w], lr=0.1, weight_decay=0.5)
    (w * 0.0).sum().backward()
    optimizer.step()
    assert w.item() == pytest.approx(2.0 * (1 - 0.1 * 0.5))


REFUSED = {
    "lr below 0": lambda p: optim.SGD(p, lr=-0.1),
    "lr that is no number": lambda p: optim.SGD(p, lr=float("nan")),
    "lr without end": lambda p: optim.Adam(p, lr=math.inf),
    "lr as text": lambda p: optim.SGD(p, lr="0.1"),
    "momentum of 1": lambda p: optim.SGD(p, lr=0.1, momentum=1.0),
    "momentum below 0": lambda p: optim.RMSProp(p, momentum=-0.1),
    "alpha of 1": lambda p: optim.RMSProp(p, alpha=1.0),
    "beta1 of 1": lambda p: optim.Adam(p, betas=(1.0, 0.9)),
    "beta2 below 0": lambda p: optim.AdamW(p, betas=(0.9, -0.1)),
    "one beta": lambda p: optim.Adam(p, betas=0.9),
    "three betas": lambda p: optim.Adam(p, betas=(0.9, 0.9, 0.9)),
    "eps below 0": lambda p: optim.AdaGrad(p, eps=-1e-8),
    "decay below 0": lambda p: optim.SGD(p, weight_decay=-1),
    "nesterov without momentum": lambda p: optim.SGD(p, nesterov=True),
    "no parameters": lambda p: optim.SGD([]),
    "one Tensor": lambda p: optim.SGD(p[0]),
    "integers": lambda p: optim.SGD([ns.tensor([1, 2])]),
    "no Tensors": lambda p: optim.SGD([1.0, 2.0]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_out_of_range_is_refused_when_the_optimizer_is_made(name):
    with pytest.raises(OptionError):
        REFUSED[name](start())


def test_a_refusal_names_the_setting_its_range_and_what_came():
    with pytest.raises(OptionError, match=r"beta1 must be at least 0 and below 1, got 1\.5"):
        optim.Adam(start(), betas=(1.5, 0.9))
    with pytest.raises(OptionError, match="weight_decay must be at least 0, got -1"):
        optim.SGD(start(), weight_decay=-1)


SET_LATER = {
    "momentum of SGD": (lambda p: optim.SGD(p, momentum=0.5), "momentum", 1.0),
    "nesterov": (lambda p: optim.SGD(p, momentum=0.5), "nesterov", "yes"),
    "eps of AdaGrad": (optim.AdaGrad, "eps", -1),
    "alpha": (optim.RMSProp, "alpha", 1),
    "momentum of RMSProp": (optim.RMSProp, "momentum", -0.1),
    "betas": (optim.Adam, "betas", (0.9, 1.0)),
    "eps of Adam": (optim.Adam, "eps", np.nan),
    "decay": (optim.AdamW, "weight_decay", -1),
}


@pytest.mark.parametrize("name", SET_LATER)
def test_what_is_out_of_range_is_refused_when_it_is_set_later(name):
    make, setting, value = SET_LATER[name]
    optimizer = make(start())
    before = repr(optimizer)
    with pytest.raises(OptionError, match=r"must be .*, got"):
        setattr(optimizer, setting, value)
    assert repr(optimizer) == before


def test_momentum_cannot_be_set_where_no_velocities_are_kept():
    optimizer = optim.SGD(start(), lr=0.1)
    with pytest.raises(OptionError, match=r"make a new one with momentum=0\.9"):
        optimizer.momentum = 0.9
    optimizer.momentum = 0


def test_a_parameter_that_was_given_twice_moves_once():
    w = ns.tensor([1.0], requires_grad=True)
    optimizer = optim.SGD([w, w], lr=0.1)
    w.sum().backward()
    optimizer.step()
    assert w.item() == pytest.approx(0.9)


def test_a_step_without_a_new_gradient_is_a_mistake():
    parameters = start()
    optimizer = optim.SGD(parameters, lr=0.1)
    with pytest.raises(GradientError, match=r"call loss\.backward"):
        optimizer.step()
    loss_of(*parameters).backward()
    optimizer.step()
    with pytest.raises(GradientError, match="no new gradient"):
        optimizer.step()
    assert optimizer.steps.item() == 1  # what was refused was no step


def test_parameters_without_a_gradient_and_frozen_ones_stay():
    used, unused, frozen = (nn.Parameter([1.0]) for _ in range(3))
    frozen.requires_grad = False
    optimizer = optim.Adam([used, unused, frozen], lr=0.1)
    (used * 2 + frozen).sum().backward()
    optimizer.step()
    assert used.item() == pytest.approx(0.9)
    assert unused.item() == frozen.item() == 1


def test_zero_grad_forgets():
    w = nn.Parameter([1.0])
    optimizer = optim.SGD([w], lr=1.0)
    (w * 5).sum().backward()
    optimizer.zero_grad()
    assert w.grad is None
    (w * 2).sum().backward()
    optimizer.step()
    assert w.item() == -1


def test_the_learning_rate_can_be_changed_and_read():
    w = nn.Parameter([0.0])
    optimizer = optim.SGD([w], lr=1.0)
    assert optimizer.lr.item() == 1
    optimizer.lr = 0.25
    (w * 1).sum().backward()
    optimizer.step()
    assert w.item() == -0.25
    with pytest.raises(OptionError, match="lr must be"):
        optimizer.lr = -1
    assert optimizer.lr.item() == 0.25


def test_state_is_named_by_the_path_of_its_parameter():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1, bias=False))
    names = set(optim.Adam(model.parameters()).state_dict())
    assert names == {"steps", "lr", "0.weight/mean", "0.weight/square", "0.bias/mean", "0.bias/square",
                     "1.weight/mean", "1.weight/square"}  # fmt: skip


def test_a_state_that_does_not_fit_changes_nothing():
    parameters = start()
    optimizer = optim.Adam(parameters)
    take(optimizer, parameters, 2)
    before = optimizer.state_dict()
    with pytest.raises(OptionError, match="the state is not of this Adam"):
        optimizer.load_state_dict(optim.SGD(parameters, momentum=0.9).state_dict())
    for bad in (np.zeros((2, 2)), np.zeros(3, "float32")):
        with pytest.raises(ShapeError, match=r"load_state_dict: 0/mean is float64\[3\] here"):
            optimizer.load_state_dict(before | {"0/mean": bad})
    for name, values in optimizer.state_dict().items():
        np.testing.assert_array_equal(values, before[name])


def test_an_optimizer_shows_its_settings():
    assert (
        repr(optim.SGD(start(), lr=0.1, momentum=0.9)) == "SGD(momentum=0.9, nesterov=False, weight_decay=0.0, lr=0.1)"
    )


# ---- schedules ----

SCHEDULES = {
    "constant": (schedules.constant(0.5), lambda t: 0.5),
    "cosine": (schedules.cosine(0.5, 10, 0.1), lambda t: 0.1 + 0.2 * (1 + math.cos(math.pi * min(t, 10) / 10))),
    "cosine with warm-up": (
        schedules.cosine(0.5, 10, warmup=4),
        lambda t: 0.5 * (t + 1) / 4 if t < 4 else 0.25 * (1 + math.cos(math.pi * min((t - 4) / 6, 1))),
    ),
    "linear": (schedules.linear(0.5, 10, 0.1), lambda t: 0.5 - 0.4 * min(t / 10, 1)),
    "exponential": (schedules.exponential(0.5, 0.9, every=2), lambda t: 0.5 * 0.9 ** (t / 2)),
    "step_decay": (schedules.step_decay(0.5, 3, 0.1), lambda t: 0.5 * 0.1 ** (t // 3)),
    "delayed": (schedules.delayed(schedules.linear(0.5, 10), 2.0), lambda t: 0.5 * (1 - min((t - 2) / 10, 1))),
    "a function": (lambda step: 0.1 / (1 + step), lambda t: 0.1 / (1 + t)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_gives_the_rate_of_each_step(name):
    schedule, formula = SCHEDULES[name]
    w = nn.Parameter([0.0], "float64")
    optimizer = optim.SGD([w], lr=schedule)
    for t in range(14):
        before = w.item()
        assert optimizer.lr.item() == pytest.approx(formula(t), abs=1e-15)
        w.sum().backward()
        optimizer.step()
        assert before - w.item() == pytest.approx(formula(t), abs=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.constant(-0.1), "lr must be at least 0"),
        (lambda: schedules.cosine(0.1, 100, final=-1), "final must be at least 0"),
        (lambda: schedules.linear(0.1, -1), "steps must be at least 0"),
        (lambda: schedules.exponential(0.1, np.nan), "decay must be at least 0"),
        (lambda: schedules.step_decay(0.1, every=0), "every must be above 0"),
    ],
)
def test_a_schedule_of_numbers_that_cannot_be_is_refused_when_it_is_made(make, message):
    with pytest.raises(OptionError, match=message):
        make()


def test_named_schedules():
    assert schedules.named("cosine", 0.1, 100) == schedules.cosine(0.1, 100)
    with pytest.raises(OptionError, match="unknown schedule 'cosin'; did you mean 'cosine'"):
        schedules.named("cosin", 0.1, 100)
    with pytest.raises(OptionError, match="by name or as a function"):
        schedules.named(3, 0.1, 100)


def test_the_number_takes_over_again_after_a_schedule():
    w = nn.Parameter([0.0])
    optimizer = optim.SGD([w], lr=0.3)
    optimizer.lr = schedules.constant(0.1)
    assert optimizer.lr.item() == 0.1
    optimizer.schedule = None
    assert optimizer.lr.item() == pytest.approx(0.3)
    optimizer.lr = 0.2
    assert optimizer.lr.item() == pytest.approx(0.2)


# ---- clipping ----


def with_gradients(*gradients):
    parameters = [nn.Parameter(np.zeros(len(g)), "float64") for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        (p * ns.tensor(np.array(g))).sum().backward()
    return parameters


def test_gradients_are_scaled_to_the_norm_of_all_together():
    a, b = with_gradients([3.0, 0.0], [0.0, 4.0])
    assert optim.clip_grad_norm([a, b], 1.0).item() == 5
    np.testing.assert_allclose(np.concatenate([a.grad.numpy(), b.grad.numpy()]), [0.6, 0, 0, 0.8], rtol=1e-6)


def test_small_gradients_and_zeros_are_left_alone():
    a, b = with_gradients([0.3], [0.4])
    assert optim.clip_grad_norm([a, b], 1.0).item() == pytest.approx(0.5)
    assert (a.grad.item(), b.grad.item()) == (0.3, 0.4)
    (zero,) = with_gradients([0.0])
    assert optim.clip_grad_norm([zero], 1.0).item() == 0
    assert zero.grad.item() == 0


def test_a_parameter_that_is_given_twice_is_clipped_as_one():
    (p,) = with_gradients([3.0, 4.0])
    assert optim.clip_grad_norm([p, p], 1.0).item() == 5
    np.testing.assert_allclose(p.grad.numpy(), [0.6, 0.8], rtol=1e-6)


def test_clipping_without_gradients_or_with_a_wrong_norm_is_a_mistake():
    with pytest.raises(GradientError, match=r"call loss.backward\(\) first"):
        optim.clip_grad_norm([nn.Parameter([1.0])], 1.0)
    for bad in (-1.0, math.nan):
        with pytest.raises(OptionError, match="max_norm"):
            optim.clip_grad_norm(with_gradients([1.0]), bad)
