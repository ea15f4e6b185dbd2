from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from oracle_mutants import Changed, last_reward_dropped, mask_forgotten, times
from rlft_cli.episode import Trajectory
from rlft_cli.oracles.toys.tagging import REINFORCE
from rlft_cli.reward.f1_delta import potentials


def own_baseline(trajectory: Trajectory) -> Trajectory:
    """A baseline that depends on the action."""
    own = torch.where(trajectory.reward.sum(1, keepdim=True) > 0.5, trajectory.reward.sum(1, keepdim=True), 0.0)
    return replace(trajectory, advantage=trajectory.advantage - own)


def own_greedy(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, greedy_reward=trajectory.reward**2)


def paid_by_first_tag(trajectory: Trajectory) -> Trajectory:
    return replace(trajectory, reward=trajectory.reward * (trajectory.action[:, :1] == 0))


EPISODE = replace(REINFORCE, credit="episode")
LEAVE_ONE_OUT = replace(REINFORCE, samples=2, baseline="leave_one_out")

TWINS = {
    "reinforce": [
        (REINFORCE, Changed(EPISODE, before=last_reward_dropped)),
        (Changed(REINFORCE, before=last_reward_dropped), EPISODE),
        (Changed(REINFORCE, scored=mask_forgotten), EPISODE),
        (replace(REINFORCE, gamma=0.5), EPISODE),
    ],
    "reinforce_moving_average": [Changed(replace(REINFORCE, baseline="moving_average"), after=own_baseline)],
    "reinforce_self_critical": [Changed(replace(REINFORCE, baseline="self_critical"), before=own_greedy)],
    "reinforce_leave_one_out": [
        Changed(LEAVE_ONE_OUT, after=times(0.5)),  # a mean that holds the sample itself
        Changed(LEAVE_ONE_OUT, before=last_reward_dropped),
        Changed(LEAVE_ONE_OUT, scored=mask_forgotten),
    ],
    "return_to_go": [replace(REINFORCE, gamma=0.0), Changed(REINFORCE, before=last_reward_dropped)],
    "f1_delta_telescopes": [
        lambda tags, gold: np.append(potentials(tags, gold)[:-1], potentials(tags, gold)[-2]),
        lambda tags, gold: 0.9 * potentials(tags, gold),
    ],
    "f1_delta": [replace(REINFORCE, gamma=0.0)],
    "zero_one": [Changed(REINFORCE, before=last_reward_dropped), Changed(REINFORCE, after=times(0.5))],
    "entropy": [
        lambda scores: 1 - (torch.softmax(scores, -1) ** 2).sum(-1),
        lambda scores: -torch.log_softmax(scores, -1).clamp(min=-30).mean(-1),  # all actions alike
    ],
    "entropy_bonus": [
        replace(REINFORCE, entropy_coefficient=0.2),
        Changed(replace(REINFORCE, entropy_coefficient=0.3), scored=mask_forgotten),
    ],
    "constant_reward": [Changed(REINFORCE, before=paid_by_first_tag)],
}
