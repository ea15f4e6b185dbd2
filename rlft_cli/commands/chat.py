"""rlft chat: talk to a dialogue checkpoint in the terminal."""

from __future__ import annotations

import torch
from omegaconf import DictConfig

from rlft_cli import pipeline
from rlft_cli.algo.dqn import Dqn
from rlft_cli.console import Cell, Console
from rlft_cli.conversation import Conversation, require_no_reference
from rlft_cli.errors import UsageError
from rlft_cli.explore import Explore
from rlft_cli.explore.greedy import Greedy
from rlft_cli.explore.sample import Sample
from rlft_cli.reward import Reward
from rlft_cli.suggest import did_you_mean
from rlft_cli.task.replies import ReplyTask

COMMANDS = {
    "/reset": "forget the conversation and begin anew",
    "/why": "the tokens of the last reply: their probabilities, and values and reward where there are such",
    "/help": "this list",
    "/quit": "leave; so do Ctrl-D, and Ctrl-C where no reply is being written (there it stops the reply)",
}


def run(config: DictConfig, console: Console) -> None:
    """Answer line by line until the user leaves or the input ends."""
    setup = pipeline.checkpoint_setup(config.checkpoint, config.hardware, config.seed)
    conversation = _conversation(config, setup)
    reward: Reward | None = None
    if config.reward is not None:
        reward = pipeline.given_reward(config.reward, setup)
        require_no_reference(reward, conversation.task)
    tells_q = _tells_q(setup)
    console.line(f"talking to {config.checkpoint}; /help lists what can be typed, /quit leaves")
    while (line := _line(console)) is not None and line != "/quit":
        if line == "/reset":
            conversation.forget()
            console.line("the conversation begins anew")
        elif line == "/why":
            _why(console, conversation, reward, tells_q)
        elif line == "/help":
            console.table("what can be typed", ("command", "does"), list(COMMANDS.items()))
        elif line.startswith("/"):
            console.line(f"{line}: no such command{did_you_mean(line, COMMANDS, '') or '; /help lists them'}")
        elif line:
            _reply(console, conversation, line)


def _line(console: Console) -> str | None:
    """What the user types next, None where they leave."""
    try:
        line = console.ask("> ")
    except KeyboardInterrupt:
        line = None
    return None if line is None else line.strip()


def _reply(console: Console, conversation: Conversation, text: str) -> None:
    try:
        for piece in conversation.answer(text):
            console.piece(piece)
    except KeyboardInterrupt:
        console.end_line()
        console.line("stopped; what you typed last, and this reply, are not part of the conversation")
        return
    console.end_line()
    console.facts(reply=conversation.text.strip(), tokens=len(conversation.spoken), ended=conversation.ended())


def _why(console: Console, conversation: Conversation, reward: Reward | None, tells_q: bool) -> None:
    """Tell what the policy made of each token of its last reply, and what the reply was worth."""
    if not conversation.spoken:
        console.line("there is no reply yet")
        return
    has_value = conversation.spoken[0].value is not None
    columns = ["token", "probability", "sampled_with", *(["q"] * tells_q), *(["value"] * has_value), "likeliest"]
    rows: list[list[Cell]] = []
    for spoken in conversation.spoken:
        others = "  ".join(f"{token!r} {share:.3f}" for token, share in spoken.likeliest)
        numbers = [spoken.probability, spoken.sampled_with]
        numbers += ([spoken.score] if tells_q else []) + ([spoken.value] if spoken.value is not None else [])
        rows.append([repr(conversation.token(spoken.id)), *numbers, others])
    console.table("the last reply, token by token", columns, rows)
    if reward is not None:
        worth = conversation.judged(reward)
        console.line(f"reward {worth:.4g}", reward=worth)


def _conversation(config: DictConfig, setup: pipeline.Setup) -> Conversation:
    """The conversation that is asked for; UsageError for a checkpoint of another task, or replies that are too long."""
    task = setup.task
    if not isinstance(task, ReplyTask) or task.rows != "dialogue":
        raise UsageError(
            f"checkpoint={config.checkpoint} is of task={setup.config.options.task}, with which there is no talking; give "
            f"a run of task=dialogue, or ask this one by rlft predict checkpoint={config.checkpoint}"
        )
    most = config.max_reply_tokens or task.writing.max_reply_tokens
    room = task.codec.max_tokens - task.writing.max_prompt_tokens
    if most > room:
        raise UsageError(
            f"max_reply_tokens={most}: beside prompts of {task.writing.max_prompt_tokens} tokens the model has room for "
            f"{room}; lower it"
        )
    explore: Explore = Greedy(split_ties=False)
    if config.temperature > 0:
        explore = Sample(temperature=config.temperature, top_k=config.top_k, top_p=config.top_p)
    setup.policy.eval()
    return Conversation(
        task=task,
        policy=setup.policy,
        explore=explore,
        values=pipeline.build(setup.config.algo).values,
        max_reply_tokens=most,
        device=setup.accelerator.device,
        autocast=setup.accelerator.autocast,
        generator=torch.Generator(device=setup.accelerator.device).manual_seed(config.seed),
    )


def _tells_q(setup: pipeline.Setup) -> bool:
    """Whether the scores of the policy are values: those of DQN are, but for the soft form, where the policy is trained."""
    algorithm = pipeline.build(setup.config.algo)
    return isinstance(algorithm, Dqn) and algorithm.backup != "soft"
