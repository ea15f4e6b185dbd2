from __future__ import annotations

from rlft_cli.returns import denoised_reward, imbalance_reward, imbalance_threshold

TWINS = {
    "denoised_reward": [
        lambda reward, false_positive, false_negative: denoised_reward(reward, false_negative, false_positive),
        lambda reward, false_positive, false_negative: reward,
    ],
    "denoised_likelihood": [
        lambda reward, false_positive, false_negative: denoised_reward(reward, false_negative, false_positive),
        lambda reward, false_positive, false_negative: reward,
        lambda reward, *rates: denoised_reward(reward, *rates).clamp(0, 1),  # kept within [0, 1], and biased
    ],
    "dqnimb_threshold": [
        lambda ratio, gamma, value: imbalance_threshold(ratio, 0.0, value),
        lambda ratio, gamma, value: 0.5,
    ],
    "dqnimb_reward": [
        lambda right, minority, ratio: imbalance_reward(right, ~minority, ratio),
        lambda right, minority, ratio: imbalance_reward(right, minority, 1.0),
    ],
}
