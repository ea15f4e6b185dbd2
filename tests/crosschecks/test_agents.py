"""Agents of stable-baselines3 on the Gymnasium view, and those of rlft on the task: the same optimum, which is enumerated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from crosschecks.tag_chain import ROWS, ChainReward, myopic, optimum
from rlft_cli.episode import rollout
from rlft_cli.explore.epsilon_greedy import EpsilonGreedy
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.sample import Sample
from rlft_cli.learner import learn
from rlft_cli.oracles.toys.chain import TAGS
from toy_training import bind, dqn, optim, policy_of, ppo, reinforce, tiny, training

pytestmark = pytest.mark.slow

COPIES = 8  # of each sentence, so that a batch holds both
Choice = tuple[list[list[int]], list[float]]  # greedy tags of each sentence, and the best score before its first word


def environment() -> Any:
    pytest.importorskip("gymnasium", reason="Gymnasium is in the extra gym: pip install 'rlft[gym]'")
    from rlft_cli.environment import TaggingEnvironment

    return TaggingEnvironment(ROWS, labels=TAGS, reward=ChainReward())


def earned(tags: list[list[int]]) -> list[float]:
    """What the environment pays for the tags of each sentence, its own repair of illegal ones included."""
    made, found = environment(), []
    for number, actions in enumerate(tags):
        made.reset(options={"sentence": number})
        found.append(sum(made.step(action)[1] for action in actions))
    return found


# -- stable-baselines3 ---------------------------------------------------------------------------------------------


def followed(agent: Any) -> list[list[int]]:
    made, tags = environment(), []
    for number in range(len(ROWS)):
        observation, _ = made.reset(options={"sentence": number})
        chosen: list[int] = []
        for _ in ROWS[number]["words"]:
            chosen.append(int(agent.predict(observation, deterministic=True)[0]))
            observation = made.step(chosen[-1])[0]
        tags.append(chosen)
    return tags


def their_dqn(sb3: Any) -> Choice:
    agent = sb3.DQN(
        "MultiInputPolicy",
        environment(),
        gamma=1.0,
        learning_rate=5e-3,
        learning_starts=200,
        batch_size=64,
        train_freq=2,
        target_update_interval=100,
        exploration_fraction=0.8,
        exploration_final_eps=0.2,
        buffer_size=5000,
        policy_kwargs={"net_arch": [64]},
        seed=0,
        device="cpu",
    ).learn(2500)
    made, best = environment(), []
    for number in range(len(ROWS)):
        observation, _ = made.reset(options={"sentence": number})
        with torch.no_grad():
            best.append(float(agent.q_net(agent.policy.obs_to_tensor(observation)[0]).max()))
    return followed(agent), best


def their_ppo(sb3: Any) -> Choice:
    agent = sb3.PPO(
        "MultiInputPolicy",
        environment(),
        gamma=1.0,
        learning_rate=3e-3,
        n_steps=256,
        batch_size=64,
        n_epochs=8,
        ent_coef=0.02,
        policy_kwargs={"net_arch": [64]},
        seed=0,
        device="cpu",
    ).learn(4096)
    return followed(agent), []


@pytest.mark.parametrize("train", [their_dqn, their_ppo])
def test_agents_of_stable_baselines3(train: Callable[[Any], Choice]) -> None:
    sb3 = pytest.importorskip(
        "stable_baselines3", reason="stable-baselines3 is in the extra crosscheck: pip install 'rlft[crosscheck]'"
    )
    same_optimum(*train(sb3))


# -- rlft ----------------------------------------------------------------------------------------------------------


def ours(algorithm: Any, explore: Any, passes: float) -> Choice:
    """``learn()`` as the command line runs it, on a transformer of one layer."""
    model = tiny()
    task = bind([dict(row) for row in ROWS for _ in range(COPIES)], model, labels=TAGS)
    policy: Any = policy_of(model, task, algorithm.reads)
    settings = optim(lr=1e-2, head_lr=1e-2, weight_decay=0.0, schedule="linear")
    parts = {"reward": ChainReward(), "explore": explore, "passes": passes, "optim": settings, "seed": 0}
    for _ in learn(training(policy, task, algorithm, count=len(ROWS) * COPIES, **parts)):
        pass
    policy.eval()
    observation = task.collate([0, COPIES])
    with torch.no_grad():
        greedy = rollout(
            policy,
            task,
            observation,
            Greedy(split_ties=False),
            samples=1,
            progress=1.0,
            generator=torch.Generator(),
            values=algorithm.values,
        )
        best = policy(observation, greedy.action).scores[:, 0].amax(-1).tolist()
    tags = [row[: int(n)] for row, n in zip(greedy.action.tolist(), greedy.mask.sum(1), strict=True)]
    return tags, [] if algorithm.on_policy else best


def test_dqn_of_rlft() -> None:
    algorithm = dqn(gamma=1.0, loss_kind="mse", target="hard", target_update_interval=20)
    explore = EpsilonGreedy(start=1.0, end=0.2, decay_fraction=0.8, schedule="linear")
    same_optimum(*ours(algorithm, explore, 300))


@pytest.mark.parametrize(
    ("algorithm", "passes"),
    [
        (ppo(gamma=1.0, samples=4, epochs=4, entropy_coefficient=0.05), 100),
        (reinforce(gamma=1.0, samples=4, entropy_coefficient=0.05), 150),
    ],
    ids=["ppo", "reinforce"],
)
def test_policy_gradients_of_rlft(algorithm: Any, passes: float) -> None:
    same_optimum(*ours(algorithm, Sample(temperature=1.0, top_k=0, top_p=1.0), passes))


# -- the optimum ---------------------------------------------------------------------------------------------------


def same_optimum(tags: list[list[int]], best: list[float]) -> None:
    """Greedy tags earn the optimum of each sentence exactly; values before the first word, where there are such, nearly."""
    assert earned(tags) == pytest.approx(optimum(), abs=1e-5)
    if best:
        assert best == pytest.approx(optimum(), abs=0.05)


def test_the_optimum_takes_foresight() -> None:
    assert sum(optimum()) - sum(myopic()) > 0.5
