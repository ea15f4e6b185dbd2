"""Pure arithmetic on decisions: log-probabilities, returns, targets, advantages, estimators, losses. Imports torch alone.

Shapes: N episodes, T decisions, A actions. ``mask`` [N, T] bool says that a decision exists; ``discount`` [N, T] is 0 at
the last decision of an episode and 1 before it. Illegal actions hold a large finite negative score.
"""

from rlft_cli.returns.advantages import (
    clipped_value_loss,
    generalized_advantage,
    group_relative,
    leave_one_out,
    leave_one_out_break_even,
    mixed_objective,
    ppo_clip_loss,
    spread_in_groups,
    whiten,
)
from rlft_cli.returns.distributional import (
    categorical_loss,
    categorical_mean,
    categorical_projection,
    chosen_heads,
    quantile_huber,
)
from rlft_cli.returns.divergence import kl_k1, kl_k2, kl_k3
from rlft_cli.returns.logged import IlqlLosses, cql_penalty, expectile_loss, ilql_losses
from rlft_cli.returns.off_policy import (
    banditnet_loss,
    direct_method,
    doubly_robust,
    effective_sample_size,
    importance_ratio,
    inverse_propensity,
    self_normalised,
)
from rlft_cli.returns.preference import bradley_terry_loss, dpo_loss
from rlft_cli.returns.rewards import denoised_reward, imbalance_reward, imbalance_scale, imbalance_threshold
from rlft_cli.returns.scores import action_log_prob, entropy, upper_bound
from rlft_cli.returns.values import (
    LossKind,
    double_backup,
    dueling,
    max_backup,
    munchausen_reward,
    n_step_parts,
    n_step_targets,
    polyak,
    q_loss,
    returns_to_go,
    shift_held,
    shift_left,
    soft_backup,
    soft_kl_log_policy,
    soft_kl_value,
)
from rlft_cli.returns.weights import importance_weights, priority_probabilities

__all__ = [
    "IlqlLosses",
    "LossKind",
    "action_log_prob",
    "banditnet_loss",
    "bradley_terry_loss",
    "categorical_loss",
    "categorical_mean",
    "categorical_projection",
    "chosen_heads",
    "clipped_value_loss",
    "cql_penalty",
    "denoised_reward",
    "direct_method",
    "double_backup",
    "doubly_robust",
    "dpo_loss",
    "dueling",
    "effective_sample_size",
    "entropy",
    "expectile_loss",
    "generalized_advantage",
    "group_relative",
    "ilql_losses",
    "imbalance_reward",
    "imbalance_scale",
    "imbalance_threshold",
    "importance_ratio",
    "importance_weights",
    "inverse_propensity",
    "kl_k1",
    "kl_k2",
    "kl_k3",
    "leave_one_out",
    "leave_one_out_break_even",
    "max_backup",
    "mixed_objective",
    "munchausen_reward",
    "n_step_parts",
    "n_step_targets",
    "polyak",
    "ppo_clip_loss",
    "priority_probabilities",
    "q_loss",
    "quantile_huber",
    "returns_to_go",
    "self_normalised",
    "shift_held",
    "shift_left",
    "soft_backup",
    "soft_kl_log_policy",
    "soft_kl_value",
    "spread_in_groups",
    "upper_bound",
    "whiten",
]
