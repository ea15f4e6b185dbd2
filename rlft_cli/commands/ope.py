"""rlft ope: the value of a checkpoint from the log of another policy, without letting it act."""

from __future__ import annotations

from omegaconf import DictConfig

from rlft_cli import artifact, durable, pipeline
from rlft_cli.console import Console
from rlft_cli.errors import UsageError
from rlft_cli.offline import Estimates, estimate, require_chances, score_log, weights_of

NAMES = {
    "logged": "logging policy itself",
    "dm": "direct method",
    "ips": "IPS",
    "clipped_ips": "clipped IPS",
    "snips": "SNIPS",
    "dr": "doubly robust",
}


def run(config: DictConfig, console: Console) -> None:
    """Estimate, print, and write to ``output`` where it is given."""
    output = artifact.new_file("output", config.output)
    setup = pipeline.checkpoint_setup(config.policy, config.hardware, config.seed)
    log = pipeline.log_for(setup.task, config.log)
    require_chances(log)
    most = config.evaluation.max_examples
    del log.episodes[most if most is not None else len(log.episodes) :]
    ids = setup.task.ask([episode.row for episode in log.episodes])
    scored = score_log(
        setup.policy,
        setup.task,
        log,
        ids,
        setup.evaluator(config.evaluation).batches(ids),
        values=pipeline.build(setup.config.algo).values,
        temperature=config.temperature,
        autocast=setup.accelerator.autocast,
        device=setup.accelerator.device,
    )
    if not bool(scored.observed.any()):
        raise UsageError(f"log={config.log} holds no reward: nobody reacted to any of its episodes")
    weights = weights_of(log) if config.weights == "auto" else config.weights
    found = estimate(
        scored,
        weights=weights,
        clip=config.clip,
        ridge=config.ridge,
        seed=config.seed,
        resamples=config.evaluation.bootstrap,
    )
    _show(console, found, weights, config)
    if output is not None:
        durable.write_json(output, _content(config, found, weights, len(log.episodes)))


def _show(console: Console, found: Estimates, weights: str, config: DictConfig) -> None:
    rows = [
        (name, text, m["value"], m["low"], m["high"]) for name, text in NAMES.items() if (m := found.value.get(name))
    ]
    columns = ("estimator", "is", "value", "low", "high")
    console.table("reward per episode (95 % bootstrap intervals over episodes)", columns, rows)
    mean = found.mean_weight
    console.line(
        f"{found.rows} {weights}s, weighted as {found.effective_rows:.1f} (effective sample size); mean weight "
        f"{mean['value']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}], {found.clip_rate:.1%} above {config.clip:g}",
        rows=found.rows,
        weights=weights,
        effective_rows=round(found.effective_rows, 2),
        mean_weight=mean["value"],
        clip_rate=found.clip_rate,
        supported=found.supported,
        reward_model_r2=found.reward_model_r2,
    )
    if not found.supported:
        console.warn(
            f"the mean weight is below 1: about {1 - mean['value']:.0%} of what this policy would do is not in the log, and "
            "ips counts it as 0; snips and dr guess"
        )
    if found.reward_model_r2 is not None and found.reward_model_r2 < 0:
        console.warn(
            "the reward model predicts held-out rewards worse than their mean: do not trust dm, prefer snips to dr"
        )


def _content(config: DictConfig, found: Estimates, weights: str, episodes: int) -> dict[str, object]:
    return {
        "log": str(config.log),
        "policy": str(config.policy),
        "temperature": config.temperature,
        "episodes": episodes,
        "weights": weights,
        "rows": found.rows,
        "value": found.value,
        "effective_rows": found.effective_rows,
        "clip": config.clip,
        "clip_rate": found.clip_rate,
        "mean_weight": found.mean_weight,
        "supported": found.supported,
        "reward_model_r2": found.reward_model_r2,
        "versions": artifact.versions(),
    }
