from __future__ import annotations

import torch

from rlft_cli.returns import generalized_advantage, ppo_clip_loss


def trace_ignored(reward, value, discount, mask, gamma, trace):
    return generalized_advantage(reward, value, discount, mask, gamma, 0.95)


def last_dropped(reward, value, discount, mask, gamma, trace):
    return generalized_advantage(torch.where(discount == 0, 0.0, reward), value, discount, mask, gamma, trace)


def mask_forgotten(reward, value, discount, mask, gamma, trace):
    return generalized_advantage(reward, value, discount, torch.ones_like(mask), gamma, trace)


def unclipped(log_prob, old, advantage, clip_range):
    return -(log_prob - old).exp() * advantage


def optimistic(log_prob, old, advantage, clip_range):
    ratio = (log_prob - old).exp()
    return -torch.maximum(ratio * advantage, ratio.clamp(1 - clip_range, 1 + clip_range) * advantage)


TWINS = {
    "gae": [trace_ignored, last_dropped, mask_forgotten],
    "ppo_first_update": [
        lambda log_prob, old, advantage, clip_range: ppo_clip_loss(old, log_prob, advantage, clip_range),
        lambda log_prob, old, advantage, clip_range: 0.5 * unclipped(log_prob, old, advantage, clip_range),
    ],
    "ppo_clip": [unclipped, optimistic],
}
