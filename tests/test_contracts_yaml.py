"""Contracts over every YAML that is shipped: its class exists, its keys have comments, and it composes."""

from __future__ import annotations

import ast
import tomllib
from itertools import product
from pathlib import Path

import pytest

from rlft_cli.compose import compose
from rlft_cli.config import check, config_folder
from rlft_cli.options import Library, Source, read_choices
from rlft_cli.overrides import Override
from rlft_cli.roots import ROOTS
from rlft_cli.sources import NoSuchTarget, read_target

PACKAGE = Path(__file__).parent.parent / "rlft_cli"
LIBRARY = Library([config_folder()])
OPTIONS = [(group, name) for group, names in LIBRARY.options.items() for name in names]
COMPONENTS = [(group, name) for group, name in OPTIONS if not group.startswith(("recipe", "experiment"))]
# The class of the protocol that the configured dataclass of a group fulfils.
PROTOCOLS = {
    "algo": "Algorithm",
    "data": "Data",
    "decode": "Decode",
    "explore": "Explore",
    "feedback": "Feedback",
    "memory": "Memory",
    "model": "Model",
    "reward": "Reward",
    "task": "TaskSettings",
    "tuning": "Tuning",
}


def source_of(group: str, name: str) -> Source:
    source = LIBRARY.option(group, name)
    assert source is not None
    return source


def fits(group: str, name: str, task: str) -> bool:
    """Whether an option says that it is for the decisions of a task."""
    classes = [read_target(str(source_of(*key).values["_target_"])) for key in ((group, name), ("task", task))]
    return classes[1].traits["decisions"] in classes[0].traits["decisions"]


def parted(name: str, *groups: str) -> dict[str, str]:
    """The options that the name of a recipe puts together; options may hold underscores themselves."""
    every = product(*(LIBRARY.options[group] for group in groups))
    (found,) = [options for options in every if "_".join(options) == name]
    return dict(zip(groups, found, strict=True))


def methods(node: ast.ClassDef) -> set[str]:
    return {line.name for line in node.body if isinstance(line, ast.FunctionDef)}


def implementations() -> list[str]:
    """Modules of component folders that hold a public dataclass with all methods of the folder's protocol."""
    found = []
    for group, protocol in PROTOCOLS.items():
        seam = ast.parse((PACKAGE / group / "__init__.py").read_text())
        wanted = next(methods(n) for n in seam.body if isinstance(n, ast.ClassDef) and n.name == protocol)
        for file in sorted((PACKAGE / group).glob("*.py")):
            classes = [n for n in ast.parse(file.read_text()).body if isinstance(n, ast.ClassDef)]
            able = [n for n in classes if wanted <= methods(n) and n.decorator_list and not n.name.startswith("_")]
            found += [f"{group}.{file.stem}"] if able and file.stem != "__init__" else []
    return found


def described_keys(source: Source) -> list[str]:
    """Keys that a person may set: all but _target_, list items and what stands within hydra: and defaults:.

    Presets and recipes change keys inside sections that the root file and the options describe.
    """
    hidden = ("defaults", "hydra")
    sections = {key.rpartition(".")[0] for key in source.lines} if source.is_global else set()
    return [
        key
        for key in source.lines
        if key.partition(".")[0] not in hidden
        and key not in sections
        and not key.endswith("_target_")
        and not any(part.isdigit() for part in key.split("."))
    ]


@pytest.mark.parametrize(("group", "name"), COMPONENTS)
def test_names_an_existing_dataclass_of_its_group(group: str, name: str) -> None:
    target = str(source_of(group, name).values.get("_target_"))
    try:
        read_target(target)
    except NoSuchTarget as problem:
        pytest.fail(f"configs/{group}/{name}.yaml: _target_: {target}: {problem}")
    assert target.startswith(f"rlft_cli.{group}."), "one word, three places"


@pytest.mark.parametrize("module", implementations())
def test_every_implementation_has_a_yaml(module: str) -> None:
    targets = {str(source_of(group, name).values.get("_target_")).rpartition(".")[0] for group, name in COMPONENTS}
    assert f"rlft_cli.{module}" in targets


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_is_described_and_each_key_has_a_comment(group: str, name: str) -> None:
    source = source_of(group, name)
    assert source.summary, "the first line must be a comment that describes the option"
    assert [key for key in described_keys(source) if not source.comment(key)] == []


@pytest.mark.parametrize("verb", ROOTS)
def test_every_root_key_has_a_comment(verb: str) -> None:
    source = LIBRARY.root(verb)
    assert source.summary
    assert [key for key in described_keys(source) if not source.comment(key)] == []


@pytest.mark.parametrize(("group", "name"), OPTIONS)
def test_every_option_composes_without_a_fault_of_its_own(
    group: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLFT_DATA", "data")  # presets read it
    words = [Override(text=f"{group}={name}", prefix="", key=group, values=(name,))]
    pair = {}
    if group == "recipe":
        pair = parted(name, "task", "algo")
    elif group == "recipe/reward":
        pair = parted(name, "algo", "reward")
        pair["task"] = next(task for task in LIBRARY.options["task"] if fits("reward", pair["reward"], task))
    elif group == "recipe/feedback":
        pair = parted(name, "task", "algo", "feedback")
    elif group == "algo" and not fits("algo", name, "ner"):
        pair["task"] = next(task for task in LIBRARY.options["task"] if fits("algo", name, task))
    words += [Override(text="", prefix="", key=key, values=(value,)) for key, value in pair.items()]
    verb = "pipeline" if "stages" in source_of(group, name).values else "eval" if group == "decode" else "train"
    composed = compose(LIBRARY, verb, [(word, word.values[0]) for word in words])
    assert composed is not None, "a defaults list in a form that only Hydra reads is checked too late"
    faults = check(LIBRARY, verb, composed, running=False)
    paired = [line for line in faults if line.startswith((f"task={composed.chosen.get('task')} ", "algo="))]
    # an option for another task or algorithm is refused beside the default ones; task, algo and presets must fit alone
    allowed = paired if group not in ("task", "algo", "experiment") and not pair else []
    assert [line for line in faults if line not in allowed] == []


@pytest.mark.parametrize("task", LIBRARY.options.get("task", {}))
@pytest.mark.parametrize("algo", LIBRARY.options.get("algo", {}))
def test_every_task_works_with_every_algorithm_by_itself(task: str, algo: str) -> None:
    """An algorithm for logs misses the log and nothing else; one for other decisions is refused for that alone."""
    words = [Override(text="", prefix="", key=key, values=(value,)) for key, value in (("task", task), ("algo", algo))]
    composed = compose(LIBRARY, "train", [(word, word.values[0]) for word in words])
    assert composed is not None
    faults = check(LIBRARY, "train", composed)
    if not fits("feedback", composed.chosen["feedback"] or "", task):  # a log of what no log can hold
        assert any(f"feedback={composed.chosen['feedback']} is for" in line for line in faults)
        return
    if composed.chosen["feedback"] == "logged":
        assert len([line for line in faults if line.startswith("feedback.log")]) == 1
        faults = [line for line in faults if not line.startswith("feedback.log")]
    if fits("algo", algo, task):
        assert faults == []
    else:
        assert any(f"algo={algo} is for" in line for line in faults)


@pytest.mark.slow
@pytest.mark.parametrize("reward", LIBRARY.options.get("reward", {}))
def test_every_reward_that_fits_a_task_works_with_every_algorithm(reward: str) -> None:
    """A recipe that sets keys of one reward (or strategy) would shut out all others."""
    for task in LIBRARY.options.get("task", {}):
        for algo in LIBRARY.options.get("algo", {}) if fits("reward", reward, task) else ():
            if not fits("algo", algo, task):
                continue
            typed = {"task": task, "algo": algo, "reward": reward}
            words = [Override(text="", prefix="", key=key, values=(value,)) for key, value in typed.items()]
            composed = compose(LIBRARY, "train", [(word, word.values[0]) for word in words])
            assert composed is not None
            faults = check(LIBRARY, "train", composed, running=False)
            assert [line for line in faults if line.startswith("reward.")] == []


@pytest.mark.parametrize("verb", ROOTS)
def test_every_verb_composes_by_default(verb: str) -> None:
    composed = compose(LIBRARY, verb, [])
    assert composed is not None
    assert check(LIBRARY, verb, composed, running=False) == []


@pytest.mark.parametrize("verb", ROOTS)
def test_the_default_options_exist(verb: str) -> None:
    for choice in read_choices(LIBRARY.root(verb), root=True) or []:
        if choice.option is not None and "${" not in choice.option:
            assert choice.option in LIBRARY.options.get(choice.group, {})


def test_every_implementation_is_in_the_contract_of_independence() -> None:
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    modules = [name for contract in contracts if contract["type"] == "independence" for name in contract["modules"]]
    named = [f"rlft_cli.{module}" for module in implementations()]
    assert [name for name in named if name not in modules and name.rpartition(".")[0] + ".*" not in modules] == []
