"""The static check: what is refused, in which words, and that it agrees with Hydra."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from thinned import every_other

from rlft_cli.components import check_class
from rlft_cli.compose import Composed, compose
from rlft_cli.config import check, config_folder, is_text_key
from rlft_cli.errors import UsageError
from rlft_cli.options import Library
from rlft_cli.overrides import for_hydra, parse, quoted
from rlft_cli.roots import ROOTS, root_class
from rlft_cli.sources import read_target
from rlft_cli.stages import other_verb
from rlft_cli.through_hydra import compose_with_hydra
from toy_options import write_toy


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.syspath_prepend(str(tmp_path))
    return Library([write_toy(tmp_path)])


def composed(library: Library, *words: str, verb: str = "train") -> Composed:
    overrides, problems = parse(
        words, multirun=False, is_text=lambda key: is_text_key(library, verb, key), options={key: [] for key in ROOTS}
    )
    assert not problems
    result = compose(library, verb, [(override, override.values[0]) for override in overrides])
    assert result is not None
    return result


def faults(library: Library, *words: str, verb: str = "train") -> list[str]:
    return check(library, verb, composed(library, *words, verb=verb))


def test_the_default_has_no_fault(toy: Library) -> None:
    assert faults(toy) == []


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("seed=abc", "seed: expected a whole number in [0, 4294967295], got 'abc'"),
        ("seed=1.5", "seed: expected a whole number in [0, 4294967295], got 1.5"),
        ("seed=true", "seed: expected a whole number in [0, 4294967295], got true"),
        ("seed=-1", "seed: expected a whole number in [0, 4294967295], got -1"),
        ("passes=-1", "passes: expected a number in [0, inf), got -1"),
        ("optim.lr=true", "optim.lr: expected a number in [0, inf), got true"),
        ("optim.lr=null", "optim.lr: expected a number in [0, inf), got null"),
        ("optim.lrr=1", "optim.lrr: no such key; did you mean optim.lr?"),
        ("optm.lr=1", "optm: no such key; did you mean optim?"),
        ("modle=tagger", "modle: no such key; did you mean model?"),
        ("optim.schedule=xyz", "optim.schedule: expected one of linear, cosine, constant, got 'xyz'"),
        (
            "optim.schedule=linaer",
            "optim.schedule: expected one of linear, cosine, constant, got 'linaer'; did you mean linear?",
        ),
        (
            "optim=3",
            "optim: expected a section with keys lr, head_lr, weight_decay, warmup_fraction, schedule, "
            "max_grad_norm, batch_tokens, max_batch_episodes, micro_batches, got 3",
        ),
        ("evaluation.max_examples=0", "evaluation.max_examples: expected a whole number in [1, inf) or null, got 0"),
        ("algo=qq", "algo=qq: no such option; did you mean algo=q?"),
        ("algo.gama=0.5", "algo.gama: no such key of algo=q; did you mean algo.gamma?"),
        (
            "algo.samples=2",
            "algo.samples: no such key of algo=q (but of algo=gradient); "
            "known: gamma, loss_kind, steps, double, extra, note",
        ),
        ("algo.gamma=1", "algo.gamma: expected a number in [0, 1), got 1"),
        ("algo.gamma=nan", "algo.gamma: expected a number in [0, 1), got nan"),
        ("algo.loss_kind=huber", "algo.loss_kind: expected one of mse, bce, got 'huber'"),
        ("algo.steps=0", "algo.steps: expected a whole number in (0, 9] or null, got 0"),
        ("algo.steps=10", "algo.steps: expected a whole number in (0, 9] or null, got 10"),
        ("algo.double=1", "algo.double: expected true or false, got 1"),
        ("algo._state={}", "algo._state: no such key of algo=q; known: gamma, loss_kind, steps, double, extra, note"),
        ("algo=gradient algo.samples=0", "algo.samples: expected a whole number in [1, inf), got 0"),
        ("model.sources=a", "model.sources: expected a list, each text, got 'a'"),
        ("model.sources=[a,1]", "model.sources.1: expected text, got 1"),
        ("model.table={x:{y:z}}", "model.table.x.y: expected a number, got 'z'"),
        ("model.table={x:1}", "model.table.x: expected a mapping, got 1"),
        ("reward=sum reward.terms.0.weight=2", "reward.terms.0.weight: expected a number in [0, 1], got 2"),
        (
            "reward=sum reward.terms=[{weight:1}]",
            "reward.terms.0: names no class: expected a line _target_: package.module.Class",
        ),
        ("data=folder", "data.dir: must be given: type data.dir=...  (Folder with the data; a path.)"),
        ("+foo=1", "foo: rlft train has no such key; rlft train --help lists them"),
        ("+algo.bar=1", "algo.bar: no such key of algo=q; known: gamma, loss_kind, steps, double, extra, note"),
        ("+algo.gamma=0.5", "+algo.gamma: is already there; type algo.gamma=... without +"),
        ("+algo=q", "+algo: there is a choice already; type algo=q without +"),
        ("~optim.lr", "optim.lr: is missing; expected a number in [0, inf)"),
        ("~optim.lrr", "~optim.lrr: there is no such key to remove; did you mean ~optim.lr?"),
        ("seed.x=1", "seed.x: seed is one value and has no keys"),
        ("run_dir=a resume=b", "run_dir, resume: a resumed run goes on in its own folder; leave run_dir out"),
        ("seed=${nothing}", "seed: cannot be filled in: Interpolation key 'nothing' not found; type seed=..."),
    ],
)
def test_each_fault_is_one_line(toy: Library, word: str, line: str) -> None:
    assert faults(toy, *word.split()) == [line]


@pytest.mark.parametrize(
    "words",
    every_other(
        [
            "optim.lr=1e-4",
            "optim.lr=1",
            "algo.gamma=.5",
            "algo.gamma=0",
            "algo.steps=9",
            "algo.steps=null",
            "algo.extra=[1,a]",
            "algo.note=7",
            "algo.note=null",
            "algo=gradient",
            "algo=labels",
            "algo=q_far",
            "task=talk",
            "reward=sum",
            "model.table={x:{y:1}}",
            "seed=${evaluation.bootstrap}",
            "experiment=mine",
            "data=folder data.dir=a",
            "algo=labels explore=epsilon",
            "model.sources=[a]",
            "recipe=null",
            "~recipe",
            "explore.start=${algo.gamma}",
            "run_dir=2024",
        ]
    ),
)
def test_what_is_right_passes_and_agrees_with_hydra(toy: Library, words: str) -> None:
    ours = composed(toy, *words.split())
    assert check(toy, "train", ours) == []
    overrides, _ = parse(words.split(), multirun=False, is_text=lambda key: is_text_key(toy, "train", key), options={})
    theirs = compose_with_hydra(toy.folders, "train", [for_hydra(override, ours.added) for override in overrides])
    assert ours.values == theirs.values
    absent = {"recipe": None, "recipe/reward": None, "recipe/feedback": None}
    assert {**absent, **ours.chosen, "recipe": theirs.chosen.get("recipe")} == {**absent, **theirs.chosen}


def test_all_faults_in_one_go(toy: Library) -> None:
    lines = faults(toy, "algo=qq", "algo.gamma=3", "optim.lrr=1", "seed=x", "task=talk", "model=tagger")
    assert [line.partition(":")[0] for line in lines] == [
        "algo=qq",
        "seed",
        "optim.lrr",
        "algo.gamma",
        "task=talk model=tagger",
    ]


def test_faults_in_files_name_file_and_line(toy: Library) -> None:
    assert faults(toy, "experiment=wrong") == [
        "optim.lrr: no such key; did you mean optim.lr? [toy/experiment/wrong.yaml:4]",
        "algo.gamma: expected a number in [0, 1), got 1.0 [toy/experiment/wrong.yaml:6]",
        "algo.gama: no such key of algo=q; did you mean algo.gamma? [toy/experiment/wrong.yaml:7]",
    ]
    (toy.folders[0] / "algo" / "short.yaml").write_text("# Short.\n_target_: toy_parts.Gradient\n")
    assert faults(toy, "algo=short", "memory=latest", "explore=sample") == [
        "algo.samples: is missing; expected a whole number in [1, inf) [toy/algo/short.yaml:2]"
    ]


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("toy_parts.Gradiant", "toy_parts.py has no class Gradiant; did you mean Gradient?"),
        ("toy_parts.Bare", "class Bare of toy_parts.py is not a @dataclass, so its keys are unknown"),
        ("toy_part.Q", "module toy_part is not found; run with PYTHONPATH=FOLDER, or install it"),
        ("rlft_cli.algoo.dqn.Dqn", "there is no module rlft_cli.algoo.dqn"),
        ("Q", "expected package.module.Class, got 'Q'"),
    ],
)
def test_wrong_targets(toy: Library, target: str, text: str) -> None:
    (toy.folders[0] / "algo" / "own.yaml").write_text(f"# Own.\n_target_: {target}\n")
    assert faults(toy, "algo=own") == [f"algo._target_: {text} [toy/algo/own.yaml:2]"]


def test_a_component_has_the_keys_and_traits_of_its_base_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "inherited_parts"
    package.mkdir()
    marked = "from __future__ import annotations\nfrom dataclasses import dataclass, field\nfrom typing import *\n"
    (package / "__init__.py").write_text("from .below import Below as Base\n")
    (package / "below.py").write_text(
        marked + 'Side = Literal["left", "right"]\n'
        "@dataclass\nclass Section:\n    depth: int\n"
        "class Bare:\n    noted: int\n    needs: ClassVar[str] = 'labels'\n    kept: ClassVar[int] = 3\n"
        "@dataclass\nclass Below(Bare):\n    needs: ClassVar[str] = 'rewards'\n"
        "    side: Side\n    inner: Section\n    rate: Annotated[float, '[0, 1]']\n    size: int\n"
    )
    (package / "above.py").write_text(
        marked + "from missing_package import Gone\nfrom inherited_parts import Base\n"
        "@dataclass\nclass Above(Base, Gone, Generic[int]):\n    size: Annotated[int, '[2, inf)']\n"
        "    rate: float = field(init=False, default=0.0)\n"
    )
    found = read_target("inherited_parts.above.Above")
    assert list(found.fields) == ["side", "inner", "size"]  # rate has become its own state
    assert found.traits == {"needs": "rewards", "kept": 3}
    values = {"side": "up", "inner": {"depth": "x"}, "size": 1, "rate": 0.5}
    assert [(problem.key, problem.text.partition(";")[0]) for problem in check_class(found, values, "algo")] == [
        ("algo.side", "expected one of left, right, got 'up'"),  # what Side is stands beside the base class
        ("algo.inner.depth", "expected a whole number, got 'x'"),
        ("algo.size", "expected a whole number in [2, inf), got 1"),
        ("algo.rate", "no such key"),
    ]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            "model=writer",
            "task=tag model=writer: the task decides tags, model=writer decides tokens; "
            "type model=tagger or, instead, task=talk",
        ),
        (
            "reward=text",
            "task=tag reward=text: the task decides tags, reward=text is for tokens; "
            "type reward=sum, reward=tag or, instead, task=talk",
        ),
        (
            "task=talk reward=sum",
            "task=talk reward=sum: the task decides tokens, reward=sum is for tags; "
            "type reward=text or, instead, task=tag",
        ),
        (
            "algo=labels feedback=bandit",
            "algo=labels feedback=bandit: algo=labels learns from labels, feedback=bandit "
            "reveals rewards only; type feedback=full or, instead, algo=gradient, algo=q",
        ),
        (
            "algo=gradient memory=replay",
            "algo=gradient memory=replay: algo=gradient is on-policy: it learns from fresh "
            "episodes only, memory=replay keeps old ones; type memory=latest or, instead, "
            "algo=q",
        ),
        (
            "algo=gradient explore=epsilon",
            "algo=gradient explore=epsilon: algo=gradient is on-policy: it must sample "
            "from the policy itself, explore=epsilon does not; type explore=sample or, "
            "instead, algo=q",
        ),
        (
            "algo=labels warm_start.fraction=.1",
            "algo=labels warm_start.fraction=0.1: algo=labels learns from all labels"
            " and needs no warm start; type warm_start.fraction=0",
        ),
        (
            "algo=gradient warm_start.mix_coefficient=.1",
            "warm_start.mix_coefficient=0.1 warm_start.fraction=0: there are no labels to mix in; "
            "type warm_start.fraction=0.05 or warm_start.mix_coefficient=0",
        ),
        (
            "warm_start.fraction=.1 warm_start.mix_coefficient=.1",
            "warm_start.mix_coefficient=0.1: mixes in the cross-entropy of a policy, and the scores of algo=q are values; "
            "type warm_start.mix_coefficient=0 or, instead, algo=gradient",
        ),
    ],
)
def test_impossible_pairs(toy: Library, words: str, line: str) -> None:
    lines = faults(toy, *words.split())
    assert len(lines) == 1
    assert lines[0].replace(", algo=q_far", "") == line


def test_broken_yaml_names_file_and_line(toy: Library) -> None:
    path = toy.folders[0] / "algo" / "broken.yaml"
    path.write_text("# Broken.\na: [1\nb: 2\n")
    with pytest.raises(UsageError, match=r"broken\.yaml:3: not valid YAML"):
        composed(toy, "algo=broken")
    path.write_bytes(b"# \xff\n")
    with pytest.raises(UsageError, match=r"cannot read .*broken\.yaml"):
        composed(Library(toy.folders), "algo=broken")


def test_own_folder_comes_first(toy: Library, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "algo").mkdir(parents=True)
    (own / "algo" / "q.yaml").write_text("# Own.\ndefaults:\n  - q_far\n  - _self_\nsteps: 2\n")
    (own / "algo" / "q_far.yaml").write_text(
        "# Far.\n_target_: toy_parts.Q\ngamma: 0.9\nloss_kind: bce\nsteps: 1\ndouble: false\nextra: 1\nnote: a\n"
    )
    library = Library([own, *toy.folders])
    ours = composed(library)
    assert ours.values["algo"]["steps"] == 2
    assert ours.values == compose_with_hydra(library.folders, "train", []).values


def test_forms_that_only_hydra_knows_are_left_to_it(toy: Library) -> None:
    (toy.folders[0] / "algo" / "own.yaml").write_text(
        "# Own.\ndefaults:\n  - /reward@extra: tag\n_target_: toy_parts.Q\ngamma: 0.1\nloss_kind: mse\n"
        "steps: 1\ndouble: true\nnote: a\n"
    )
    overrides, _ = parse(["algo=own"], multirun=False, is_text=lambda _: False, options={})
    assert compose(toy, "train", [(overrides[0], "own")]) is None
    result = compose_with_hydra(toy.folders, "train", ["algo=own"])
    assert result.values["algo"]["extra"] == {"_target_": "toy_parts.TagReward", "weight": 1}
    assert check(toy, "train", result) == []


def agree(library: Library, verb: str, words: list[str]) -> None:
    ours = composed(library, *words, verb=verb)
    theirs = compose_with_hydra(library.folders, verb, words)
    assert (ours.values, ours.chosen) == (theirs.values, theirs.chosen), words


@pytest.mark.parametrize("verb", ROOTS)
def test_packaged_defaults_compose_as_hydra_composes_them(verb: str) -> None:
    agree(Library([config_folder()]), verb, [])


@pytest.mark.slow
def test_packaged_tasks_and_algorithms_compose_as_hydra_composes_them() -> None:
    library = Library([config_folder()])
    for task, algo in itertools.product(library.options["task"], library.options["algo"]):
        agree(library, "train", [f"task={task}", f"algo={algo}"])


@pytest.mark.slow
@pytest.mark.parametrize("verb", ROOTS)
def test_every_packaged_option_composes_as_hydra_composes_it(verb: str) -> None:
    library = Library([config_folder()])
    for group in library.groups(verb):
        for name in library.options.get(group, {}):
            if group != "experiment" or other_verb(library, verb, name) is None:
                agree(library, verb, [f"{group}={name}"])


def test_every_root_key_of_a_verb_is_in_its_yaml_or_a_group() -> None:
    library = Library([config_folder()])
    for verb in ROOTS:
        held = set(library.root(verb).values) | set(library.groups(verb)) - {
            "recipe",
            "recipe/reward",
            "recipe/feedback",
            "experiment",
        }
        assert held == set(root_class(verb).fields), verb


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1))
def test_free_text_reaches_hydra_unchanged(text: str) -> None:
    if "${" in text or text.lower() == "null":
        return  # a reference, and no text
    parsed = OverridesParser.create().parse_override(f"text={quoted(text)}")
    assert parsed.value() == text


@given(st.text("01.e-+_aft/%@,TRUEnul:~ '\"", min_size=1, max_size=6))
def test_plain_values_are_read_as_hydra_reads_them(value: str) -> None:
    overrides, problems = parse([f"seed={value}"], multirun=False, is_text=lambda _: False, options={})
    try:
        theirs = OverridesParser.create().parse_override(f"seed={value}")
        refused = theirs.is_sweep_override()
    except Exception:
        refused = True
    assert bool(problems) == refused
    if not refused:
        expected = getattr(theirs.value(), "text", theirs.value())
        assert [(type(v), repr(v)) for v in overrides[0].values] == [(type(expected), repr(expected))]  # nan too
