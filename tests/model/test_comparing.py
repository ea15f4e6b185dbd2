"""The policy over pairs: each reply is read alone, padding and order change nothing, and a missing reply is worth 0."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from rlft_cli.episode import ILLEGAL_SCORE
from rlft_cli.errors import RlftError
from rlft_cli.task.preference import Preference
from toy_training import lstm, policy_of, tiny

ROWS = [
    ("glad happy fine", "glad sad", "how are you"),
    ("no", "yes of course it is", "tea"),
    ("a b c d", None, "what comes first in the alphabet"),
]
both = pytest.mark.parametrize("model", [tiny(), lstm()], ids=["llama", "lstm"])


def ready(model: Any, reads: frozenset[str] = frozenset()) -> tuple[Any, Any, list[int]]:
    rows = [
        {"turns": [{"role": "user", "content": prompt}], "chosen": first, "rejected": second, "origin": "toy:1"}
        for first, second, prompt in ROWS
    ]
    settings = Preference(context_turns=2, max_prompt_tokens=32, max_reply_tokens=8)
    texts = [text for row in ROWS for text in row if text]
    task = settings.build([], model.codec(None, texts))
    return task, policy_of(model, task, reads).eval(), task.ask(rows)


def rewards(policy: Any, task: Any, ids: list[int]) -> Any:
    with torch.no_grad():
        return policy(task.collate(ids), torch.zeros(len(ids), 1, dtype=torch.int64))


@both
def test_a_pair_is_scored_the_same_in_any_batch(model: Any) -> None:
    task, policy, ids = ready(model)
    whole = rewards(policy, task, ids).scores
    assert whole.shape == (3, 1, 2) and whole[0, 0, 0] != whole[0, 0, 1]
    for n in ids:
        assert (rewards(policy, task, [n]).scores[0] - whole[n]).abs().max() < 1e-5
    assert whole[2, 0, 1] == 0  # nothing is worth nothing


@both
def test_each_reply_is_read_after_its_own_prompt(model: Any) -> None:
    task, policy, ids = ready(model)
    batch, found = task.collate(ids), rewards(policy, task, ids).scores
    for n, reply in ((0, 0), (0, 1), (1, 0), (1, 1), (2, 0)):
        parts = ((batch["prompt_ids"], batch["prompt_mask"], n), (batch["reply_ids"], batch["reply_mask"], (n, reply)))
        text = torch.cat([tokens[place][real[place]] for tokens, real, place in parts])[None]  # one piece, no padding
        with torch.no_grad():
            read = policy.body(
                input_ids=text,
                attention_mask=torch.ones_like(text),
                position_ids=torch.arange(text.shape[1])[None],
                past_key_values=None,
                use_cache=False,
                logits_to_keep=torch.tensor([text.shape[1] - 1]),
                output_hidden_states=True,
            )
            alone = policy.reward(read.hidden_states[-1][0, -1].float())
        assert (alone - found[n, 0, reply]).abs() < 1e-5


@both
def test_the_gradient_goes_through_the_prompt(model: Any) -> None:
    task, policy, ids = ready(model)
    policy(task.collate(ids[:1]), torch.zeros(1, 1, dtype=torch.int64)).scores.sum().backward()
    table = next(weight for name, weight in policy.body.named_parameters() if "embed" in name)
    prompt = task.collate(ids[:1])["prompt_ids"][0, 0]  # first of all, and in no reply
    assert prompt not in task.collate(ids[:1])["reply_ids"] and table.grad[prompt].abs().sum() > 0


@both
def test_the_places_of_replies_do_not_matter(model: Any) -> None:
    task, policy, ids = ready(model)
    turned = {name: x.flip(1) if name.startswith("reply") else x for name, x in task.collate(ids[:2]).items()}
    with torch.no_grad():
        found = policy(turned, torch.zeros(2, 1, dtype=torch.int64)).scores
    assert (found.flip(-1) - rewards(policy, task, ids[:2]).scores).abs().max() < 1e-5


@both
def test_acting_is_scoring_and_samples_are_side_by_side(model: Any) -> None:
    task, policy, ids = ready(model)
    with torch.no_grad():
        cache = policy.begin(task.collate(ids), 2)
        acted, _ = policy.step(cache, task.reset(task.collate(ids), 2))
        known = policy(task.collate(ids), torch.zeros(6, 1, dtype=torch.int64))
    assert torch.equal(acted.scores, known.scores[:, 0]) and torch.equal(acted.scores[0], acted.scores[1])


@both
def test_rewards_after_each_token(model: Any) -> None:
    task, policy, ids = ready(model, frozenset({"tokens"}))
    output = rewards(policy, task, ids)
    mask, heads = task.collate(ids)["reply_mask"], output.heads  # [3, 1, 2, R]
    counted = heads[:, 0, 0] != ILLEGAL_SCORE
    # "glad happy fine" and "glad sad" part at the second token and end with eos: tokens 1 to 3 of 4
    first = int(mask[0].sum(1).max())
    assert counted[0].tolist() == [False] + [True] * (first - 1) + [False] * (mask.shape[-1] - first)
    for n in range(3):
        for reply in range(2):
            size = int(mask[n, reply].sum())
            held = heads[n, 0, reply, max(0, size - 1) :][counted[n, max(0, size - 1) :]]
            assert torch.equal(held, output.scores[n, 0, reply].expand_as(held))  # the last one is held
    assert counted[2].sum() == mask[2, 0].sum() and (heads[2, 0, 1][counted[2]] == 0).all()


def test_a_body_that_keeps_no_cache_is_refused_and_not_misread() -> None:
    task, policy, ids = ready(tiny())
    policy.body.activation_checkpointing_enable()
    policy.train()
    with pytest.raises(RlftError, match="kept no cache"):
        rewards(policy, task, ids)


def test_there_is_nothing_to_search() -> None:
    task, policy, ids = ready(tiny())
    with pytest.raises(RlftError, match="no table of scores"):
        policy.table(policy.begin(task.collate(ids), 1))
