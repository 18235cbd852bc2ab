"""A slow disk under PostgreSQL, where root may make one: the block layer's own throttle.

The servers' processes are put into a control group whose reads from the cluster's disk are limited
(v1: blkio.throttle, v2: io.max), and what the kernel keeps of their files is dropped again and
again, for a database that fits into memory has no disk to be slow. Nothing is simulated: where the
groups cannot be made, why_not() says so and the scenario is left out.
"""
import os
import threading
from pathlib import Path

V1 = Path("/sys/fs/cgroup/blkio")
V2 = Path("/sys/fs/cgroup")
DROP_EVERY_S = 0.2


def disk_of(path):
    """major:minor of the whole disk under a file: throttles know no partitions."""
    device = os.stat(path).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    link = Path("/sys/dev/block") / name
    if not link.exists():
        return None
    if (link / "partition").exists():
        return (link.resolve().parent / "dev").read_text(encoding="ascii").strip()
    return name


def has_v2():
    try:
        return "io" in (V2 / "cgroup.subtree_control").read_text(encoding="ascii").split()
    except OSError:
        return False


def why_not(pg):
    """Why there can be no slow disk here; None: there can."""
    if os.getuid() != 0:
        return "only root may throttle a disk"
    if not disk_of(pg.dir):
        return f"{pg.dir} lies on no disk of its own that could be throttled"
    if not has_v2() and not (V1 / "blkio.throttle.read_iops_device").exists():
        return "the kernel has neither io.max nor blkio.throttle for us"
    return None


def descendants(pid):
    """A process and all below it."""
    found = [pid]
    for at in found:
        for task in Path(f"/proc/{at}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text(encoding="ascii").split()]
            except OSError:
                continue
    return found


class ColdDisk(threading.Thread):
    """From construction on the files of `pg` are cold; slow() limits reads, fast() ends that,
    finish() takes all of it away."""

    def __init__(self, pg):
        super().__init__(daemon=True)
        self.pg, self.v2, self.over = pg, has_v2(), threading.Event()
        self.device = disk_of(pg.dir)
        self.group = (V2 if self.v2 else V1) / f"pgweir-drill-{os.getpid()}"
        self.group.mkdir()
        for pid in descendants(pg.process.pid):
            self._write("cgroup.procs", pid)
        self.start()

    def _write(self, name, text):
        try:
            (self.group / name).write_text(f"{text}\n", encoding="ascii")
        except ProcessLookupError:
            pass  # a backend that ended meanwhile

    def run(self):
        while not self.over.wait(DROP_EVERY_S):
            for path in (self.pg.dir / "data" / "base").glob("*/*"):
                try:
                    fd = os.open(path, os.O_RDONLY)
                except OSError:
                    continue
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)

    def reads_n(self):
        """Read requests the group has made so far."""
        name = "io.stat" if self.v2 else "blkio.throttle.io_serviced"
        for line in (self.group / name).read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[:1] != [self.device]:
                continue
            if self.v2:
                return int(dict(w.split("=") for w in words[1:]).get("rios", 0))
            if words[1] == "Read":
                return int(words[2])
        return 0

    def slow(self, reads_per_s):
        if self.v2:
            self._write("io.max", f"{self.device} riops={reads_per_s}")
        else:
            self._write("blkio.throttle.read_iops_device", f"{self.device} {reads_per_s}")

    def fast(self):
        if self.v2:
            self._write("io.max", f"{self.device} riops=max")
        else:
            self._write("blkio.throttle.read_iops_device", f"{self.device} 0")

    def finish(self):
        """Gives the processes back to the group they came from, and removes ours."""
        self.over.set()
        self.join()
        self.fast()
        home = self.group.parent / "cgroup.procs"
        for pid in (self.group / "cgroup.procs").read_text(encoding="ascii").split():
            try:
                home.write_text(f"{pid}\n", encoding="ascii")
            except OSError:
                continue
        self.group.rmdir()
