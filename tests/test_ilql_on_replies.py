"""Implicit Q-learning on logged replies: Q heads over the vocabulary, and a policy that prefers what was paid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rlft_cli.feedback.logged import Logged
from rlft_cli.learner import learn
from rlft_cli.ring import DECISION
from toy_training import bind, dialogue_rows, ilql, optim, policy_of, tiny, training

READS = frozenset({"heads:2", "value"})


def test_heads_are_numbers_of_every_token() -> None:
    task = bind(dialogue_rows(6), tiny())
    policy: Any = policy_of(tiny(), task, READS).eval()
    action, _ = task.demonstration([0, 1])
    with torch.no_grad():
        output = policy(task.collate([0, 1]), action)
        cache = policy.begin(task.collate([0, 1]), 1)
        acted, _ = policy.step(cache, task.reset(task.collate([0, 1]), 1))
    assert output.heads.shape == (*output.scores.shape, 2) and output.value.shape == action.shape
    assert output.heads[..., 0].std() > 0 and not torch.equal(output.heads[..., 0], output.heads[..., 1])
    assert acted.heads is None  # acting reads the policy alone
    assert (acted.scores - output.scores[:, 0]).abs().max() < 1e-5


def test_it_prefers_what_was_paid_to_what_was_logged_as_often() -> None:
    turns = [{"role": "user", "content": "the"}]
    rows = [
        {"turns": [*turns, {"role": "assistant", "content": text}], "origin": f"toy:{n + 1}"}
        for n, text in enumerate(["Anna walks", "Omar sees"] * 16)
    ]
    task = bind(rows, tiny())
    action, mask = task.demonstration([0, 1])
    log = {}
    for n in range(32):
        decisions = np.zeros(int(mask[n % 2].sum()), DECISION)
        decisions["action"] = action[n % 2][mask[n % 2]]
        decisions["observed"], decisions["reward"][-1] = True, 1.0 - n % 2  # the first of the two is paid
        log[n] = decisions
    algorithm = ilql(gamma=1.0, advantage_weight=4.0, target_weights="head", target_tau=0.5)
    policy: Any = policy_of(tiny(), task, algorithm.reads)
    made = training(
        policy, task, algorithm, ids=list(range(32)), log=log, feedback=Logged(log="log.jsonl"),
        optim=optim(lr=1e-2, head_lr=1e-2, batch_tokens=1000), passes=12.0,
    )  # fmt: skip
    for progress in learn(made):
        assert progress.signals["loss"] == progress.signals["loss"]
    with torch.no_grad():
        chance = policy.eval()(task.collate([0, 1]), action).scores[:, 0].log_softmax(-1)
        value = policy(task.collate([0, 1]), action).value
    paid, unpaid = (float(chance[n, action[n, 0]]) for n in (0, 1))
    assert paid > unpaid + 0.5  # imitation alone would give both the same
    assert value[0, 1] > value[1, 1] + 0.3  # after the first word it is known what comes
