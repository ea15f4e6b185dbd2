"""From a configuration node with ``_target_`` to its object."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Collection
from typing import Any

from omegaconf import OmegaConf

from rlft_cli.errors import RlftError, UsageError


def plain(node: Any) -> Any:
    """OmegaConf nodes as dicts and lists, interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def build(node: Any) -> Any:
    """Turn a configuration node with ``_target_`` into its object; nested nodes too."""
    node = plain(node)
    if isinstance(node, list):
        return [build(item) for item in node]
    if not isinstance(node, dict):
        return node
    content = {key: build(value) for key, value in node.items() if key != "_target_"}
    if "_target_" not in node:
        return content
    module, _, name = str(node["_target_"]).rpartition(".")
    try:
        component = vars(importlib.import_module(module)).get(name)
    except ImportError as error:
        raise RlftError(f"_target_ {node['_target_']} cannot be imported: {error}") from error
    if not (isinstance(component, type) and dataclasses.is_dataclass(component)):
        raise UsageError(f"_target_ {node['_target_']} is not a component; expected a dataclass, written module.Class")
    _require_keys(str(node["_target_"]), component, content.keys())
    return component(**content)


def _require_keys(target: str, component: type[Any], given: Collection[str]) -> None:
    """RlftError where a component has other keys: what is typed was checked before, so that a checkpoint or run is older."""
    takes = [field for field in dataclasses.fields(component) if field.init]
    lacking = [field.name for field in takes if field.name not in given and _is_required(field)]
    unknown = [key for key in given if key not in {field.name for field in takes}]
    if not lacking and not unknown:
        return
    what = [f"lacks {', '.join(lacking)}"] if lacking else []
    what += [f"has {', '.join(unknown)}, which is no key of it"] if unknown else []
    raise RlftError(
        f"the configuration of {target} {' and '.join(what)}: another version of rlft wrote it; open the checkpoint or the "
        "run with that version, or train again with this one"
    )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
