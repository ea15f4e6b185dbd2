"""From a configuration node with ``_target_`` to its object."""

from __future__ import annotations

import dataclasses
import importlib
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
    return component(**content)
