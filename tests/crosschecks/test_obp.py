"""Open Bandit Pipeline's estimators (Saito et al. 2021) and those of rlft on the same logs, to 1e-10."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from rlft_cli.offline import Scored, estimate, predicted_rewards
from rlft_cli.returns import direct_method, doubly_robust, importance_ratio, inverse_propensity, self_normalised

pytestmark = pytest.mark.slow  # obp imports much

EXACT = 1e-10
D = torch.float64


@pytest.fixture(scope="module")
def ope() -> Any:
    return pytest.importorskip("obp.ope", reason="obp is in the extra crosscheck: pip install 'rlft[crosscheck]'")


def scored(decisions: list[int], known: float, actions: int = 6, seed: int = 0) -> Scored:
    """A log of episodes with so many decisions each, of which a part got a reward."""
    chance = torch.Generator().manual_seed(seed)
    rows = sum(decisions)
    policy, logger = (torch.log_softmax(2 * torch.randn(rows, actions, generator=chance, dtype=D), -1) for _ in "ab")
    policy[:, -1] = policy[:, 0] - 40  # hardly ever done
    policy = torch.log_softmax(policy, -1)
    action = torch.multinomial(logger.exp(), 1, generator=chance)
    observed = torch.rand(rows, generator=chance) < known
    mean = torch.rand(actions, generator=chance, dtype=D)[action.squeeze(1)]
    reward = (torch.rand(rows, generator=chance, dtype=D) < mean).to(D)
    return Scored(
        episode=torch.repeat_interleave(torch.arange(len(decisions)), torch.tensor(decisions)),
        action=action.squeeze(1),
        reward=torch.where(observed, reward, 0.0),
        observed=observed,
        log_prob=policy.gather(-1, action).squeeze(1),
        behaviour_log_prob=logger.gather(-1, action).squeeze(1),
        log_policy=policy,
        belief=policy,
    )


def theirs(ope: Any, log: Scored, predicted: torch.Tensor) -> dict[str, float]:
    """Values per rewarded decision, as obp estimates them."""
    assert log.log_policy is not None
    seen = log.observed
    given: dict[str, Any] = {
        "reward": log.reward[seen].numpy(),
        "action": log.action[seen].numpy(),
        "position": np.zeros(int(seen.sum()), dtype=int),
        "pscore": log.behaviour_log_prob[seen].exp().numpy(),
        "action_dist": log.log_policy[seen].exp().numpy()[:, :, None],
        "estimated_rewards_by_reg_model": predicted[seen].numpy()[:, :, None],
    }
    estimators = {
        "ips": ope.InverseProbabilityWeighting(),
        "snips": ope.SelfNormalizedInverseProbabilityWeighting(),
        "dm": ope.DirectMethod(),
        "dr": ope.DoublyRobust(),
    }
    return {name: float(one.estimate_policy_value(**given)) for name, one in estimators.items()}


@pytest.mark.parametrize(("decisions", "known"), [([1] * 400, 1.0), ([1, 3, 2, 5] * 60, 0.8)], ids=["classes", "tags"])
def test_estimates_of_a_log(decisions: list[int], known: float, ope: Any) -> None:
    """``rlft ope`` gives the value of an episode: obp's of a decision times rewarded decisions per episode."""
    log = scored(decisions, known)
    ours = estimate(log, weights="decision", clip=20.0, ridge=1.0, seed=0, resamples=10).value
    right = theirs(ope, log, predicted_rewards(log, 1.0))
    per_episode = int(log.observed.sum()) / len(decisions)
    assert len({round(value, 3) for value in right.values()}) == 4, "estimates that are all the same prove nothing"
    for name, value in right.items():
        assert ours[name]["value"] == pytest.approx(value * per_episode, abs=EXACT)


def test_functions_on_any_predictions(ope: Any) -> None:
    log = scored([1] * 300, 1.0, seed=1)
    assert log.log_policy is not None
    predicted = torch.rand(300, 6, generator=torch.Generator().manual_seed(2), dtype=D)
    right = theirs(ope, log, predicted)
    ratio = importance_ratio(log.log_prob, log.behaviour_log_prob, np.inf)
    expected = direct_method(log.log_policy, predicted)
    chosen = predicted.gather(-1, log.action[:, None]).squeeze(1)
    assert float(inverse_propensity(ratio, log.reward).mean()) == pytest.approx(right["ips"], abs=EXACT)
    assert float(self_normalised(ratio, log.reward)) == pytest.approx(right["snips"], abs=EXACT)
    assert float(expected.mean()) == pytest.approx(right["dm"], abs=EXACT)
    found = float(doubly_robust(ratio, log.reward, chosen, expected).mean())
    assert found == pytest.approx(right["dr"], abs=EXACT)
    assert found != pytest.approx(right["ips"], abs=1e-3)
