"""What the machine can do: devices and number formats."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.errors import OptionError

__all__ = ["bf16_is_fast", "choose_device"]

#: Instructions that multiply bfloat16 numbers, as ``torch.cpu.get_capabilities`` and Linux name them.
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16", "sve_bf16", "svebf16"}


def choose_device(name: str = "auto") -> Literal["cpu", "cuda"]:
    """Device to train on: ``auto`` takes a CUDA device where there is one.

    Raises:
        OptionError: unknown name, or ``cuda`` where torch finds none.
    """
    import torch

    if name not in {"auto", "cpu", "cuda"}:
        raise OptionError(f"device {name!r} is not known; choose auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise OptionError("device cuda: torch finds no CUDA device here; choose cpu or auto")
    return "cuda" if name != "cpu" and torch.cuda.is_available() else "cpu"


def bf16_is_fast(device: str) -> bool:
    """Whether the device multiplies bfloat16 numbers in hardware; emulation would be slower than float32."""
    import torch

    if device != "cpu":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # public since torch 2.10
    if capabilities is not None:
        found = {name for name, present in capabilities().items() if present is True}
    else:
        source = Path("/proc/cpuinfo")
        found = set(source.read_text().split()) if source.is_file() else set()
    return bool(found & _BF16_INSTRUCTIONS)
