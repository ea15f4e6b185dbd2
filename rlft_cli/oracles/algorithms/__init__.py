"""What any algorithm can be put through, a user's own too: ``checks`` gives the oracles that make sense for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rlft_cli.algo import Algorithm
from rlft_cli.errors import UsageError
from rlft_cli.oracles import Oracle
from rlft_cli.oracles.algorithms.batches import EVERY
from rlft_cli.oracles.algorithms.policies import ON_POLICY
from rlft_cli.oracles.algorithms.values import BEST_ACTION, MEAN_REWARD, oracle_of_chain, oracle_of_imitation

KNOWN_READS = frozenset(
    {"value", "dueling", "greedy", "reference", "propensity", "chance", "pairs", "search", "tokens"}
)
NUMBERS = ("heads:", "quantiles:", "atoms:")  # more numbers of each action (model/head.py), which can be made too
MOST_SAMPLES = 8  # groups of more cannot be enumerated


def checks(algorithm: Algorithm, settings: Mapping[str, Any]) -> list[Oracle]:
    """The oracles of one algorithm, with it as their subject; ``settings`` are the keys of its YAML.

    A reward at the end is put only to policy gradients that do not discount it, mean rewards only to algorithms that say
    that their values are such, and dynamic programming needs to know gamma. UsageError for an algorithm that cannot be
    put through them.
    """
    unknown = [name for name in algorithm.reads if name not in KNOWN_READS and not name.startswith(NUMBERS)]
    if unknown:
        raise UsageError(
            f"rlft verify cannot make what the algorithm reads: {', '.join(sorted(unknown))}; "
            f"it can make {', '.join(sorted(KNOWN_READS))}"
        )
    if algorithm.samples > MOST_SAMPLES:
        raise UsageError(
            f"groups of algo.samples={algorithm.samples} episodes cannot be enumerated; type algo.samples={MOST_SAMPLES} "
            "or less to verify the algorithm"
        )
    found = list(EVERY)
    if algorithm.needs == "rewards" and algorithm.on_policy:
        found += ON_POLICY if settings.get("gamma") in (None, 1.0) else ON_POLICY[:2]
    elif "search" in algorithm.reads:
        found.append(oracle_of_imitation(settings))
    elif algorithm.needs == "rewards" and "reference" not in algorithm.reads:
        found.append(BEST_ACTION)
        if _learns_means(algorithm, settings):
            found.append(MEAN_REWARD)
            if "gamma" in settings:
                found.append(oracle_of_chain(float(settings["gamma"])))
    return [replace(oracle, subject=algorithm) for oracle in found]


def _learns_means(algorithm: Algorithm, settings: Mapping[str, Any]) -> bool:
    """Whether values are mean returns: not logits of a policy (those of filtered_bc too, which alone has a threshold) or
    means of a distribution, not held down (CQL), not with an entropy (Munchausen), and not of a stream that goes on
    (DQNimb, the only one that is for classes alone)."""
    policy = "propensity" in algorithm.reads or "threshold" in settings
    other = policy or any(name.startswith(NUMBERS) for name in algorithm.reads)
    moved = float(settings.get("cql_coefficient", 0.0)) > 0 or settings.get("backup") == "munchausen"
    return not other and not moved and algorithm.decisions != ("classes",)


__all__ = ["checks"]
