"""TRL's trainers, built around a language model of one layer, and rlft's arithmetic on the same numbers.

Where the definitions are the same: RLOO's advantages with k1 in the reward, and its clipped loss over whole replies; GRPO's
advantages, scaled or not, and its clipped loss by token with k3 added; the sigmoid loss of DPO. Not the same, and not
compared: TRL's normalisation of advantages over a batch; k3 as a loss is its own, and by default multiplied by the ratio,
which is switched off here: rlft logs k3 and descends k1 in the reward or k2 (METHODS 7.1, row 13).
What is compared was written against TRL 1.16, whose steps have no public name; another version may call them otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rlft_cli.returns import action_log_prob, dpo_loss, group_relative, kl_k1, kl_k3, leave_one_out, ppo_clip_loss

pytestmark = pytest.mark.slow

WORDS = ["[PAD]", "[EOS]", "[UNK]", *"abcdefghij"]
K, BETA, CLIP = 4, 0.3, 0.2
TOLERANCE = 1e-5  # float32, and log-probabilities that each side computes for itself


@pytest.fixture(scope="module")
def trl() -> Any:
    return pytest.importorskip("trl", reason="TRL is in the extra crosscheck: pip install 'rlft[crosscheck]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of one layer and its tokenizer."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("gpt2")
    known = Tokenizer(WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    known.pre_tokenizer = Whitespace()
    names = {"pad_token": "[PAD]", "eos_token": "[EOS]", "unk_token": "[UNK]"}
    PreTrainedTokenizerFast(tokenizer_object=known, padding_side="left", **names).save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"vocab_size": len(WORDS), "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    GPT2LMHeadModel(
        GPT2Config(**sizes, **dropout, bos_token_id=1, eos_token_id=1, pad_token_id=0, initializer_range=0.5)
    ).save_pretrained(path)
    return path


def settings(kind: Any, folder: Path, tmp_path: Path, **more: Any) -> dict[str, Any]:
    from transformers import AutoTokenizer

    common = {"output_dir": str(tmp_path), "report_to": "none", "use_cpu": True, "bf16": False, "seed": 1}
    args = kind(**common, per_device_train_batch_size=2 * K, beta=BETA, **more)
    return {"model": str(folder), "args": args, "processing_class": AutoTokenizer.from_pretrained(folder)}


def paid(completions: list[str], **_: Any) -> list[float]:
    """Words of different letters, and how many: replies of a group differ."""
    return [len(set(reply.split())) + 0.1 * len(reply.split()) + 0.37 * reply.count("a") for reply in completions]


def acted(trainer: Any) -> tuple[dict[str, Tensor], Tensor]:
    """What the trainer sampled and scored, from a policy that is not the reference any more, and its rewards."""
    move(trainer.model, 0.05)
    trainer.model.train()
    seen: list[Tensor] = []
    judge = trainer._calculate_rewards
    trainer._calculate_rewards = lambda *given: seen.append(judge(*given)) or seen[-1]
    batch = trainer._generate_and_score_completions([{"prompt": p} for p in ("a b", "c d") for _ in range(K)])
    return batch, seen[0][:, 0]


def move(model: Any, size: float) -> None:
    chance = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight.data += size * torch.randn(weight.shape, generator=chance)


def log_prob(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """[B, T] of the sampled tokens, by rlft."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    seen = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    scores = model(input_ids=ids, attention_mask=seen).logits[:, batch["prompt_ids"].shape[1] - 1 : -1]
    return action_log_prob(scores, batch["completion_ids"])


def same(found: Tensor | float, right: Tensor | float) -> None:
    torch.testing.assert_close(torch.as_tensor(found), torch.as_tensor(right), rtol=TOLERANCE, atol=TOLERANCE)


def test_rloo(trl: Any, folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    given = settings(trl.RLOOConfig, folder, tmp_path, num_generations=K, max_completion_length=5, epsilon=CLIP)
    trainer = trl.RLOOTrainer(reward_funcs=paid, train_dataset=Dataset.from_dict({"prompt": ["a b", "c d"]}), **given)
    batch, reward = acted(trainer)
    mask = batch["completion_mask"].bool()
    with torch.no_grad():
        old, reference = log_prob(trainer.model, batch), log_prob(trainer.ref_model, batch)
        divergence = torch.where(mask, kl_k1(old, reference), 0.0).sum(1)
        advantage = leave_one_out(reward - BETA * divergence, K)
        assert divergence.abs().min() > 0.01 and advantage.abs().max() > 0.1, "nothing to compare"
        same(batch["advantages"], advantage)
        move(trainer.model, 0.1)
        now = torch.where(mask, log_prob(trainer.model, batch), 0.0).sum(1)
        then = torch.where(mask, old, 0.0).sum(1)
        loss = ppo_clip_loss(now, then, advantage, CLIP)
        assert ((now - then).exp() - 1).abs().max() > CLIP, "nothing is clipped"
        same(trainer.compute_loss(trainer.model, batch), loss.mean())


@pytest.mark.parametrize("scale", [True, False])
def test_grpo(scale: bool, trl: Any, folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    more = {
        "num_generations": K,
        "max_completion_length": 5,
        "epsilon": CLIP,
        "num_iterations": 2,
    }  # so that old log-probs are kept
    name = "group" if scale else "none"
    given = settings(
        trl.GRPOConfig, folder, tmp_path, scale_rewards=name, loss_type="bnpo", use_bias_correction_kl=False, **more
    )
    trainer = trl.GRPOTrainer(reward_funcs=paid, train_dataset=Dataset.from_dict({"prompt": ["a b", "c d"]}), **given)
    batch, reward = acted(trainer)
    mask = batch["completion_mask"].bool()
    with torch.no_grad():
        advantage = group_relative(reward, K, scale)
        same(batch["advantages"], advantage)
        old, reference = log_prob(trainer.model, batch), log_prob(trainer.ref_model, batch)
        move(trainer.model, 0.1)
        now = log_prob(trainer.model, batch)
        divergence = kl_k3(now, reference)
        loss = ppo_clip_loss(now, old, advantage[:, None].expand_as(now), CLIP) + BETA * divergence
        assert ((now - old).exp() - 1)[mask].abs().max() > CLIP, "nothing is clipped"
        trainer.current_gradient_accumulation_steps = 1  # the trainer's own loop sets it
        same(trainer.compute_loss(trainer.model, batch), loss[mask].mean())
        same(trainer._metrics["train"]["kl"][-1], divergence[mask].mean())


def test_dpo(trl: Any, folder: Path, tmp_path: Path) -> None:
    from datasets import Dataset

    rows = [("a b", "c d e", "f g"), ("c d", "a", "b i j h"), ("e", "j j", "a b c")]
    columns = dict(zip(("prompt", "chosen", "rejected"), map(list, zip(*rows, strict=True)), strict=True))
    given = settings(trl.DPOConfig, folder, tmp_path, max_length=16)
    trainer = trl.DPOTrainer(train_dataset=Dataset.from_dict(columns), **given)
    move(trainer.model, 0.1)
    batch = next(iter(trainer.get_train_dataloader()))
    said = batch["completion_mask"][:, 1:].bool()
    with torch.no_grad():
        (chosen, rejected), (ref_chosen, ref_rejected) = (
            torch.where(
                said,
                action_log_prob(
                    model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1],
                    batch["input_ids"][:, 1:],
                ),
                0.0,
            )
            .sum(1)
            .chunk(2)
            for model in (trainer.model, trainer.ref_model)
        )
        loss = dpo_loss(chosen, rejected, ref_chosen, ref_rejected, BETA)
        assert (loss - 0.6931).abs().min() > 1e-3, "the policy is still the reference"
        same(trainer.compute_loss(trainer.model, batch), loss.mean())
