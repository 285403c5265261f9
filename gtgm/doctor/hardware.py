"""Processors and memory, also those that a container allows."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from gtgm.container import container_limits
from gtgm.doctor.line import Line, note, ok, problem

#: Memory that `make reproduce` likes to have, GB.
MEMORY_GB = 6


def devices() -> Iterator[Line]:
    """Processors, GPUs and whether bf16 can be used."""
    from gtgm import provenance

    cores = provenance.cores()
    yield ok(f"CPU {provenance.cpu_name()}, {cores} cores may be used")
    allowed, _ = container_limits()
    if allowed is not None and allowed < cores:
        threads = max(1, int(allowed) // 2)
        yield note(
            f"the container has {allowed:g} CPUs, but {cores} cores are seen",
            f"set OMP_NUM_THREADS={threads}: threads of each of two notebooks side by side",
        )
    try:
        import torch

        from gtgm.precision import bf16_ratio, has_bf16
    except (ImportError, OSError) as error:
        yield problem(f"torch cannot be imported ({error})", "see the packages above")
        return
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for gpu in range(gpus):
        free, total = (size / 1e9 for size in torch.cuda.mem_get_info(gpu))
        name = torch.cuda.get_device_name(gpu)
        yield ok(f"CUDA GPU {gpu}: {name}, {free:.1f} of {total:.1f} GB free")
    if gpus == 0 and shutil.which("nvidia-smi"):
        yield note(
            f"nvidia-smi is here, but torch {torch.__version__} sees no GPU",
            "install a CUDA build of torch, or look at the driver and CUDA_VISIBLE_DEVICES",
        )
    elif gpus == 0:
        yield ok(f"no CUDA GPU (torch {torch.__version__})")
    if torch.backends.mps.is_available():
        yield ok("MPS is available")
    if torch.accelerator.is_available():
        yield ok("bf16 is used" if has_bf16() else "fp32 is used: this device has no bf16")
        return
    ratio = f"a small convolution takes {bf16_ratio():.2g} times as long in bf16 as in fp32"
    if has_bf16():
        yield ok(f"bf16 is used, and fp32 for small patches: {ratio}")
    else:
        yield ok(f"fp32 is used, as the processor has no instructions for bf16: {ratio}")


def memory() -> Iterator[Line]:
    """Memory and swap, and the limit of a container."""
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    total, free = memory.total / 1e9, memory.available / 1e9
    _, limit = container_limits()
    text = f"{free:.1f} of {total:.1f} GB free, swap {swap.total / 1e9:.1f} GB"
    if limit is not None and limit / 1e9 < total:
        text, free = f"{text}, the container has {limit / 1e9:.1f} GB", min(free, limit / 1e9)
    if free < MEMORY_GB:
        yield note(text, f"less than {MEMORY_GB} GB: `make reproduce ARGS='--jobs 1'`")
    else:
        yield ok(text)
