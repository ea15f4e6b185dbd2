"""Goal-oriented dialogue: system acts chosen one by one, talking to a simulated user with a goal from the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from rlft_cli.errors import UsageError
from rlft_cli.metrics.goals import compare_goals, score_goals
from rlft_cli.model import Codec
from rlft_cli.task import Decisions, Row, State, agenda, listening
from rlft_cli.task.agenda import Agenda, Offer, at
from rlft_cli.task.goals import Acts, Bools, Difficulty, Ints, Kind, Users, acts_of, draw_users, inventory
from rlft_cli.task.hand_written import HandWritten
from rlft_cli.task.listening import Mind
from rlft_cli.task.transcript import Names, system_line, user_line

SAMPLES = 5  # dialogues in a report
RANDOM_SEED, RESAMPLES = 0, 1000  # of the policies that results are compared with


@dataclass(frozen=True, kw_only=True)
class GoalDialogue:
    """Settings of the simulated users, of the hand-written policy, and of the longest dialogue."""

    decisions: ClassVar[Decisions] = "acts"
    rows: ClassVar[str] = "goals"

    users_per_goal: Annotated[int, "[1, inf)"]
    user_seed: Annotated[int, "[0, inf)"]
    max_turns: Annotated[int, "[1, inf)"]
    error_rate: Annotated[float, "[0, 1]"]
    volunteer: Annotated[float, "[0, 1]"]
    unavailable: Annotated[float, "[0, 1]"]
    change: Annotated[float, "[0, 1]"]
    patience_min: Annotated[int, "[1, inf)"]
    patience_max: Annotated[int, "[1, inf)"]
    rule_confirm_below: Annotated[float, "[0, 1]"]
    rule_requests: Annotated[int, "[0, inf)"]

    def __post_init__(self) -> None:
        """UsageError for a patience that no number of turns has."""
        if self.patience_min > self.patience_max:
            raise UsageError(
                f"task.patience_min={self.patience_min} is above task.patience_max={self.patience_max}; "
                f"type task.patience_max={self.patience_min} or more"
            )

    def fit(self, rows: Sequence[Row]) -> list[str]:
        """The system's acts, from slots and requests of the goals."""
        return acts_of(rows).labels

    def build(self, labels: list[str], codec: Codec) -> GoalDialogueTask:
        """Bind to the acts; no text is read."""
        return GoalDialogueTask(self, labels, codec)


@dataclass(frozen=True, kw_only=True)
class World:
    """N dialogues as nobody in them sees them."""

    agenda: Agenda
    offer: Offer
    mind: Mind
    success: Bools  # [N]
    over: Bools  # [N]


class GoalDialogueTask:
    """Each example is one user; what the user says, and how it is heard, depends on the system's acts alone.

    All that chance decides is drawn when a user is added, so that two policies meet the same users, and an episode can be
    told again from its acts.
    """

    decisions: ClassVar[Decisions] = "acts"
    rows: ClassVar[str] = "goals"
    primary = "success"

    def __init__(self, settings: GoalDialogue, labels: list[str], codec: Codec) -> None:
        self.settings, self.labels, self.codec = settings, labels, codec
        self.acts = Acts.of(labels)
        self.table = self.acts.table()
        self.seen_width = listening.width(len(self.acts.slots), len(self.acts.properties), len(labels))
        self._hard = Difficulty(
            max_turns=settings.max_turns,
            error_rate=settings.error_rate,
            volunteer=settings.volunteer,
            unavailable=settings.unavailable,
            change=settings.change,
            patience_min=settings.patience_min,
            patience_max=settings.patience_max,
        )
        self._rule = HandWritten(
            acts=self.acts, confirm_below=settings.rule_confirm_below, requests=settings.rule_requests
        )
        self._users: Users | None = None
        self._rows: list[tuple[Row, list[list[str]]]] = []  # of each user, and the values that its numbers stand for
        self._fared: list[dict[str, Any]] = []  # what came of the hand-written policy with each user

    # -- examples ------------------------------------------------------------------------------------------------

    def add(self, rows: Sequence[Row]) -> list[int]:
        """``users_per_goal`` users of each goal; RlftError for a slot or request that training goals do not have."""
        return self._meet(rows, self.settings.users_per_goal)

    def _meet(self, rows: Sequence[Row], copies: int) -> list[int]:
        if not rows:
            return []
        first = len(self._rows)
        known = inventory(rows, self.acts)
        users = draw_users(rows, self.acts, known, self._hard, copies, self.settings.user_seed)
        self._users = users if self._users is None else Users.joined([self._users, users])
        self._rows += [(dict(row), known) for row in rows for _ in range(copies)]
        ids = list(range(first, len(self._rows)))
        played = self._play(ids, lambda world, t: self._rule(world.mind, world.offer))
        self._fared += self._outcomes(ids, *played)
        return ids

    def ask(self, rows: Sequence[Row]) -> list[int]:
        """Add goals, each with one user who is to be served."""
        return self._meet(rows, 1)

    def cost(self, ids: Sequence[int]) -> list[int]:
        """Decisions of the longest dialogue, the same for all."""
        return [self.settings.max_turns] * len(ids)

    def collate(self, ids: Sequence[int]) -> dict[str, Tensor]:
        """The users' numbers alone: a policy sees nothing before the dialogue begins."""
        return {"id": torch.tensor(list(ids), dtype=torch.int64)}

    # -- the dialogue ----------------------------------------------------------------------------------------------

    def reset(self, observation: dict[str, Tensor], samples: int) -> State:
        """Users have said what they came for; the ``samples`` episodes of one user begin alike."""
        assert self._users is not None
        ids = observation["id"].repeat_interleave(samples)
        users = self._users.take(ids.cpu().numpy())
        world = self._begin(users)
        return State(
            t=0,
            previous=torch.full_like(ids, -1),
            length=torch.full_like(ids, self.settings.max_turns),
            done=torch.zeros_like(ids, dtype=torch.bool),
            seen=self._see(world, 0).to(ids.device),
            world=world,
        )

    def _begin(self, users: Users) -> World:
        opened, none = agenda.begin(users, self._hard.volunteer), np.full_like(users.patience, -1)
        mind = listening.hear(listening.begin(users), opened.said, opened.want, users, none, 0, self._hard.error_rate)
        return World(agenda=opened, offer=agenda.no_offer(users), mind=mind, success=none > 0, over=none > 0)

    def step(self, state: State, action: Tensor) -> State:
        """Take one act [N] in each dialogue; booking ends it, and so do a user who gives up and the last turn."""
        t = state.t + 1
        world = self._next(state.world, action.cpu().numpy(), t)
        return State(
            t=t,
            previous=action,
            length=state.length,
            done=torch.from_numpy(world.over).to(action.device),
            seen=self._see(world, t).to(action.device),
            world=world,
        )

    def _next(self, world: World, number: Ints, t: int) -> World:
        """The world after the acts ``number`` [N], the t-th of the dialogues; what is over stays as it ended."""
        act, before, belief, hard = self.table[number], world.agenda, world.mind.belief, self._hard
        kind = act[:, 0]
        closes = kind == Kind.CLOSE
        right = agenda.satisfied(before, world.offer) & ~before.wish.any(1)
        offer = agenda.look_up(before.users, world.offer, belief, kind)
        after = agenda.react(before, world.offer, offer, belief, act, t, hard.volunteer)
        confirmed = np.where(kind == Kind.CONFIRM, act[:, 1], -1)
        mind = listening.acted(world.mind, number, act)
        mind = listening.hear(mind, after.said, after.want, after.users, confirmed, t, hard.error_rate)
        return World(
            agenda=after,
            offer=offer,
            mind=mind,
            success=world.success | (closes & right & ~world.over),
            over=world.over | closes | (after.patience <= 0) | (t >= hard.max_turns),
        )

    def _see(self, world: World, t: int) -> Tensor:
        legal = listening.legal_acts(world.mind, world.offer, self.table)
        return torch.from_numpy(listening.features(world.mind, world.offer, legal, t / self.settings.max_turns))

    def truncated(self, action: Tensor, mask: Tensor) -> Tensor:
        """Never: a dialogue that took too long has failed."""
        return torch.zeros(action.shape[0], dtype=torch.bool, device=action.device)

    # -- what came of it -------------------------------------------------------------------------------------------

    def _play(self, ids: Sequence[int], choose: Callable[[World, int], Ints]) -> tuple[Ints, Bools, list[World]]:
        """Acts [B, T], their mask, and the worlds from the opening on, where ``choose`` gives the t-th act [B]."""
        assert self._users is not None
        worlds = [self._begin(self._users.take(np.array(ids, dtype=np.int64)))]
        actions: list[Ints] = []
        masks: list[Bools] = []
        while not worlds[-1].over.all():
            masks.append(~worlds[-1].over)
            actions.append(np.where(masks[-1], choose(worlds[-1], len(actions)), 0))
            worlds.append(self._next(worlds[-1], actions[-1], len(actions)))
        return np.stack(actions, 1), np.stack(masks, 1), worlds

    def demonstration(self, ids: Sequence[int]) -> tuple[Tensor, Tensor]:
        """What the hand-written policy does with these users: acts [B, T] and their mask [B, T]."""
        taught = [self._fared[i]["acts"] for i in ids]
        width = max(map(len, taught))
        action = torch.tensor([acts + [0] * (width - len(acts)) for acts in taught])
        length = torch.tensor([len(acts) for acts in taught])
        return action, torch.arange(width)[None, :] < length[:, None]

    def contexts(self, ids: Sequence[int]) -> list[str]:
        """What each user wants, and what it will ask for."""
        goals = [self._rows[i][0] for i in ids]
        wanted = [", ".join(f"{one['slot']}={one['value']}" for one in goal["constraints"]) for goal in goals]
        return [f"{said}; {', '.join(goal['requests'])}" for said, goal in zip(wanted, goals, strict=True)]

    def references(self, ids: Sequence[int]) -> list[Any]:
        """How the hand-written policy fares with these users."""
        return [self._fared[i] for i in ids]

    def decode(self, action: Tensor, mask: Tensor, ids: Sequence[int]) -> list[Any]:
        """What came of each dialogue, told again from its acts: {"user", "success", "turns", "ended", "acts"}."""
        acts = action.cpu().numpy()
        return self._outcomes(ids, *self._play(ids, lambda world, t: acts[:, t]))

    def _outcomes(self, ids: Sequence[int], action: Ints, mask: Bools, worlds: list[World]) -> list[dict[str, Any]]:
        turns = mask.sum(1)
        closed = self.table[at(action, turns - 1), 0] == Kind.CLOSE
        ended = np.where(closed, "closed", np.where(turns < self.settings.max_turns, "gave_up", "too_long"))
        columns = (worlds[-1].success, turns, ended, action)
        rows = zip(ids, *(column.tolist() for column in columns), strict=True)
        return [
            {"user": user, "success": won, "turns": length, "ended": how, "acts": acts[:length]}
            for user, won, length, how, acts in rows
        ]

    def score(
        self, predictions: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Success rate, turns, why dialogues failed, and the gain over the hand-written policy with the same users."""
        return score_goals(predictions, references, seed, resamples)

    def compare(
        self, ours: Sequence[Any], theirs: Sequence[Any], references: Sequence[Any], seed: int, resamples: int
    ) -> dict[str, dict[str, float]]:
        """Differences, ours minus theirs, of the metrics of ``score`` but those that are differences themselves."""
        return compare_goals(ours, theirs, seed, resamples)

    def details(self, predictions: Sequence[Any], references: Sequence[Any]) -> dict[str, Any]:
        """The hand-written and the random policy with the same users, and the first dialogues turn by turn."""
        users = [one["user"] for one in predictions]
        random = np.random.default_rng(RANDOM_SEED)

        def any_legal(world: World, t: int) -> Ints:
            legal = listening.legal_acts(world.mind, world.offer, self.table)
            act: Ints = np.where(legal, random.random(legal.shape), -1).argmax(1)
            return act

        chance = self._outcomes(users, *self._play(users, any_legal))
        return {
            "baselines": {
                "hand_written": score_goals(references, references, 0, RESAMPLES),
                "random": score_goals(chance, references, 0, RESAMPLES),
            },
            "samples": [self._tell(one) for one in predictions[:SAMPLES]],
        }

    def _tell(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """One dialogue, turn by turn, as both sides meant it and as the system understood it."""
        row, known = self._rows[outcome["user"]]
        names = Names(acts=self.acts, values=known)
        acts = outcome["acts"]
        worlds = self._play([outcome["user"]], lambda world, t: np.array(acts[t : t + 1]))[2]
        lines = [user_line(names, worlds[0].agenda, worlds[0].mind)]
        for n, (number, before, after) in enumerate(zip(acts, worlds, worlds[1:], strict=False), start=1):
            lines.append(system_line(names, self.labels[number], before.mind, after.offer))
            if n < len(acts) or outcome["ended"] != "closed":
                lines.append(user_line(names, after.agenda, after.mind))
        goal = {one["slot"]: one["value"] for one in row["constraints"]}
        return {"goal": goal, "requests": row["requests"], "success": outcome["success"], "dialogue": lines}

    def signatures(self) -> dict[str, str]:
        """Who the users are, for reports."""
        told = ", ".join(f"{name}={value}" for name, value in vars(self.settings).items() if "rule" not in name)
        return {"users": told}


__all__ = ["GoalDialogue", "GoalDialogueTask"]
