"""What the algorithms share that is not reinforcement learning: tensors whose first axis is the seed.

Every tensor has a leading seed axis S and seeds share no parameters, so the gradient of the summed loss is
each seed's own gradient. All parameters of one optimiser group live in one matrix (S, P), and the layers are
views into it; the optimisers, clipping, target networks, digests and checkpoints act on that matrix.

**Packing guarantee (CPU).** What is written here gives seed k the same bits whichever other seeds share the
process. The rules, each checked by `tests/algorithms/test_seedwise.py`:

- one compute thread, and `MKL_CBWR=AUTO` in the environment before torch is imported
  (`algorithms/__init__.py`);
- `torch.nn.functional.softplus`, `sigmoid`, `silu`, `elu`, `logaddexp`, `pow` with a fractional exponent,
  `einsum`, and fused optimisers on a whole matrix differ with packing: use the functions below;
- a matrix product with a width of 1 takes another path when S is 1: `_affine` and its gradient pad or sum;
- reduce over trailing axes only, never over the seed axis, and let no shape depend on other seeds.
"""

import copy
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, prod
from typing import Annotated, ClassVar, Protocol
from zlib import crc32

import numpy as np
import torch
from annotated_types import Ge, Interval
from torch import Tensor
from torch.nn.functional import pad

VERSION = 2  # raise it when a change here changes results

# Types of hyper-parameters: the runner checks a Config against them.
Fraction = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Interval(gt=0, lt=inf)]
NonNegative = Annotated[float, Interval(ge=0, lt=inf)]
Count = Annotated[int, Ge(1)]
Widths = tuple[Count, ...]


# ---- experience: what an algorithm learns from; the runner owns the storage


@dataclass(frozen=True)
class Rollout:
    """Learn once from every window of `steps` steps in `envs` environments per seed, then forget it."""

    steps: int
    envs: int


@dataclass(frozen=True)
class Replay:
    """Learn from uniform samples, drawn with replacement, of the last `capacity` transitions of each seed.

    After `starts` environment steps, each `every` of them: `updates` updates on `batch` transitions.
    """

    envs: int
    capacity: int
    batch: int
    starts: int
    every: int
    updates: int


@dataclass(frozen=True)
class Batch:
    """Transitions. For `Rollout` the axes `...` are (S, T, E), for `Replay` (S, B).

    `next_obs` is always the true successor. `terminated` ends bootstrapping; `truncated` (the time limit)
    does not, though the next transition then belongs to another episode. Flags are 0.0 or 1.0.
    """

    obs: Tensor  # (..., O) float32
    action: Tensor  # (...,) int64 or (..., A) float32
    reward: Tensor  # (...,) float32
    next_obs: Tensor  # (..., O) float32
    terminated: Tensor  # (...,) float32
    truncated: Tensor | None  # (...,) float32; None in replay, where it has no use


class Agent(Protocol):
    """Replaced at the merge."""

    experience: Rollout | Replay

    def act(
        self, obs: Tensor, rng: "Streams", explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]: ...

    def update(self, batch: Batch, rng: "Streams", progress: float) -> dict[str, Tensor]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


# ---- random numbers


def derive_seed(seed: int, purpose: str, *index: int) -> int:
    """A 63-bit integer that depends on all of (seed, purpose, index): the seed of one environment, say."""
    return int(_sequence(seed, purpose, *index).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _sequence(seed: int, purpose: str, *index: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, crc32(purpose.encode())], spawn_key=index)


def generator_words(generator: np.random.Generator) -> np.ndarray:
    """The state of a PCG64 generator as (6,) uint64: state, increment (high, low), has_uint32, uinteger."""
    state = generator.bit_generator.state
    low = (1 << 64) - 1
    word, increment = state["state"]["state"], state["state"]["inc"]
    halves = [word >> 64, word & low, increment >> 64, increment & low]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def set_generator_words(generator: np.random.Generator, words: np.ndarray) -> None:
    """Put a PCG64 generator into the state that `generator_words` gave."""
    w = [int(x) for x in words]
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": (w[0] << 64) | w[1], "inc": (w[2] << 64) | w[3]},
        "has_uint32": w[4],
        "uinteger": w[5],
    }


class _Blocks:
    """One kind of number for all seeds, drawn a block at a time; its size does not change the numbers."""

    BLOCK = 4096

    def __init__(
        self, generators: list[np.random.Generator], draw: Callable[[np.random.Generator, int], np.ndarray]
    ):
        self.generators, self.draw = generators, draw
        self.refill()

    def refill(self) -> None:
        self.words = np.stack([generator_words(g) for g in self.generators])  # (S, 6), before the block
        self.block = np.stack([self.draw(g, self.BLOCK) for g in self.generators])  # (S, BLOCK)
        self.used = 0

    def take(self, n: int) -> np.ndarray:  # (S, n)
        parts = []
        while True:
            part = self.block[:, self.used : self.used + n]
            self.used += part.shape[1]
            n -= part.shape[1]
            parts.append(part)
            if n == 0:
                return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)
            self.refill()


class Streams:
    """The random numbers of some seeds for one purpose: row k depends on (seeds[k], purpose, index) alone.

    Each seed has a generator per kind of number, so that drawing normals never shifts the uniforms.
    """

    KINDS: ClassVar[dict[str, Callable[[np.random.Generator, int], np.ndarray]]] = {
        "uniform": lambda g, n: g.random(n),
        "normal": lambda g, n: g.standard_normal(n, np.float32),
    }

    def __init__(self, seeds: Sequence[int], purpose: str, *index: int, device: str = "cpu"):
        self.seeds, self.purpose, self.index, self.device = tuple(seeds), purpose, index, device
        self._blocks: dict[str, _Blocks] = {}

    def _take(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        if kind not in self._blocks:
            sequences = [_sequence(s, f"{self.purpose}/{kind}", *self.index) for s in self.seeds]
            generators = [np.random.Generator(np.random.PCG64(q)) for q in sequences]
            self._blocks[kind] = _Blocks(generators, self.KINDS[kind])
        numbers = torch.from_numpy(self._blocks[kind].take(prod(shape)))
        return numbers.reshape(len(self.seeds), *shape).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """(S, *shape) float64 in [0, 1). Do not write into it."""
        return self._take("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        """(S, *shape) float32, standard normal. Do not write into it."""
        return self._take("normal", shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """(S, *shape) int64, uniform in [0, high): scaled uniforms, so `high` may change freely."""
        return (self.uniform(*shape) * high).long()

    def permutation(self, n: int) -> Tensor:
        """(S, n) int64: a random order of 0..n-1 for each seed."""
        return self.uniform(n).argsort(dim=1, stable=True)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Arrays with the seed axis first."""
        state = {}
        for kind, blocks in self._blocks.items():
            state[f"{kind}/words"] = blocks.words
            state[f"{kind}/used"] = np.full(len(self.seeds), blocks.used)
        return state

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self._blocks = {}
        for kind in self.KINDS:
            if f"{kind}/words" in state:
                self._take(kind, (0,))
                blocks = self._blocks[kind]
                for generator, words in zip(blocks.generators, state[f"{kind}/words"], strict=True):
                    set_generator_words(generator, words)
                blocks.refill()
                blocks.used = int(state[f"{kind}/used"][0])


# ---- networks

Initialiser = Callable[[Streams, int, int], tuple[Tensor, Tensor]]  # (streams, in, out) -> weight, bias


def orthogonal(gain: float) -> Initialiser:
    """W with orthogonal rows or columns times `gain`, bias 0 (Saxe et al. 2014, arXiv 1312.6120)."""

    def initialise(streams: Streams, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
        normal = streams.normal(max(n_in, n_out), min(n_in, n_out)).cpu().numpy().astype(np.float64)
        q, r = np.linalg.qr(normal)  # one small decomposition per seed
        q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None, :]  # makes q uniform over orthogonal matrices
        weight = q if n_in >= n_out else q.transpose(0, 2, 1)
        weight = torch.from_numpy(gain * weight).float().contiguous().to(streams.device)
        return weight, torch.zeros(len(weight), 1, n_out, device=streams.device)

    return initialise


def uniform(bound: float) -> Initialiser:
    """Weight and bias uniform in +-`bound`."""
    return lambda streams, n_in, n_out: _uniform(streams, n_in, n_out, 1 / bound)


def uniform_fan_in(streams: Streams, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
    """Weight and bias uniform in +-1/sqrt(in): what torch.nn.Linear does by default."""
    return _uniform(streams, n_in, n_out, n_in**0.5)


def _uniform(streams: Streams, n_in: int, n_out: int, divisor: float) -> tuple[Tensor, Tensor]:
    numbers = (2 * streams.uniform(n_in + 1, n_out) - 1).float() / divisor
    return numbers[:, :n_in].contiguous(), numbers[:, n_in:].contiguous()


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W + b. (S, B, in), (S, in, out), (S, 1, out) -> (S, B, out).

    A width of 1 would make matrix-vector products when S is 1, with other bits: such an output is a sum of
    products, such an input is padded to 2. Few outputs are computed turned round, in less than half the time,
    but for small batches: one of 1 would again be a width of 1.
    """
    n_in, n_out = weight.shape[1:]
    if n_out == 1:
        return (x * weight.view(-1, 1, n_in)).sum(-1, keepdim=True) + bias
    if n_in == 1:
        x, weight = pad(x, (0, 1)), pad(weight, (0, 0, 0, 1))
    if n_out >= 16 or x.shape[1] < 16:
        return torch.baddbmm(bias, x, weight)
    return torch.baddbmm(bias.mT, weight.mT, x.mT).mT.contiguous()


def _weight_grad(x: Tensor, grad: Tensor) -> Tensor:
    """x^T grad, for the weights of `_affine`: (S, in, out)."""
    n_in, n_out = x.shape[2], grad.shape[2]
    x = pad(x, (0, 1)) if n_in == 1 else x
    grad = pad(grad, (0, 1)) if n_out == 1 else grad
    turned = n_out < 16 and x.shape[1] >= 16
    product = torch.bmm(grad.mT, x).mT if turned else torch.bmm(x.mT, grad)
    return product[:, :n_in, :n_out]


def _input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """grad W^T, for the input of `_affine`: (S, B, in)."""
    n_in, n_out = weight.shape[1:]
    if n_out == 1:
        return grad * weight.view(-1, 1, n_in)
    if n_in == 1:
        return torch.bmm(grad, pad(weight, (0, 0, 0, 1)).mT)[..., :1]
    turned = n_in < 32 and grad.shape[1] >= 16
    return torch.bmm(weight, grad.mT).mT.contiguous() if turned else torch.bmm(grad, weight.mT)


class _Chain(torch.autograd.Function):
    """An MLP with its gradient written out: each product the way round that is faster, slopes in place."""

    @staticmethod
    def forward(ctx, net: "MLP", x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.net, ctx.inputs = net, net.forward(x)
        ctx.save_for_backward(x, *parameters)
        return ctx.inputs.pop()

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        (x, *parameters), (_, *wanted) = ctx.saved_tensors, ctx.needs_input_grad
        if torch.is_grad_enabled():  # a gradient of this gradient will be asked for
            # Of aliases: x may itself depend on the parameters, and that way is not this function's.
            aliases = [t.view_as(t) for t in (x, *parameters)]
            sources = [t for t, want in zip(aliases, wanted, strict=True) if want]
            grads = iter(torch.autograd.grad(ctx.net.composed(*aliases), sources, grad, create_graph=True))
            return None, *(next(grads) if want else None for want in wanted)
        found = []
        for i, (layer, y) in reversed(list(enumerate(zip(ctx.net.layers, ctx.inputs, strict=True)))):
            if any(wanted[1:]):
                found = [_weight_grad(y, grad), grad.sum(1, keepdim=True), *found]
            if i or wanted[0]:
                grad = _input_grad(grad, layer.weight)
            if i:
                ctx.net.slope_(grad, y)
        return None, grad if wanted[0] else None, *(found or [None] * len(parameters))


def _relu_slope_(grad: Tensor, y: Tensor) -> None:
    torch.ops.aten.threshold_backward.grad_input(grad, y, 0, grad_input=grad)


def _tanh_slope_(grad: Tensor, y: Tensor) -> None:
    torch.ops.aten.tanh_backward.grad_input(grad, y, grad_input=grad)


class Linear:
    """y = x W + b for every seed at once. (S, B, in) -> (S, B, out).

    `copies` of it per seed have S * copies rows, those of a seed together, in place of S.
    """

    def __init__(self, streams: Streams, n_in: int, n_out: int, init: Initialiser, copies: int = 1):
        drawn = [init(streams, n_in, n_out) for _ in range(copies)]
        self.weight, self.bias = (torch.stack(x, 1).flatten(0, 1) for x in zip(*drawn, strict=True))

    def __call__(self, x: Tensor) -> Tensor:
        return _affine(x, self.weight, self.bias)  # (S, B, in), (S, in, out), (S, 1, out)

    def slots(self) -> list[tuple[object, str]]:
        """Where this module's parameters are: (object, attribute) pairs."""
        return [(self, "weight"), (self, "bias")]


class MLP:
    """Linear layers with `tanh` or `torch.relu_` between them. (S, ..., sizes[0]) -> (S, ..., sizes[-1]).

    `copies` of it per seed have S * copies rows, those of a seed together, in place of S.
    """

    def __init__(
        self,
        streams: Streams,
        sizes: Sequence[int],
        activation: Callable[[Tensor], Tensor],
        inits: Sequence[Initialiser],
        copies: int = 1,
    ):
        pairs = zip(sizes[:-1], sizes[1:], inits, strict=True)
        self.layers = [Linear(streams, n_in, n_out, init, copies) for n_in, n_out, init in pairs]
        self.activation, self.slope_ = activation, {tanh: _tanh_slope_, torch.relu_: _relu_slope_}[activation]

    def __call__(self, x: Tensor) -> Tensor:
        y = x if x.dim() == 3 else x.flatten(1, -2)  # (S, B, in)
        if torch.is_grad_enabled():
            y = _Chain.apply(self, y, *(getattr(*slot) for slot in self.slots()))
        else:
            y = self.forward(y)[-1]
        return y if x.dim() == 3 else y.view(*x.shape[:-1], -1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """The input of each layer, and the output."""
        found = [x]
        for layer in self.layers[:-1]:
            found.append(self.activation(layer(found[-1])))
        return [*found, self.layers[-1](found[-1])]

    def composed(self, x: Tensor, *parameters: Tensor) -> Tensor:
        """The output as autograd sees it, layer by layer, with these weights and biases: for gradients of
        gradients.
        """
        *hidden, last = zip(parameters[::2], parameters[1::2], strict=True)
        for weight, bias in hidden:
            x = self.activation(_affine(x, weight, bias))
        return _affine(x, *last)

    def constant(self, every: int = 1) -> "MLP":
        """It in the same memory, but no gradient goes into its parameters; of n copies per seed, with
        `every` = n, the first."""
        net = copy.copy(self)
        net.layers = [copy.copy(layer) for layer in self.layers]
        for layer in net.layers:
            layer.weight, layer.bias = layer.weight.detach()[::every], layer.bias.detach()[::every]
        return net

    def slots(self) -> list[tuple[object, str]]:
        return [slot for layer in self.layers for slot in layer.slots()]


class Vector:
    """A free parameter of n numbers per seed, such as a state-independent log standard deviation."""

    def __init__(self, streams: Streams, n: int, value: float):
        self.value = torch.full((len(streams.seeds), n), value, device=streams.device)  # (S, n)

    def slots(self) -> list[tuple[object, str]]:
        return [(self, "value")]


class Parameters:
    """The parameters of some modules as one matrix (S, P); the modules' tensors become views into it.

    With `copies` of the modules per seed, those of a seed stand one after the other in its row, so that the
    same memory is S * copies rows of one network each, which a product takes at once.
    """

    def __init__(self, *modules: Linear | MLP | Vector, copies: int = 1):
        slots = [slot for module in modules for slot in module.slots()]
        tensors = [getattr(*slot) for slot in slots]
        rows = torch.cat([t.detach().flatten(1) for t in tensors], 1)  # (S * copies, P / copies)
        self.matrix = rows.view(len(rows) // copies, -1)
        self.leaves = []
        start = 0
        for (owner, name), tensor in zip(slots, tensors, strict=True):
            stop = start + tensor[0].numel()
            leaf = rows[:, start:stop].view(tensor.shape).detach().requires_grad_()
            setattr(owner, name, leaf)
            self.leaves.append(leaf)
            start = stop

    def grad(self, y: Tensor, weights: Tensor | None = None, **options: bool) -> Tensor:
        """Gradient (S, P) of each seed's own loss y (S,), or of the sum of any y (S, ...) times `weights`."""
        weights = torch.ones_like(y) if weights is None else weights
        grads = torch.autograd.grad(y, self.leaves, weights, **options)
        return torch.cat([g.flatten(1) for g in grads], 1).view_as(self.matrix)


# ---- optimisers, on the (S, P) matrix


def clip_grad_norm(grad: Tensor, max_norm: float) -> tuple[Tensor, Tensor]:
    """Scale each seed's gradient (S, P) to at most `max_norm`. Returns it and the norms (S,) from before."""
    norm = grad.norm(dim=1)
    return grad * (max_norm / norm).clamp(max=1.0)[:, None], norm


class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1), each seed by itself.

    torch's fused kernel, row by row: given the whole matrix, its bits would depend on packing.
    """

    def __init__(self, parameters: Parameters, eps: float, betas: tuple[float, float] = (0.9, 0.999)):
        x = parameters.matrix
        self.m, self.v = torch.zeros_like(x), torch.zeros_like(x)
        self.t = torch.zeros((), device=x.device)  # steps so far
        self.rows, self.counts = [list(matrix.unbind()) for matrix in (x, self.m, self.v)], [self.t] * len(x)
        self.options = {"beta1": betas[0], "beta2": betas[1], "eps": eps, "weight_decay": 0.0}
        self.options |= {"amsgrad": False, "maximize": False}

    @torch.no_grad()
    def step(self, grad: Tensor, learning_rate: float | Tensor) -> None:
        """Move the parameters by one step down `grad` (S, P)."""
        self.t += 1
        x, m, v = self.rows
        grad = grad.contiguous().unbind()  # the kernel reads its memory as it lies
        torch._fused_adam_(x, grad, m, v, [], self.counts, lr=learning_rate, **self.options)
        torch.autograd.graph.increment_version(x)  # an older graph is refused, not used with new weights

    def state_dict(self) -> dict[str, Tensor]:
        return {"m": self.m, "v": self.v, "t": self.t.expand(len(self.m)).long()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.m.copy_(state["m"])
        self.v.copy_(state["v"])
        self.t.copy_(state["t"][0])


class RMSProp:
    """RMSProp with eps inside the root, as in TensorFlow and the authors' A2C, each seed by itself."""

    def __init__(self, parameters: Parameters, eps: float, decay: float):
        self.x, self.eps, self.decay = parameters.matrix, eps, decay
        self.g = torch.ones_like(self.x)  # TensorFlow starts at 1

    @torch.no_grad()
    def step(self, grad: Tensor, learning_rate: float) -> None:
        """Move the parameters by one step down `grad` (S, P)."""
        self.g.mul_(self.decay).addcmul_(grad, grad, value=1 - self.decay)
        self.x.addcdiv_(grad, sqrt(self.g + self.eps), value=-learning_rate)

    def state_dict(self) -> dict[str, Tensor]:
        return {"g": self.g}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.g.copy_(state["g"])


def learner_state(
    learned: dict[str, tuple[Parameters, Adam]], targets: dict[str, Parameters], updates: int
) -> dict[str, Tensor]:
    """The state of named networks with their optimisers, of their targets, and of the count of updates."""
    state = {f"target/{name}": target.matrix for name, target in targets.items()}
    for name, (params, optimiser) in learned.items():
        state[f"params/{name}"] = params.matrix
        state |= {f"{name}_optimiser/{k}": v for k, v in optimiser.state_dict().items()}
    return state | {"updates": torch.full((len(params.matrix),), updates)}


def load_learner_state(
    learned: dict[str, tuple[Parameters, Adam]], targets: dict[str, Parameters], state: dict[str, Tensor]
) -> int:
    """Put back what `learner_state` gave; returns the count of updates."""
    for name, target in targets.items():
        target.matrix.copy_(state[f"target/{name}"])
    for name, (params, optimiser) in learned.items():
        params.matrix.copy_(state[f"params/{name}"])
        optimiser.load_state_dict({k: state[f"{name}_optimiser/{k}"] for k in optimiser.state_dict()})
    return int(state["updates"][0])


class Moments:
    """Running mean and variance of columns of numbers, each seed by itself, in float64.

    Batches are merged by the formula of Chan, Golub and LeVeque 1979; a first count of 1e-4 with mean 0 and
    variance 1 is openai/baselines'.
    """

    def __init__(self, streams: Streams, n: int):
        shape, options = (len(streams.seeds), n), {"dtype": torch.float64, "device": streams.device}
        self.mean, self.var = torch.zeros(shape, **options), torch.ones(shape, **options)  # (S, n)
        self.count = torch.full((shape[0], 1), 1e-4, **options)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take in more numbers (S, ..., n)."""
        x = x.flatten(1, -2).mT.contiguous().double()  # (S, n, B): reduced over the last axis
        mean, n = x.mean(2), x.shape[2]
        var = (x - mean[..., None]).square().mean(2)
        total = self.count + n
        delta, share = mean - self.mean, n / total  # share (S, 1): the weight of the new numbers
        self.var = self.var * (1 - share) + var * share + delta.square() * share * (1 - share)
        self.mean = self.mean + delta * share
        self.count = total

    def state_dict(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "var": self.var, "count": self.count}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.mean, self.var, self.count = state["mean"], state["var"], state["count"]


@torch.no_grad()
def move_target(target: Parameters, online: Parameters, tau: float) -> None:
    """target <- (1 - tau) target + tau online; `tau` is always the fraction of the new weights."""
    target.matrix.lerp_(online.matrix, tau)


# ---- CUDA graphs


def captured(work: Callable[..., object], device: str) -> Callable[..., object]:
    """`work`, a function of tensors, numbers and a Batch; on a GPU it is replayed as a CUDA graph.

    It may change tensors that stay where they are (parameters, optimisers). On a GPU the numbers arrive as
    tensors, the Python in it runs only while the graph is made, and what it returns is overwritten by the
    next call. Random numbers are inputs, so that a GPU draws what a CPU does.
    """
    return work if device == "cpu" else _Graphs(work, device)


class _Graphs:
    """One graph for each set of shapes."""

    def __init__(self, work: Callable[..., object], device: str):
        self.work, self.device, self.graphs = work, device, {}

    def __call__(self, *inputs: Tensor | Batch | float) -> object:
        flat = _flat(inputs)
        shapes = tuple(getattr(x, "shape", ()) for x in flat)
        if shapes not in self.graphs:
            self.graphs[shapes] = _Graph(self.work, [_static(x, self.device) for x in inputs])
        return self.graphs[shapes](flat)


class _Graph:
    """`work` on inputs that stay where they are: what is given is copied into them."""

    WARM_UP = 3  # calls that run as they are, on another stream, as PyTorch asks before a capture

    def __init__(self, work: Callable[..., object], inputs: Sequence[Tensor | Batch]):
        self.work, self.inputs, self.flat, self.calls = work, inputs, _flat(inputs), 0
        self.stream, self.graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()

    def __call__(self, flat: Sequence[Tensor | float]) -> object:
        for mine, given in zip(self.flat, flat, strict=True):
            if isinstance(given, Tensor):
                mine.copy_(given)
            else:
                mine.fill_(given)
        self.calls += 1
        if self.calls <= self.WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                result = self.work(*self.inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            return result
        if self.calls == self.WARM_UP + 1:
            gc.collect()
            gc.disable()  # or it may free another graph's memory in the midst of this capture, which ends it
            try:
                with torch.cuda.graph(self.graph):
                    self.result = self.work(*self.inputs)
            finally:
                gc.enable()
        self.graph.replay()
        return self.result


def _flat(inputs: Sequence[Tensor | Batch | float]) -> list[Tensor | float]:
    fields = [list(vars(x).values()) if isinstance(x, Batch) else [x] for x in inputs]
    return [x for some in fields for x in some if x is not None]


def _static(x: Tensor | Batch | float, device: str) -> Tensor | Batch:
    if isinstance(x, Batch):
        return Batch(*[None if field is None else field.clone() for field in vars(x).values()])
    return x.clone() if isinstance(x, Tensor) else torch.tensor(x, device=device)


# ---- primitives whose bits do not depend on packing


def sqrt(x: Tensor) -> Tensor:
    """Square root, without gradient. On the CPU numpy's: torch's is slow on denormal numbers."""
    return torch.sqrt(x) if x.is_cuda else torch.from_numpy(np.sqrt(x.numpy()))


class _Tanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        y = torch.from_numpy(np.tanh(x.detach().numpy()))
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.tanh_backward(grad, y)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent. On the CPU numpy's, which is six times as fast as torch's (measured on Zen 4)."""
    if x.is_cuda:
        return torch.tanh(x)
    if torch.is_grad_enabled():
        return _Tanh.apply(x)
    return torch.from_numpy(np.tanh(x.detach().numpy()))


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    return torch.log1p(torch.exp(-x.abs())) + torch.maximum(x, torch.zeros_like(x))  # slope 1/2 at 0


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.exp(-softplus(-x))


def standardise(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Each seed's numbers (S, ...) shifted to mean 0 and scaled to deviation 1 (n - 1 in the divisor)."""
    flat = x.flatten(1)
    return ((flat - flat.mean(1, keepdim=True)) / (flat.std(1, keepdim=True) + eps)).view(x.shape)
