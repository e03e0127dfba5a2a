"""Devices of the machine, and the number formats that they support."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from atlaseg.pipeline.errors import OptionError

if TYPE_CHECKING:
    import torch

__all__ = ["bf16_is_fast", "choose_device", "torch_device"]

#: Instructions that multiply bfloat16 numbers, as ``torch.cpu.get_capabilities`` and Linux name them.
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16", "sve_bf16", "svebf16"}


def torch_device(name: str) -> torch.device:
    """The device of a name: ``auto`` (a GPU where there is one), ``cpu``, ``cuda`` or ``cuda:1``.

    Raises:
        OptionError: no such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise OptionError(f"no device {name!r}; choose auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise OptionError(f"device {name}: there is no such GPU here; choose cpu")
    return torch.device(name)


def choose_device(name: str = "auto") -> Literal["cpu", "cuda"]:
    """Kind of the device of a name, see :func:`torch_device`."""
    return "cpu" if torch_device(name).type == "cpu" else "cuda"


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
