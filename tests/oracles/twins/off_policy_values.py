from __future__ import annotations

from rlft_cli.returns import banditnet_loss, self_normalised


def ips_mean(ratio, reward):
    return (ratio * reward).mean()


TWINS = {
    "ips": [lambda ratio, reward: reward, lambda ratio, reward: ratio.clamp(max=1.0) * reward],
    "direct_method": [lambda policy, predicted: predicted.mean(-1), lambda policy, predicted: predicted.amax(-1)],
    "doubly_robust": [
        lambda ratio, reward, predicted, expected: expected,
        lambda ratio, reward, predicted, expected: ratio * reward,
        lambda ratio, reward, predicted, expected: expected + ratio * reward,
    ],
    "doubly_robust_variance": [
        lambda ratio, reward, predicted, expected: expected + 3 * ratio * (reward - predicted),
        lambda ratio, reward, predicted, expected: ratio * (2 * reward + predicted),
    ],
    "snips_bias": [ips_mean],
    "snips_shift": [ips_mean],
    "banditnet": [
        lambda ratio, reward, translation: banditnet_loss(ratio, reward, 0.0),
        lambda ratio, reward, translation: -banditnet_loss(ratio, reward, translation),
        lambda ratio, reward, translation: -(self_normalised(ratio, reward) * ratio),
    ],
}
