"""Tensors whose first axis is the seed: what the algorithms share that is not reinforcement learning.

Every tensor has a leading seed axis S and seeds share no parameters, so the gradient of the summed loss is
each seed's own gradient. All parameters of one optimiser form one matrix (S, P), and the layers are views
into it; optimisers, clipping, target networks, digests and checkpoints act on that matrix.

**Packing guarantee (CPU).** The code in this package gives seed k the same bits whichever other seeds share
the process. `tests/algorithms/seedwise/test_packing.py` checks these rules:

- On a CPU, the compiled kernels compute networks and Adam where they are built; they keep the guarantee by
  themselves. The other rules are for torch.
- Use one compute thread, and set `MKL_CBWR` in the environment before torch is imported
  (`algorithms/__init__.py` does so).
- Do not use `torch.nn.functional.softplus`, `sigmoid`, `silu`, `elu`, `logaddexp`, `pow` with a fractional
  exponent, `einsum`, or a fused optimiser on a whole matrix: their bits depend on packing. Use the functions
  of `numbers.py` and the optimisers of `learner.py`.
- A matrix product with a width of 1 takes another code path when S is 1: `_affine` and its gradient in
  `networks.py` pad or sum instead.
- Reduce over trailing axes only, never over the seed axis, and let no shape depend on other seeds.
"""

from ascent.algorithms.seedwise.acting import Step, network, squash
from ascent.algorithms.seedwise.contract import (
    Agent,
    Batch,
    Count,
    Fraction,
    NonNegative,
    PolicyGradient,
    Positive,
    Predictor,
    Replay,
    Rollout,
    SingleAgent,
    State,
    Valued,
    WholeEpisodes,
    Widths,
)
from ascent.algorithms.seedwise.graphs import captured
from ascent.algorithms.seedwise.learner import (
    Adam,
    Learned,
    Moments,
    Parameters,
    RMSProp,
    clip_grad_norm,
    gradient,
    load_learners,
    move_target,
    part,
    prefixed,
    save_learners,
)
from ascent.algorithms.seedwise.networks import (
    MLP,
    Initialiser,
    Linear,
    Module,
    Slot,
    Vector,
    orthogonal,
    uniform,
    uniform_fan_in,
)
from ascent.algorithms.seedwise.numbers import (
    exp,
    logarithm,
    root,
    sigmoid,
    softplus,
    sqrt,
    standardise,
    tanh,
)
from ascent.algorithms.seedwise.random import (
    Noise,
    Streams,
    derive_seed,
    generator_words,
    set_generator_words,
)

VERSION = 2  # raise it when a change in this package changes results

__all__ = [
    "MLP",
    "VERSION",
    "Adam",
    "Agent",
    "Batch",
    "Count",
    "Fraction",
    "Initialiser",
    "Learned",
    "Linear",
    "Module",
    "Moments",
    "Noise",
    "NonNegative",
    "Parameters",
    "PolicyGradient",
    "Positive",
    "Predictor",
    "RMSProp",
    "Replay",
    "Rollout",
    "SingleAgent",
    "Slot",
    "State",
    "Step",
    "Streams",
    "Valued",
    "Vector",
    "WholeEpisodes",
    "Widths",
    "captured",
    "clip_grad_norm",
    "derive_seed",
    "exp",
    "generator_words",
    "gradient",
    "load_learners",
    "logarithm",
    "move_target",
    "network",
    "orthogonal",
    "part",
    "prefixed",
    "root",
    "save_learners",
    "set_generator_words",
    "sigmoid",
    "softplus",
    "sqrt",
    "squash",
    "standardise",
    "tanh",
    "uniform",
    "uniform_fan_in",
]
