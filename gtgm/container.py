"""What a container lets this process have, which the machine's own numbers do not say."""

from __future__ import annotations

from pathlib import Path


def free_memory() -> int:
    """Bytes that are free, in the machine and, less what this process has, in its container."""
    import psutil  # the doctor reads the limits also where it is missing

    free = psutil.virtual_memory().available
    _, limit = container_limits()
    if limit is None:
        return free
    return max(0, min(free, int(limit) - psutil.Process().memory_info().rss))


def container_limits(
    groups: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")
) -> tuple[float | None, float | None]:
    """CPUs and bytes of memory that the control groups (version 1 or 2) of this process allow.

    Returns:
        ``None`` for what is not limited.
    """
    cpus, memory = [], []
    for line in _text(groups).splitlines():
        _, controllers, group = line.split(":", 2)
        for controller in controllers.split(","):  # version 2 has one group without a name
            top = mount / controller
            inner = top / group.strip("/")
            for folder in (inner, *inner.parents):
                if not folder.is_relative_to(top):
                    break
                share = _words(folder / "cpu.max") or [
                    *_words(folder / "cpu.cfs_quota_us"),
                    *_words(folder / "cpu.cfs_period_us"),
                ]
                if len(share) == 2 and float(share[0].replace("max", "-1")) > 0:
                    cpus.append(float(share[0]) / float(share[1]))
                size = _words(folder / "memory.max") or _words(folder / "memory.limit_in_bytes")
                if size and size[0] != "max" and float(size[0]) < 2**60:  # v1: no limit is huge
                    memory.append(float(size[0]))
    return min(cpus, default=None), min(memory, default=None)


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
