"""A control group with little memory, where the kernel kills what eats more; and a little disk."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tests.netlab.shell import run

ROOT = Path("/sys/fs/cgroup")


class SmallMemory:
    """A memory control group of this process's own group, version 1 or 2."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        self.path: Path | None = None
        parent, limit_file = find_group()
        if parent is None:
            return
        path = parent / name
        with contextlib.suppress(OSError):
            path.mkdir()
            (path / limit_file).write_text(str(limit_bytes))
            self.path = path

    def join_command(self) -> list[str]:
        """Words that put a command into the group; none where there is no group."""
        if self.path is None:
            return []
        return ["sh", "-c", f'echo $$ > {self.path}/cgroup.procs && exec "$@"', "sh"]

    def remove(self) -> None:
        """A group goes when its last process has gone."""
        for _ in range(50):
            if self.path is None or not self.path.exists():
                return
            with contextlib.suppress(OSError):
                self.path.rmdir()
                return
            time.sleep(0.1)


def find_group() -> tuple[Path | None, str]:
    """This process's memory group, and the name of the file with the limit."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            group = ROOT / "memory" / path.lstrip("/")
            return writable(group), "memory.limit_in_bytes"
    group = ROOT / path.lstrip("/")
    if (group / "memory.max").exists():
        return writable(group), "memory.max"
    return None, ""


def writable(group: Path) -> Path | None:
    return group if os.access(group, os.W_OK) else None


class SmallDisk:
    """A file system in memory, of 128 MB, for the time of a ``with`` block."""

    SIZE_BYTES = 128_000_000

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> SmallDisk:
        self.path.mkdir(parents=True)
        size = f"size={self.SIZE_BYTES},mode=700"
        run("mount", "-t", "tmpfs", "-o", size, "tlab", str(self.path))
        return self

    def __exit__(self, *_: object) -> None:
        # Lazily: a process that ends at this moment may still have a file there.
        run("umount", "--lazy", str(self.path))

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"

    def fill(self) -> None:
        """Nobody else can write a byte."""
        with contextlib.suppress(OSError), self._ballast.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))

    def empty(self) -> None:
        self._ballast.unlink(missing_ok=True)
