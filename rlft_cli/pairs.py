"""Refuses choices that cannot work together, from the traits of the chosen classes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from rlft_cli.components import Problem
from rlft_cli.options import Library
from rlft_cli.sources import NoSuchTarget, read_target

Traits = Mapping[str, Any]
_PROBABILITIES = ("bce", "softmax")  # losses that read rewards as chances
_WHAT = {
    "model": "decides",
    "algo": "decisions",
    "reward": "decisions",
    "feedback": "decisions",
    "explore": "decisions",
    "tuning": "decisions",
}


@dataclass(frozen=True, kw_only=True)
class Pairing:
    """A composed config as the rules see it."""

    library: Library
    values: Mapping[str, Any]
    chosen: Mapping[str, str | None]

    def traits(self, group: str) -> Traits:
        """Traits of the chosen class; empty where it cannot be read (which is reported elsewhere)."""
        value = self.values.get(group)
        return _traits_of(value.get("_target_")) if isinstance(value, dict) else {}

    def name(self, group: str) -> str:
        """The choice as the user types it."""
        return f"{group}={self.chosen.get(group) or '?'}"

    def others(self, group: str, fits: Callable[[Traits], bool]) -> str:
        """Options of a group that would fit, as the user types them."""
        names = []
        for option in self.library.options.get(group, {}):
            source = self.library.option(group, option)
            if (
                source is not None
                and option != self.chosen.get(group)
                and fits(_traits_of(source.values.get("_target_")))
            ):
                names.append(f"{group}={option}")
        return ", ".join(names)


def impossible_pairs(pairing: Pairing) -> Iterator[Problem]:
    """Yield every pair of choices that cannot work; a rule whose traits are not declared is skipped."""
    yield from _decisions(pairing)
    yield from _labels(pairing)
    yield from _on_policy(pairing)
    yield from _errors(pairing)
    yield from _propensities(pairing)
    yield from _exploration(pairing)
    yield from _searches(pairing)
    yield from _signals(pairing)
    yield from _credit(pairing)
    yield from _probabilities(pairing)
    yield from _steered_kl(pairing)
    yield from _prompts(pairing)
    if pairing.values.get("run_dir") is not None and pairing.values.get("resume") is not None:
        yield Problem(key="run_dir, resume", text="a resumed run goes on in its own folder; leave run_dir out")


def _decisions(pairing: Pairing) -> Iterator[Problem]:
    """The task's decisions must be among those that model, algorithm, reward, feedback, exploration and tuning can handle."""
    wanted = pairing.traits("task").get("decisions")
    for group, trait in _WHAT.items():
        able = _able(pairing.values.get(group), trait)
        if wanted is None or not isinstance(able, Collection) or wanted in able:
            continue
        verb = "decides" if group == "model" else "is for"
        text = f"the task decides {wanted}, {pairing.name(group)} {verb} {_listed(able)}"
        mine = pairing.others(group, partial(_handles, trait=trait, decision=wanted))
        theirs = pairing.others("task", partial(_is_among, able=able))
        yield _problem(pairing, "task", group, text, mine, theirs)


def _handles(traits: Traits, trait: str, decision: str) -> bool:
    return decision in (traits.get(trait) or ())


def _is_among(traits: Traits, able: Collection[str]) -> bool:
    return traits.get("decisions") in able


def _labels(pairing: Pairing) -> Iterator[Problem]:
    """Learning from demonstrations needs labels; a warm start is for algorithms that do not see them anyway."""
    needs, reveals = pairing.traits("algo").get("needs"), pairing.traits("feedback").get("reveals")
    if needs == "labels" and reveals is not None and reveals != "labels":
        text = f"{pairing.name('algo')} learns from labels, {pairing.name('feedback')} reveals {reveals} only"
        mine = pairing.others("feedback", lambda traits: traits.get("reveals") == "labels")
        theirs = pairing.others("algo", lambda traits: traits.get("needs") == "rewards")
        yield _problem(pairing, "algo", "feedback", text, mine, theirs)
    warm_start = pairing.values.get("warm_start")
    fraction = warm_start.get("fraction") if isinstance(warm_start, dict) else None
    if needs == "labels" and isinstance(fraction, int | float) and fraction > 0:
        text = f"{pairing.name('algo')} learns from all labels and needs no warm start; type warm_start.fraction=0"
        yield Problem(key=f"{pairing.name('algo')} warm_start.fraction={fraction}", text=text)
    weight = _number(warm_start.get("mix_coefficient")) if isinstance(warm_start, dict) else 0.0
    if weight > 0 and _number(fraction) == 0:
        text = "there are no labels to mix in; type warm_start.fraction=0.05 or warm_start.mix_coefficient=0"
        yield Problem(key=f"warm_start.mix_coefficient={weight:g} warm_start.fraction=0", text=text)
    if weight > 0 and needs == "rewards" and pairing.traits("algo").get("on_policy") is False:
        text = f"mixes in the cross-entropy of a policy, and the scores of {pairing.name('algo')} are values"
        others = pairing.others(
            "algo", lambda other: other.get("on_policy") is True and other.get("needs") == "rewards"
        )
        ways = f"type warm_start.mix_coefficient=0 or, instead, {others}"
        yield Problem(key=f"warm_start.mix_coefficient={weight:g}", text=f"{text}; {ways}")


def _on_policy(pairing: Pairing) -> Iterator[Problem]:
    """An on-policy algorithm learns from its own fresh samples only."""
    algo = pairing.traits("algo")
    if algo.get("on_policy") is not True:
        return
    name = pairing.name("algo")
    theirs = pairing.others("algo", lambda other: other.get("on_policy") is False and other.get("needs") == "rewards")
    if pairing.traits("memory").get("fresh") is False:
        text = f"{name} is on-policy: it learns from fresh episodes only, {pairing.name('memory')} keeps old ones"
        mine = pairing.others("memory", lambda traits: traits.get("fresh") is True)
        yield _problem(pairing, "algo", "memory", text, mine, theirs)
    if algo.get("needs") == "rewards" and pairing.traits("feedback").get("fresh") is False:
        text = (
            f"{name} is on-policy: it learns from what it has just done, {pairing.name('feedback')} tells of older acts"
        )
        mine = pairing.others("feedback", _is_like_bandit)
        yield _problem(pairing, "algo", "feedback", text, mine, theirs)
    if algo.get("needs") == "rewards" and pairing.traits("explore").get("on_policy") is False:
        text = f"{name} is on-policy: it must sample from the policy itself, {pairing.name('explore')} does not"
        mine = pairing.others("explore", lambda traits: traits.get("on_policy") is True)
        yield _problem(pairing, "algo", "explore", text, mine, theirs)


def _errors(pairing: Pairing) -> Iterator[Problem]:
    """A memory that draws by error needs a loss that is the error of a value."""
    if pairing.traits("memory").get("by_error") is True and pairing.traits("algo").get("regresses") is False:
        text = f"{pairing.name('memory')} draws what values were wrong about, the loss of {pairing.name('algo')} is no such error"
        mine = pairing.others("memory", lambda traits: traits.get("by_error") is False)
        theirs = pairing.others("algo", lambda traits: traits.get("regresses") is True)
        yield _problem(pairing, "algo", "memory", text, mine, theirs)


def _propensities(pairing: Pairing) -> Iterator[Problem]:
    """Importance weights divide by the chance of what was done; a clip of 0 leaves them out."""
    algo, explore = pairing.values.get("algo"), pairing.traits("explore")
    if not isinstance(algo, dict) or pairing.traits("algo").get("weighs") is not True or algo.get("clip") == 0:
        return
    if pairing.traits("feedback").get("acts") is not False and explore.get("propensities") is False:
        text = f"{pairing.name('algo')} divides by the chance of each action, which {pairing.name('explore')} does not tell"
        mine = pairing.others("explore", lambda traits: traits.get("propensities") is True)
        theirs = pairing.others("feedback", lambda traits: traits.get("acts") is False)
        yield _problem(pairing, "algo", "explore", text, mine, theirs)


def _exploration(pairing: Pairing) -> Iterator[Problem]:
    """A search that adds up values needs those of single decisions; a KL needs all actions of the policy."""
    algo, explore = pairing.values.get("algo"), pairing.values.get("explore")
    if not (isinstance(algo, dict) and isinstance(explore, dict)):
        return
    gamma = algo.get("gamma")
    if pairing.traits("explore").get("sums_values") is True and isinstance(gamma, int | float) and gamma > 0:
        text = f"adds up values of single decisions, but with algo.gamma={gamma} a value counts what follows too"
        yield Problem(key=pairing.name("explore"), text=f"{text}; type algo.gamma=0")
    if pairing.traits("algo").get("distribution") is True and "noise" in (pairing.traits("explore").get("reads") or ()):
        text = f"makes scores noisy, but {pairing.name('algo')} learns distributions, whose means the scores are"
        calm = pairing.others("explore", lambda traits: traits.get("on_policy") is False and not traits.get("reads"))
        yield _problem(pairing, "explore", "algo", text, calm, "")
    cut = [f"explore.{key}" for key, whole in (("top_k", 0), ("top_p", 1)) if explore.get(key, whole) != whole]
    price = algo.get("kl_coefficient")
    if cut and pairing.traits("algo").get("on_policy") is True and isinstance(price, int | float) and price > 0:
        text = f"cuts actions off, and the KL that algo.kl_coefficient={price} pays for is infinite where the reference does"
        whole = "explore.top_k=0 explore.top_p=1.0"
        yield Problem(key=" ".join(cut), text=f"{text}; type {whole} or, instead, algo.kl_coefficient=0")


def _searches(pairing: Pairing) -> Iterator[Problem]:
    """A search judges whole answers by the reward as they are given; it explores by itself, from the policy or its samples."""
    if pairing.traits("algo").get("searches") is not True:
        return
    name, feedback, explore = pairing.name("algo"), pairing.traits("feedback"), pairing.traits("explore")
    if feedback.get("fresh") is False or feedback.get("reads_reward") is False:
        text = f"{name} searches by the reward of whole answers, told at once, which {pairing.name('feedback')} does not tell"
        mine = pairing.others("feedback", lambda traits: _is_like_bandit(traits) or traits.get("reveals") == "labels")
        yield _problem(pairing, "algo", "feedback", text, mine, "")
    if explore and explore.get("explores") is not False and explore.get("on_policy") is not True:
        text = f"{name} tries answers by its own search, {pairing.name('explore')} would never be asked"
        mine = pairing.others("explore", lambda traits: traits.get("explores") is False)
        yield _problem(pairing, "algo", "explore", text, mine, "")


def _is_like_bandit(traits: Traits) -> bool:
    """Feedback that passes on the configured reward at once."""
    return traits.get("reads_reward") is True and traits.get("fresh") is True and traits.get("reveals") == "rewards"


def _signals(pairing: Pairing) -> Iterator[Problem]:
    """A reward that is a control must be what is learned from; noise must fall on what a reward is about."""
    feedback, reward = pairing.traits("feedback"), pairing.traits("reward")
    if reward.get("control") is True and feedback.get("reads_reward") is False:
        text = f"{pairing.name('reward')} is a control of what is learned from, and {pairing.name('feedback')} does not read it"
        yield _problem(pairing, "reward", "feedback", text, pairing.others("feedback", _is_like_bandit), "")
    given = pairing.values.get("feedback")
    unit = given.get("unit") if isinstance(given, dict) else None
    if unit == "decision" and (reward.get("pays") == "episode" or pairing.traits("task").get("decisions") == "tokens"):
        text = f"{pairing.name('reward')} is one number an episode, the noise is on each decision; type feedback.unit=episode"
        yield Problem(key=f"{pairing.name('feedback')} feedback.unit=decision", text=text)


def _credit(pairing: Pairing) -> Iterator[Problem]:
    """One number an episode, told or paid at its end, must reach the decisions before."""
    feedback, algo = pairing.values.get("feedback"), pairing.values.get("algo")
    if not (isinstance(feedback, dict) and isinstance(algo, dict)):
        return
    reward, decisions = pairing.traits("reward"), pairing.traits("task").get("decisions")
    told = pairing.traits("feedback").get("pays") == "episode" or feedback.get("unit") == "episode"
    paid = reward.get("pays") == "episode" and pairing.traits("feedback").get("reads_reward") is True
    paid = paid and decisions in ("tokens", "acts") and decisions in (reward.get("decisions") or ())
    several = decisions in ("tags", "tokens", "acts") and decisions in (pairing.traits("algo").get("decisions") or ())
    if (told or paid) and several and algo.get("gamma") == 0 and algo.get("credit") != "episode":
        text = f"{'tells' if told else 'pays'} one number at the end of an episode"
        text += f"; with algo.gamma={algo['gamma']} only the last decision hears of it"
        more = " algo.loss_kind=huber" if algo.get("loss_kind") in _PROBABILITIES else ""
        yield Problem(key=pairing.name("feedback" if told else "reward"), text=f"{text}; type algo.gamma=1{more}")


def _probabilities(pairing: Pairing) -> Iterator[Problem]:
    """A Q that is the logit of a 0/1 reward needs signals in [0, 1], or unbiased estimates of such (feedback=noisy)."""
    feedback, algo = pairing.values.get("feedback"), pairing.values.get("algo")
    if not (isinstance(feedback, dict) and isinstance(algo, dict)) or algo.get("loss_kind") not in _PROBABILITIES:
        return
    flips = _number(feedback.get("flip_zero")) + _number(feedback.get("flip_one"))
    estimates = feedback.get("correct") is True and flips > 0  # of rewards that feedback=noisy finds to be 0 or 1
    faults = [("rejected", _number(feedback.get("rejected")) < 0)]
    faults.append(("gaussian", _number(feedback.get("gaussian")) > 0 and not estimates))
    for key in [key for key, wrong in faults if wrong]:
        text = f"shows rewards outside [0, 1], algo.loss_kind={algo['loss_kind']} reads them as chances"
        way = f"type feedback.{key}=0 or algo.loss_kind=mse"
        yield Problem(key=f"{pairing.name('feedback')} feedback.{key}={feedback[key]}", text=f"{text}; {way}")


def _steered_kl(pairing: Pairing) -> Iterator[Problem]:
    """A price of the KL that is to follow a target must be paid, and must start above 0."""
    algo = pairing.values.get("algo")
    if not isinstance(algo, dict) or _number(target := algo.get("kl_target")) == 0:
        return
    if _number(algo.get("kl_coefficient")) == 0:
        text = (
            "the price of the KL starts at algo.kl_coefficient=0, and a share of 0 is 0; type algo.kl_coefficient=0.05"
        )
        yield Problem(key=f"algo.kl_target={target}", text=text)
    if algo.get("kl_in") == "loss":
        text = "steers the price of the KL in the reward; type algo.kl_in=reward or algo.kl_target=null"
        yield Problem(key=f"algo.kl_target={target} algo.kl_in=loss", text=text)


def _prompts(pairing: Pairing) -> Iterator[Problem]:
    """A reward that judges replies to a prompt needs one; the first block of a text may have none."""
    task = pairing.values.get("task")
    if not isinstance(task, dict) or task.get("given_tokens") != 0:
        return
    if any(_traits_of(part["_target_"]).get("needs_prompt") is True for part in _parts(pairing.values.get("reward"))):
        text = f"judges replies to a prompt, and with task.given_tokens=0 the first block of a text of {pairing.name('task')}"
        yield Problem(
            key=pairing.name("reward"), text=f"{text} has none; type task.given_tokens=32 or choose another reward"
        )


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """A component and those inside it."""
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict) and "_target_" in item:
            yield item
            for inner in item.values():
                yield from _parts(inner)


def _number(value: Any) -> float:
    """A number as it is; 0 for anything else, which is reported elsewhere."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0


def _problem(pairing: Pairing, first: str, second: str, text: str, mine: str, theirs: str) -> Problem:
    ways = " or, instead, ".join(way for way in (mine, theirs) if way)
    return Problem(key=f"{pairing.name(first)} {pairing.name(second)}", text=text + (f"; type {ways}" if ways else ""))


def _able(value: Any, trait: str) -> Collection[str] | None:
    """What a component can handle: what it says, as far as the components inside it can too."""
    if not isinstance(value, dict):
        return None
    declared = _traits_of(value.get("_target_")).get(trait)
    if not isinstance(declared, Collection):
        return None
    able = list(declared)
    for item in [item for part in value.values() for item in (part if isinstance(part, list) else [part])]:
        if isinstance(item, dict) and "_target_" in item and (within := _able(item, trait)) is not None:
            able = [decision for decision in able if decision in within]
    return able


def _traits_of(target: object) -> Traits:
    try:
        return read_target(target).traits if isinstance(target, str) else {}
    except NoSuchTarget:
        return {}


def _listed(able: Collection[str]) -> str:
    return " and ".join(sorted(able)) if able else "nothing"
