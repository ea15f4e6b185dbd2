"""How far a policy that writes has gone from the reference that training holds it to, and what its samples are worth."""

from __future__ import annotations

from dataclasses import replace

from rlft_cli.commands.train_state import Run
from rlft_cli.decode.sample import Sample
from rlft_cli.metrics.bootstrap import Interval
from rlft_cli.training import Training

MOST_REPLIES = 100  # of dev; sampling takes as long as evaluating greedily
POLICY = Sample(temperature=1.0, top_k=0, top_p=1.0, seed=1)  # as it is


def against_reference(this: Run, training: Training) -> dict[str, Interval]:
    """Of replies drawn to dev prompts: "kl" to the reference in nats a reply, "sampled_reward", "sampled_<metric>".

    Empty where there is no reference, or where decisions are not tokens.
    """
    task, reference = this.setup.task, training.reference
    if reference is None or task.decisions != "tokens":
        return {}
    evaluator = replace(this.setup.evaluator(this.config.evaluation), decode=POLICY)
    ids = this.setup.ids["dev"][:MOST_REPLIES]
    found = evaluator.evaluate(this.setup.policy, ids, this.reward, likelihood=False)
    kl = evaluator.divergence(this.setup.policy, reference, ids, found.actions)
    told = [name for name in ("reward", task.primary) if name in found.metrics]  # a likelihood is none of samples
    sampled = {f"sampled_{name}": found.metrics[name] for name in told}
    return {"kl": kl, **sampled}
