"""Random numbers: named streams, one set of generators for each seed."""

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import ClassVar, Protocol
from zlib import crc32

import numpy as np
import torch
from torch import Tensor


def derive_seed(seed: int, purpose: str, *index: int) -> int:
    """Return a 63-bit integer that depends on (seed, purpose, index), such as the seed of one environment."""
    return int(_sequence(seed, purpose, *index).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _sequence(seed: int, purpose: str, *index: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, crc32(purpose.encode())], spawn_key=index)


def generator_words(generator: np.random.Generator) -> np.ndarray:
    """Return the state of a PCG64 generator, (6,) uint64.

    The words are the state and the increment (high and low half of each), `has_uint32` and `uinteger`.
    """
    state = generator.bit_generator.state
    low = (1 << 64) - 1
    word, increment = state["state"]["state"], state["state"]["inc"]
    halves = [word >> 64, word & low, increment >> 64, increment & low]
    return np.array([*halves, state["has_uint32"], state["uinteger"]], np.uint64)


def set_generator_words(generator: np.random.Generator, words: np.ndarray) -> None:
    """Restore a PCG64 generator to the state that `generator_words` returned."""
    w = [int(x) for x in words]
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": (w[0] << 64) | w[1], "inc": (w[2] << 64) | w[3]},
        "has_uint32": w[4],
        "uinteger": w[5],
    }


class _Blocks:
    """One kind of number for all seeds, drawn in blocks; the block size does not change the numbers."""

    BLOCK = 4096

    def __init__(
        self, generators: list[np.random.Generator], draw: Callable[[np.random.Generator, int], np.ndarray]
    ) -> None:
        self.generators = generators
        self.draw = draw
        self.refill()

    def refill(self) -> None:
        """Draw the next block and keep the generators' state from before it."""
        self.words = np.stack([generator_words(g) for g in self.generators])  # (S, 6)
        self.block = np.stack([self.draw(g, self.BLOCK) for g in self.generators])  # (S, BLOCK)
        self.used = 0

    def take(self, n: int) -> np.ndarray:
        """Return the next n numbers of each seed, (S, n)."""
        parts = []
        while True:
            part = self.block[:, self.used : self.used + n]
            self.used += part.shape[1]
            n -= part.shape[1]
            parts.append(part)
            if n == 0:
                return parts[0] if len(parts) == 1 else np.concatenate(parts, 1)
            self.refill()


class Noise(Protocol):
    """A source of uniform and normal random numbers."""

    def uniform(self, *shape: int) -> Tensor:
        """Return (S, *shape) float64 in [0, 1)."""

    def normal(self, *shape: int) -> Tensor:
        """Return (S, *shape) float32, standard normal."""


class Streams:
    """The random numbers of several seeds for one purpose.

    Row k depends on (seeds[k], purpose, index) alone. Each seed has one generator for each kind of number, so
    drawing normals never shifts the uniforms.
    """

    KINDS: ClassVar[dict[str, Callable[[np.random.Generator, int], np.ndarray]]] = {
        "uniform": lambda g, n: g.random(n),
        "normal": lambda g, n: g.standard_normal(n, np.float32),
    }

    def __init__(self, seeds: Sequence[int], purpose: str, *index: int, device: str = "cpu") -> None:
        self.seeds = tuple(seeds)
        self.purpose = purpose
        self.index = index
        self.device = device
        self._blocks: dict[str, _Blocks] = {}

    def _take(self, kind: str, shape: tuple[int, ...]) -> Tensor:
        if kind not in self._blocks:
            sequences = [_sequence(s, f"{self.purpose}/{kind}", *self.index) for s in self.seeds]
            generators = [np.random.Generator(np.random.PCG64(q)) for q in sequences]
            self._blocks[kind] = _Blocks(generators, self.KINDS[kind])
        numbers = torch.from_numpy(self._blocks[kind].take(prod(shape)))
        return numbers.reshape(len(self.seeds), *shape).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Return (S, *shape) float64 in [0, 1). The tensor must not be written to."""
        return self._take("uniform", shape)

    def normal(self, *shape: int) -> Tensor:
        """Return (S, *shape) float32, standard normal. The tensor must not be written to."""
        return self._take("normal", shape)

    def integers(self, high: int, *shape: int) -> Tensor:
        """Return (S, *shape) int64, uniform in [0, high): scaled uniforms, so that `high` may vary freely."""
        return (self.uniform(*shape) * high).long()

    def permutation(self, n: int) -> Tensor:
        """Return (S, n) int64: a random order of 0..n-1 for each seed."""
        return self.uniform(n).argsort(dim=1, stable=True)

    def minibatches(self, columns: Sequence[Tensor], size: int) -> Iterator[list[Tensor]]:
        """Yield one pass over columns (S, n, ...) in minibatches (S, size, ...), in a random order for each
        seed.
        """
        order = self.permutation(columns[0].shape[1])
        rows = (order + order.shape[1] * torch.arange(len(order), device=order.device)[:, None]).flatten()
        shuffled = [x.flatten(0, 1).index_select(0, rows).view(x.shape) for x in columns]
        for start in range(0, order.shape[1], size):
            yield [x[:, start : start + size] for x in shuffled]

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the state as arrays with the seed axis first."""
        state = {}
        for kind, blocks in self._blocks.items():
            state[f"{kind}/words"] = blocks.words
            state[f"{kind}/used"] = np.full(len(self.seeds), blocks.used)
        return state

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned."""
        self._blocks = {}
        for kind in self.KINDS:
            if f"{kind}/words" in state:
                self._take(kind, (0,))
                blocks = self._blocks[kind]
                for generator, words in zip(blocks.generators, state[f"{kind}/words"], strict=True):
                    set_generator_words(generator, words)
                blocks.refill()
                blocks.used = int(state[f"{kind}/used"][0])
