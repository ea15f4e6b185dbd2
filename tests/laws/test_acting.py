"""Laws 1 and 8: acting is learning, and the loss reads the distribution that was sampled from."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.episode import demonstrate, legal_actions, rollout
from rlft_cli.explore.dropout_thompson import DropoutThompson
from rlft_cli.explore.noisy import Noisy
from rlft_cli.explore.sample import Sample
from rlft_cli.learner import learn
from rlft_cli.returns import action_log_prob
from toy_training import (
    Seen,
    bind,
    class_rows,
    dialogue_rows,
    grpo,
    lstm,
    policy_of,
    ppo,
    reinforce,
    tagged_rows,
    tiny,
    training,
)

MODELS = {"bert": tiny, "lstm": lstm}
ROWS = {"tags": tagged_rows, "classes": class_rows}
READS = {
    "plain": frozenset[str](),
    "dueling": frozenset({"dueling", "value"}),
    "heads": frozenset({"heads:2", "value"}),
    "quantiles": frozenset({"quantiles:3"}),
    "atoms": frozenset({"atoms:5:-1.0:2.0"}),
}
TOLERANCE = 1e-5  # float32, other shapes of the same matrix products


def problem(model: str, decisions: str, reads: frozenset[str] = frozenset(), window: int = 64) -> tuple[Any, Any]:
    rows: Any = ROWS[decisions](12, seed=3)
    made: Any = MODELS[model]()
    task = bind(rows, made, window)
    policy = policy_of(made, task, reads)
    for weight in policy.parameters():  # away from the start, where scores are near 0
        weight.data += 0.3 * torch.randn_like(weight)
    return task, policy.eval()


@torch.no_grad()
def acted(task: Any, policy: Any, ids: list[int], action: Tensor, samples: int, drawn: Any = None) -> Tensor:
    """Scores [N, T, A] of ``step`` along known actions."""
    observation = task.collate(ids) | (drawn or {})
    state, cache = task.reset(observation, samples), policy.begin(observation, samples)
    scores = []
    for t in range(action.shape[1]):
        now, cache = policy.step(cache, state)
        scores.append(now.scores)
        state = task.step(state, action[:, t])
    return torch.stack(scores, 1)


@torch.no_grad()
def learned(task: Any, policy: Any, ids: list[int], action: Tensor) -> Tensor:
    scores: Tensor = policy(task.collate(ids), action).scores
    return scores


def random_walk(task: Any, policy: Any, ids: list[int], samples: int) -> Any:
    return rollout(
        policy,
        task,
        task.collate(ids),
        Sample(temperature=1.0, top_k=0, top_p=1.0),
        samples=samples,
        progress=0.0,
        generator=torch.Generator().manual_seed(5),
        values=lambda scores: scores,
    )


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("reads", READS.values(), ids=READS)
@pytest.mark.parametrize("decisions", ROWS)
@pytest.mark.parametrize("model", MODELS)
def test_steps_are_the_forward_pass(model: str, decisions: str, reads: frozenset[str], samples: int) -> None:
    task, policy = problem(model, decisions, reads)
    walk = random_walk(task, policy, list(range(12)), samples)
    stepped = acted(task, policy, list(range(12)), walk.action, samples)
    passed = learned(task, policy, list(range(12)), walk.action)
    legal = legal_actions(passed)[walk.mask]
    assert torch.equal(legal_actions(stepped)[walk.mask], legal)
    assert (stepped - passed)[walk.mask].abs().max() < TOLERANCE
    assert (passed[walk.mask][:, legal.all(0)].std(0) > 1e-3).all(), (
        "scores that do not depend on the input would agree anyway"
    )


@pytest.mark.parametrize("samples", [1, 4])
@pytest.mark.parametrize("decisions", ROWS)
@pytest.mark.parametrize("model", MODELS)
def test_neither_padding_nor_company_nor_order_matters(model: str, decisions: str, samples: int) -> None:
    task, policy = problem(model, decisions)
    walk = random_walk(task, policy, list(range(12)), samples)
    together = learned(task, policy, list(range(12)), walk.action)
    order = [7, 0, 11, 3, 9, 1]
    rows = torch.tensor([i * samples + k for i in order for k in range(samples)])
    shuffled = learned(task, policy, order, walk.action[rows])
    assert (shuffled - together[rows])[walk.mask[rows]].abs().max() < TOLERANCE
    for i in (0, 5):
        mine = slice(i * samples, (i + 1) * samples)
        width = int(walk.mask[mine].sum(1).max())
        alone = learned(task, policy, [i], walk.action[mine, :width])  # nothing is padded
        assert (alone - together[mine, :width])[walk.mask[mine, :width]].abs().max() < TOLERANCE


@pytest.mark.parametrize("explore", [DropoutThompson(p=0.3), Noisy(sigma_start=0.5)], ids=["dropout", "noise"])
@pytest.mark.parametrize("decisions", ROWS)
def test_what_is_drawn_for_an_episode_holds_for_all_of_it(decisions: str, explore: Any) -> None:
    """Steps and forward pass agree under the same draw; each episode has its own; without one the policy is the mean."""
    task, policy = problem("bert", decisions, frozenset({"noise", "dueling"}))
    ids = list(range(12))
    walk = random_walk(task, policy, ids, 2)
    drawn = explore.perturb(24, policy.width, policy.actions, torch.Generator().manual_seed(1))
    stepped = acted(task, policy, ids, walk.action, 2, drawn)
    with torch.no_grad():
        passed = policy(task.collate(ids) | drawn, walk.action).scores
    plain = learned(task, policy, ids, walk.action)
    assert (stepped - passed)[walk.mask].abs().max() < TOLERANCE
    assert ((passed - plain).abs().amax((1, 2)) > 1e-3).all()
    same = torch.zeros_like(walk.action)
    with torch.no_grad():
        first = policy(task.collate(ids) | drawn, same).scores[:, 0]
    assert ((first[0::2] - first[1::2]).abs().amax(1) > 1e-3).all(), "two episodes of one example differ in their draw"


@pytest.mark.parametrize("decisions", ROWS)
def test_the_table_holds_the_score_of_every_step(decisions: str) -> None:
    task, policy = problem("lstm", decisions)
    ids = list(range(12))
    walk = random_walk(task, policy, ids, 2)
    with torch.no_grad():
        table = policy.table(policy.begin(task.collate(ids), 2))
    start = torch.full_like(walk.action[:, :1], table.shape[2] - 1)
    previous = torch.cat([start, walk.action[:, :-1]], 1)
    found = table.gather(2, previous[:, :, None, None].expand(-1, -1, 1, table.shape[3])).squeeze(2)
    assert (found - learned(task, policy, ids, walk.action))[walk.mask].abs().max() < TOLERANCE


@pytest.mark.parametrize("decisions", ROWS)
def test_windows_of_several_sentences_do_not_mix(decisions: str) -> None:
    task, policy = problem("bert", decisions, window=8)
    assert max(task.cost(list(range(12)))) > 8, "some input must need more than one window"
    walk = random_walk(task, policy, list(range(12)), 2)
    together = learned(task, policy, list(range(12)), walk.action)
    longest = max(range(12), key=lambda i: task.cost([i])[0])
    mine = slice(2 * longest, 2 * longest + 2)
    width = int(walk.mask[mine].sum(1).max())
    alone = learned(task, policy, [longest], walk.action[mine, :width])
    assert (alone - together[mine, :width])[walk.mask[mine, :width]].abs().max() < TOLERANCE


@pytest.mark.parametrize("model", MODELS)
def test_the_previous_tag_is_part_of_the_state(model: str) -> None:
    """Another history gives other scores and, by BIO, other legal tags; else law 1 would be easy to keep."""
    task, policy = problem(model, "tags")
    longest = max(range(12), key=lambda i: len(task.references([i])[0]))
    known = demonstrate(task, task.collate([longest]))
    other = known.action.clone()
    other[:, 0] = (other[:, 0] + 1) % len(task.labels)
    one, two = (learned(task, policy, [longest], action) for action in (known.action, other))
    assert torch.equal(one[:, 0], two[:, 0])
    assert not torch.equal(one[:, 1], two[:, 1])


# -- law 8 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(0.7, 0, 1.0), (1.6, 0, 1.0), (1.0, 3, 1.0), (1.3, 0, 0.7)]
)
@pytest.mark.parametrize("rows", [tagged_rows, class_rows, dialogue_rows], ids=["tags", "classes", "tokens"])
def test_the_loss_reads_the_distribution_that_was_sampled_from(
    rows: Any, temperature: float, top_k: int, top_p: float
) -> None:
    """On the first update the ratio pi / mu of every decision is 1, temperature, truncation and legality mask included."""
    model = tiny(dropout=0.3)
    task = bind(rows(12), model)
    policy = policy_of(model, task)
    for weight in policy.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    seen = Seen(inner=reinforce(samples=2))
    made = training(
        policy,
        task,
        seen,
        count=12,
        explore=Sample(temperature=temperature, top_k=top_k, top_p=top_p),
        reward=_Nothing(),
    )
    next(learn(made))
    (output,), (batch,) = seen.outputs, seen.batches
    log_ratio = action_log_prob(output.scores, batch.action) - batch.log_prob
    assert log_ratio[batch.mask].abs().max() < TOLERANCE
    assert batch.log_prob[batch.mask].mean() < -0.05, "decisions that are certain would show nothing"
    if task.decisions == "tags":
        assert (~legal_actions(output.scores)[batch.mask]).any(), "BIO forbids I- at the start"


@pytest.mark.parametrize("rows", [tagged_rows, class_rows, dialogue_rows], ids=["tags", "classes", "tokens"])
@pytest.mark.parametrize("make", [ppo, grpo])
def test_the_first_epoch_is_on_policy_and_the_second_is_not(make: Any, rows: Any) -> None:
    """On the first epoch the ratio is 1 and the value is the one foreseen while acting; then the policy has moved."""
    model = tiny(dropout=0.3)
    task = bind(rows(12), model)
    seen = Seen(inner=make(samples=2, epochs=2, entropy_coefficient=1.0))
    policy = policy_of(model, task, seen.reads)
    for weight in policy.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    explore = Sample(temperature=0.7, top_k=0, top_p=1.0)
    made = training(policy, task, seen, count=12, explore=explore, reward=_Nothing())
    signals = next(learn(made)).signals
    (first, second), (batch, again) = seen.outputs, seen.batches
    mask = batch.mask
    ratios = [(action_log_prob(output.scores, batch.action) - batch.log_prob)[mask] for output in (first, second)]
    assert ratios[0].abs().max() < TOLERANCE and ratios[1].abs().max() > 1e-3
    assert batch is again, "prepared once for both"
    assert signals["approx_kl"] > 1e-7
    if "value" in seen.reads:
        assert first.value is not None and batch.value[mask].std() > 1e-3
        assert (first.value - batch.value)[mask].abs().max() < TOLERANCE


class _Nothing:
    decisions = ("tags", "classes", "tokens")

    def __call__(self, action: Tensor, mask: Tensor, batch: Any) -> Tensor:
        return torch.zeros(action.shape)
