"""Where tensors live and in which precision: a thin setting over accelerate."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from rlft_cli.errors import RlftError


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Device, precision and threads of a run."""

    device: Literal["auto", "cpu", "gpu"]
    precision: Literal["auto", "bf16", "fp32"]
    threads: Annotated[int, "[1, inf)"] | None

    def accelerator(self) -> Accelerator:
        """An Accelerator; RlftError where a GPU is asked for and there is none."""
        gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        if self.device == "gpu" and not gpu:
            raise RlftError(
                "hardware=gpu, but torch sees no GPU here; type hardware=cpu, or install a torch build for yours"
            )
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        on_cpu = self.device == "cpu" or not gpu
        AcceleratorState._reset_state()  # of a run before this one, in a sweep, with another precision
        return Accelerator(cpu=on_cpu, mixed_precision="bf16" if self._bf16(on_cpu) else "no")

    def _bf16(self, on_cpu: bool) -> bool:
        if self.precision != "auto":
            return self.precision == "bf16"
        if on_cpu:  # without these instructions bfloat16 is emulated, slower than float32
            return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported()


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_KEPT_BYTES = 1 << 30  # blocks up to this size, and as much of the free end of the heap, stay with the process


def keep_freed_memory() -> None:
    """Tell glibc to keep freed blocks: else every large tensor is mapped anew, at one page fault for each 4 KiB.

    A tenth of a training step in fp32 on a virtual machine (docs/decisions/0016). Other C libraries are left as they are.
    """
    if sys.platform != "linux":
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            libc.mallopt(option, _KEPT_BYTES)
    except (OSError, AttributeError):  # no glibc
        return
