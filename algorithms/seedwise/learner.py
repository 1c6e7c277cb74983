"""Parameter matrices, optimisers, target networks and running moments, each seed by itself."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from ascent import kernels
from ascent.algorithms.seedwise.contract import State
from ascent.algorithms.seedwise.networks import Module
from ascent.algorithms.seedwise.numbers import sqrt
from ascent.algorithms.seedwise.random import Streams


def prefixed(prefix: str, state: State) -> State:
    """Return the state with `prefix` and a slash before every name."""
    return {f"{prefix}/{name}": tensor for name, tensor in state.items()}


def part(prefix: str, state: State) -> State:
    """Undo `prefixed`: return the tensors whose names begin with `prefix` and a slash, without it."""
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in state.items() if name.startswith(start)}


class Parameters:
    """The parameters of one or more modules as one matrix (S, P); the modules' tensors become views into it.

    With `copies` of the modules per seed, a seed's row holds its copies one after the other, so that the same
    memory is also S * copies rows of one network each, which one product handles at once.
    """

    def __init__(self, *modules: Module, copies: int = 1) -> None:
        slots = [slot for module in modules for slot in module.slots()]
        tensors: list[Tensor] = [getattr(*slot) for slot in slots]
        rows = torch.cat([t.detach().flatten(1) for t in tensors], 1)  # (S * copies, P / copies)
        self.matrix = rows.view(len(rows) // copies, -1)
        self.leaves: list[Tensor] = []
        start = 0
        for (owner, name), tensor in zip(slots, tensors, strict=True):
            stop = start + tensor[0].numel()
            leaf = rows[:, start:stop].view(tensor.shape).detach().requires_grad_()
            setattr(owner, name, leaf)
            self.leaves.append(leaf)
            start = stop

    def grad(
        self, y: Tensor, weights: Tensor | None = None, retain_graph: bool = False, create_graph: bool = False
    ) -> Tensor:
        """Return each seed's gradient (S, P) of its loss y (S,), or of the sum of y * weights (S, ...)."""
        grads = torch.autograd.grad(
            (y if weights is None else y * weights).sum(),
            self.leaves,
            retain_graph=retain_graph or create_graph,
            create_graph=create_graph,
        )
        base = grads[0]._base  # the kernels write the gradient of a network into one tensor
        if base is not None and base.numel() == self.matrix.numel() and all(g._base is base for g in grads):
            return base.view_as(self.matrix)
        return torch.cat([g.flatten(1) for g in grads], 1).view_as(self.matrix)


def gradient(y: Tensor, *modules: Module) -> Tensor:
    """Return each seed's gradient (S, P) of y (S,) with respect to the parameters of some modules alone."""
    leaves = [getattr(*slot) for module in modules for slot in module.slots()]
    return torch.cat([g.flatten(1) for g in torch.autograd.grad(y.sum(), leaves)], 1)


# ---- optimisers, on the (S, P) matrix


def clip_grad_norm(grad: Tensor, max_norm: float) -> tuple[Tensor, Tensor]:
    """Scale each seed's gradient (S, P) to a norm of at most `max_norm`. Return it and the old norms (S,)."""
    norm = grad.norm(dim=1)
    return grad * (max_norm / norm).clamp(max=1.0)[:, None], norm


class Optimiser(Protocol):
    """A gradient method on a parameter matrix."""

    def step(self, grad: Tensor, learning_rate: float | Tensor) -> None:
        """Move the parameters one step down `grad` (S, P)."""

    def state_dict(self) -> State:
        """Return the statistics, each with the seed axis first."""

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""


class Adam:
    """Adam (Kingma & Ba 2015, arXiv 1412.6980, algorithm 1), each seed by itself.

    It uses torch's fused kernel row by row: on the whole matrix, its bits would depend on packing.
    """

    def __init__(self, parameters: Parameters, eps: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        x = self.x = parameters.matrix
        self.eps = eps
        self.betas = betas
        self.m = torch.zeros_like(x)
        self.v = torch.zeros_like(x)
        self.t = torch.zeros((), device=x.device)  # number of steps so far
        self.rows = [list(matrix.unbind()) for matrix in (x, self.m, self.v)]
        self.counts = [self.t] * len(x)

    @torch.no_grad()
    def step(self, grad: Tensor, learning_rate: float | Tensor) -> None:
        """Move the parameters one step down `grad` (S, P)."""
        self.t += 1
        x, m, v = self.rows
        if kernels.enabled() and not self.x.is_cuda:
            t, rate = int(self.t), float(learning_rate)
            kernels.adam_step(self.x, self.m, self.v, grad, t, rate, self.betas, self.eps)
            torch.autograd.graph.increment_version(x)
            return
        torch._fused_adam_(
            x,
            list(grad.contiguous().unbind()),  # the kernel requires contiguous memory
            m,
            v,
            [],
            self.counts,
            lr=learning_rate,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=0.0,
            amsgrad=False,
            maximize=False,
        )
        torch.autograd.graph.increment_version(x)  # so that autograd refuses graphs of the old parameters

    def state_dict(self) -> State:
        return {"m": self.m, "v": self.v, "t": self.t.expand(len(self.m)).long()}

    def load_state_dict(self, state: State) -> None:
        self.m.copy_(state["m"])
        self.v.copy_(state["v"])
        self.t.copy_(state["t"][0])


class RMSProp:
    """RMSProp (Tieleman & Hinton 2012), each seed by itself.

    The mean square is g <- decay g + (1 - decay) gradient^2. There are two conventions. "tensorflow", as in
    openai/baselines: g starts at 1, and a step is gradient / sqrt(g + eps). "torch", as in Stable-Baselines3:
    g starts at 0, and a step is gradient / (sqrt(g) + eps).
    """

    def __init__(
        self,
        parameters: Parameters,
        eps: float,
        decay: float,
        convention: Literal["tensorflow", "torch"] = "tensorflow",
    ) -> None:
        self.x = parameters.matrix
        self.eps = eps
        self.decay = decay
        self.inside = convention == "tensorflow"  # eps, of the root
        self.g = torch.ones_like(self.x) if self.inside else torch.zeros_like(self.x)

    @torch.no_grad()
    def step(self, grad: Tensor, learning_rate: float | Tensor) -> None:
        """Move the parameters one step down `grad` (S, P)."""
        self.g.mul_(self.decay).addcmul_(grad, grad, value=1 - self.decay)
        root = sqrt(self.g + self.eps) if self.inside else sqrt(self.g) + self.eps
        self.x.addcdiv_(grad, root, value=-float(learning_rate))

    def state_dict(self) -> State:
        return {"g": self.g}

    def load_state_dict(self, state: State) -> None:
        self.g.copy_(state["g"])


# ---- networks that learn


@torch.no_grad()
def move_target(target: Parameters, online: Parameters, tau: float) -> None:
    """Set target <- (1 - tau) target + tau online; `tau` is always the fraction of the new weights."""
    target.matrix.lerp_(online.matrix, tau)


class Learned:
    """Modules that learn together: their parameter matrix, its optimiser and, if given, their target.

    The state holds `params/<name>`, `target/<name>` and, under `<optimiser_name>/`, the optimiser's
    statistics (default: `<name>_optimiser`). Make the target (a copy of the one module) before this object.
    """

    def __init__(
        self,
        name: str,
        *modules: Module,
        optimiser: Callable[[Parameters], Optimiser],
        optimiser_name: str = "",
        target: Module | None = None,
        copies: int = 1,
    ) -> None:
        self.name = name
        self.optimiser_name = optimiser_name or f"{name}_optimiser"
        self.params = Parameters(*modules, copies=copies)
        self.optimiser = optimiser(self.params)
        self.target = None if target is None else Parameters(target, copies=copies)

    def descend(self, loss: Tensor, learning_rate: float | Tensor) -> None:
        """Move the parameters one step down each seed's gradient of the loss (S,)."""
        self.optimiser.step(self.params.grad(loss), learning_rate)

    def follow(self, tau: float) -> None:
        """Move the target towards the parameters: target <- (1 - tau) target + tau params."""
        assert self.target is not None, f"{self.name} has no target"
        move_target(self.target, self.params, tau)

    def state_dict(self) -> State:
        state = {f"params/{self.name}": self.params.matrix}
        if self.target is not None:
            state[f"target/{self.name}"] = self.target.matrix
        return state | prefixed(self.optimiser_name, self.optimiser.state_dict())

    def load_state_dict(self, state: State) -> None:
        self.params.matrix.copy_(state[f"params/{self.name}"])
        if self.target is not None:
            self.target.matrix.copy_(state[f"target/{self.name}"])
        self.optimiser.load_state_dict(part(self.optimiser_name, state))


def save_learners(learners: Sequence[Learned], updates: int) -> State:
    """Return the state of all learners and the number of updates."""
    state = {name: tensor for learned in learners for name, tensor in learned.state_dict().items()}
    return state | {"updates": torch.full((len(learners[0].params.matrix),), updates)}


def load_learners(learners: Sequence[Learned], state: State) -> int:
    """Restore what `save_learners` returned, and return the number of updates."""
    for learned in learners:
        learned.load_state_dict(state)
    return int(state["updates"][0])


class Moments:
    """Running mean and variance of n columns of numbers, each seed by itself, in float64.

    Batches are merged by the formula of Chan, Golub and LeVeque 1979. The initial count of 1e-4, with mean 0
    and variance 1, is that of openai/baselines.
    """

    def __init__(self, streams: Streams, n: int) -> None:
        seeds, device = len(streams.seeds), streams.device
        self.mean = torch.zeros(seeds, n, dtype=torch.float64, device=device)
        self.var = torch.ones(seeds, n, dtype=torch.float64, device=device)
        self.count = torch.full((seeds, 1), 1e-4, dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Include more numbers (S, ..., n)."""
        x = x.flatten(1, -2).mT.contiguous().double()  # (S, n, B): reduced over the last axis
        mean, n = x.mean(2), x.shape[2]
        var = (x - mean[..., None]).square().mean(2)
        total = self.count + n
        delta, share = mean - self.mean, n / total  # share (S, 1): the weight of the new numbers
        self.var = self.var * (1 - share) + var * share + delta.square() * share * (1 - share)
        self.mean = self.mean + delta * share
        self.count = total

    def state_dict(self) -> State:
        return {"mean": self.mean, "var": self.var, "count": self.count}

    def load_state_dict(self, state: State) -> None:
        self.mean, self.var, self.count = state["mean"], state["var"], state["count"]
