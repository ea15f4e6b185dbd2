"""Writes the help of every verb from the comments of the YAML files, and completes words for the shell."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rlft_cli.components import choices, shown
from rlft_cli.config import fields_of
from rlft_cli.options import Library, Source
from rlft_cli.roots import ROOTS

WIDTH = 110
VERBS = {
    "train": "train a model on a task, from labels or from rewards",
    "pipeline": "train in stages, each of which must show its gain on held-out data",
    "eval": "evaluate a checkpoint: needs nothing but the checkpoint; against=OTHER compares two",
    "predict": "predict for a text, a file or standard input",
    "chat": "talk to a dialogue checkpoint in the terminal",
    "data": "look at data before training: sizes, labels, lengths, what is wrong with it",
    "models": "list the models and where they are; rlft models fetch NAME brings one here",
    "simulate-logs": "write a log of what a checkpoint does and earns on labelled examples, with propensities",
    "ope": "off-policy evaluation: the value of a checkpoint from the log of another policy",
    "verify": "hold what ships, or an algorithm of yours, against exact oracles: one row each",
    "completion": "print the completion script for a shell: bash, zsh or fish",
    "version": "print the version",
    "help": "print this page, or that of a verb: rlft help train",
}
FLAGS = {
    "--help": "what can be chosen and set; with choices (algo=dqn --help) also their keys",
    "--multirun": "(-m) run every combination: rlft train -m algo=supervised,dqn seed=1,2,3",
    "--cfg": "job: print the configuration instead of running",
    "--resolve": "with --cfg: references ${...} filled in",
    "--package": "with --cfg: only this part of the configuration",
    "--config-dir": "(-cd) a folder of your own with more options: FOLDER/algo/mine.yaml gives algo=mine",
    "--info": "what Hydra found: all, config, defaults, defaults-tree, plugins, searchpath",
    "--hydra-help": "Hydra's own flags",
}
_SCRIPTS = {
    "bash": """_rlft() {
    local word
    COMPREPLY=()
    while IFS= read -r word; do COMPREPLY+=("$word"); done < <(rlft completion words "${COMP_LINE:0:COMP_POINT}")
    if [[ ${#COMPREPLY[@]} -eq 0 ]]; then compopt -o default; return; fi
    # bash splits words at "=", so what stands before it must not come again
    local typed="${COMP_LINE:0:COMP_POINT}"; typed="${typed##* }"
    if [[ "$COMP_WORDBREAKS" == *=* && "$typed" == *=* ]]; then COMPREPLY=("${COMPREPLY[@]#"${typed%=*}="}"); fi
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == *[=.] ]]; then compopt -o nospace; fi
}
complete -F _rlft rlft
""",
    "zsh": """#compdef rlft
_rlft() {
    local -a words_found
    words_found=("${(@f)$(rlft completion words "${LBUFFER}")}")
    if [[ -n "${words_found[1]}" ]]; then
        compadd -Q -S '' -- "${words_found[@]}"
    else
        compset -P '*='  # what stands before it is no part of a path
        _files
    fi
}
compdef _rlft rlft
""",
    "fish": """function __rlft_complete
    set -l found (rlft completion words (commandline -cp))
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else  # a path, after a key or alone
        set -l typed (commandline -ct)
        set -l key (string match -r '^[^=]*=' -- $typed)
        printf "$key%s\\n" (__fish_complete_path (string replace -r '^[^=]*=' '' -- $typed))
    end
end
complete -c rlft -f -a '(__rlft_complete)'
""",
}


def overview() -> str:
    """The page of ``rlft --help``."""
    lines = ["rlft: fine-tune pretrained transformers on NLP tasks with labels and with reactions", ""]
    lines += ["usage: rlft VERB [KEY=VALUE ...]", ""]
    lines += [f"  {verb:<15}{text}" for verb, text in VERBS.items()]
    lines += [
        "",
        "examples:",
        "  rlft train                                        task=ner algo=dqn model=minilm on the packaged sample",
        "  rlft train task=classification algo=reinforce data=files data.dir=FOLDER seed=3",
        "  rlft train -m algo=supervised,dqn seed=1,2,3      every combination, one after the other",
        "  rlft eval checkpoint=RUN split=test",
        '  rlft predict checkpoint=RUN text="Angela Merkel visited Paris"',
        "",
        "rlft VERB --help lists everything that can be chosen and set.",
    ]
    return "\n".join(lines)


def verb_page(library: Library, verb: str, typed: Mapping[str, str]) -> str:
    """The page of ``rlft VERB --help``: groups with their options, root keys, and the keys of typed choices."""
    root = library.root(verb)
    groups = library.groups(verb)
    lines = [f"rlft {verb}: {VERBS[verb]}", "", f"usage: rlft {verb} [flags] [KEY=VALUE ...]"]
    if verb == "models":
        lines.append("       rlft models fetch NAME")
    if groups:
        lines += ["", "choices (GROUP=OPTION; * is the default):"]
    defaults = _default_options(root)
    for group in groups:
        lines += ["", f"  {group}", *_options(library, group, defaults.get(group, ""))]
    lines += ["", "keys (KEY=VALUE):", "", *_keys(root, "")]
    for group, option in typed.items():
        source = library.option(group, option) if group in groups else None
        if source is not None:
            lines += ["", f"keys of {group}={option} ({library.shown(source.path)}):", ""]
            lines += list(_keys(source, "" if source.is_global else group))
    if groups and not typed:
        lines += ["", f"keys of a choice: rlft {verb} {_example(library, groups)} --help"]
    lines += ["", "flags:", ""] + [line for flag, text in FLAGS.items() for line in _entry(flag, text)]
    return "\n".join(lines)


def completion_script(shell: str) -> str | None:
    """The script that connects a shell to ``rlft completion words``; None for a shell that is not known."""
    return _SCRIPTS.get(shell)


def complete(library: Library, words: Sequence[str]) -> list[str]:
    """Words that can stand where the last of ``words`` (after "rlft") is being typed."""
    *before, typed = words or [""]
    verb = next((word for word in before if not word.startswith("-")), None)
    if verb is None:
        found = [*VERBS, "--help", "--version"]
    elif verb == "completion":
        found = list(_SCRIPTS)
    elif verb == "help":
        found = list(ROOTS)
    elif verb not in ROOTS or (before and before[-1] in ("--config-dir", "-cd")):
        found = []
    elif typed.startswith("-"):
        found = list(FLAGS)
    elif verb == "models" and before[-1] == "fetch":
        found = list(library.options.get("model", {}))
    else:
        found = list(_values(library, verb, typed) if "=" in typed else _completed_keys(library, verb, typed, before))
    return sorted(word for word in dict.fromkeys(found) if word.startswith(typed))


def _completed_keys(library: Library, verb: str, typed: str, before: Sequence[str]) -> Iterator[str]:
    root = library.root(verb)
    groups = library.groups(verb)
    if verb == "models":
        yield "fetch"
    if "." not in typed:
        yield from (f"{group}=" for group in groups)
        yield from (f"{group}." for group in groups if not group.startswith(("recipe", "experiment")))
        yield from (f"{key}." if isinstance(value, dict) else f"{key}=" for key, value in root.values.items())
        return
    yield from (f"{key}=" for key in root.lines if "." in key)
    group = typed.partition(".")[0]
    chosen = dict(word.split("=", 1) for word in before if "=" in word)
    option = chosen.get(group) or _default_options(root).get(group)
    sources = [library.option(group, option)] if option else []
    sources = sources if any(sources) else [library.read(path) for path in library.options.get(group, {}).values()]
    for source in sources if group in groups else []:
        yield from (f"{group}.{key}=" for key in (source.values if source else ()) if key != "_target_")


def _values(library: Library, verb: str, typed: str) -> Iterator[str]:
    key, _, value = typed.partition("=")
    done = value.rpartition(",")[0]  # a sweep: complete its last value
    done = f"{key}={done}," if done else f"{key}="
    names = library.options.get(key, {}) if key in library.groups(verb) else {}
    yield from (done + name for name in names)
    for annotation, path in fields_of(library, verb, key):
        yield from (done + name for name in choices(annotation, path) if not names)


def _default_options(root: Source) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in root.defaults:
        for key, option in entry.items() if isinstance(entry, dict) else ():
            found[str(key).removeprefix("optional ")] = str(option)
    return found


def _options(library: Library, group: str, default: str) -> Iterator[str]:
    for name, path in library.options.get(group, {}).items():
        mark = "*" if name == default else " "
        yield from _entry(f"{mark} {name}", library.read(path).summary, column=28)
    if "${" in default:
        yield from _entry(f"* {default}", "where there is one", column=28)
    elif default == "None":
        yield from _entry("* null", "none", column=28)


def _keys(source: Source, prefix: str) -> Iterator[str]:
    for key in source.lines:
        top = key.partition(".")[0]
        if top in ("defaults", "hydra") or "_target_" in key or any(part.isdigit() for part in key.split(".")):
            continue
        value = _lookup(source, key)
        name = f"{prefix}.{key}" if prefix else key
        setting = name if isinstance(value, dict) and value else f"{name}={_written(value)}"
        yield from _entry(setting, source.comment(key))


def _entry(name: str, text: str, column: int = 42) -> Iterator[str]:
    lines = textwrap.wrap(text, WIDTH - column) or [""]
    start = f"  {name}"
    if len(start) >= column:
        yield start
        start = ""
    yield f"{start:<{column}}{lines[0]}".rstrip()
    yield from (" " * column + line for line in lines[1:])


def _written(value: object) -> str:
    if value == "???":
        return "(required)"
    if isinstance(value, list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    return value if isinstance(value, str) else shown(value)


def _lookup(source: Source, key: str) -> object:
    value: object = source.values
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) and part in value else _by_text(value, part)
    return value


def _by_text(value: object, part: str) -> object:
    """A key that YAML reads as a number or a truth value."""
    return next((item for key, item in value.items() if str(key) == part), None) if isinstance(value, dict) else None


def _example(library: Library, groups: Sequence[str]) -> str:
    group = "algo" if "algo" in groups else groups[0]
    return f"{group}={next(iter(library.options.get(group, {})), 'OPTION')}"
