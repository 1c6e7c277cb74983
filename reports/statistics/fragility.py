"""Fragility of a claim: how many failed runs of the better system would undo it."""

import numpy as np

from ascent.reports.statistics.significance import permutation_p, welch


def fragility(
    better: np.ndarray, worse: np.ndarray, failed: float, levels: tuple[float, float], family: int, seed: int
) -> int:
    """Return the smallest number of runs that undo the claim that `better` (n,) scores higher, if they fail.

    The best runs get the score `failed`, one after the other, until one of the tests no longer rejects or the
    mean is no longer higher: the fragility index of Walsh et al. (2014), for scores. Higher is better.

    Args:
        better: run scores of the better system.
        worse: run scores of the other system (m,).
        failed: the score of a run that fails, at most the smallest score of both.
        levels: p values below which the permutation test and Welch's test still reject.
        family: size of the family of comparisons, as for `permutation_p`.
        seed: of the permutation test.
    """
    ordered = np.sort(better)
    for count in range(1, len(better)):
        kept = ordered[:-count]
        # To the ranks, runs of one system that fail alike are no ties.
        ranked = np.r_[kept, failed - 1 - np.arange(count)]
        (p,) = permutation_p(ranked[None], worse[None], family, seed)
        found = welch(np.r_[kept, np.full(count, failed)], worse)
        if not (p < levels[0] and found.p < levels[1] and found.difference > 0):
            return count
    return len(better)
