"""How bench.py measures one run: transactions of a pgbench between two of its progress lines, or of
the cheapest load there is; system calls, instructions; a server that does no work."""
import json
import os
import re
import shutil
import subprocess
import time
import urllib.request

import lab

CPUS = lab.split_cpus()


class Pgbench:
    """A select-only pgbench whose progress lines cut out the time after all clients are connected:
    `window()` runs between the first line and the last."""

    def __init__(self, conninfo, clients, *more, seconds=2, pinned=True, password=None):
        env = {**os.environ, "PGPASSWORD": password} if password else None
        self.seconds = seconds
        self.process = lab.start(
            ["pgbench", "-n", "-S", "-P", 1, "-T", int(seconds) + 10, "-c", clients,
             "-j", min(clients, 2), *more, conninfo], cpus=CPUS[0] if pinned else None,
            **lab.PIPES, env=env)
        self.said = []

    def progress(self):
        """Transactions a second of the next progress line, and when it came."""
        for line in self.process.stderr:
            if line.startswith("progress:"):
                return float(line.split()[3]), time.monotonic()
            self.said.append(line)
        self.process.wait()
        raise lab.Trouble(f"pgbench ended early: {' '.join(self.said)[-600:]}")

    def window(self, read=lambda: 0):
        """(transactions, seconds, growth of what read() tells) between first and last line."""
        _, last = self.progress()
        begun, before, transactions = last, read(), 0.0
        for _ in range(int(self.seconds)):
            tps, now = self.progress()
            transactions += tps * (now - last)
            last = now
        grown = read() - before
        self.finish()
        return transactions, last - begun, grown

    def finish(self):
        """Ends it; trouble when any of its clients met an error."""
        self.process.terminate()
        self.said += self.process.communicate()[1].splitlines()
        errors = [line for line in self.said if "error" in line or "aborted" in line]
        if errors:
            raise lab.Trouble(f"pgbench: {errors[0]}")


class Syscalls:
    """Counts the system calls of a process: perf where the kernel lets us, strace otherwise (which
    slows the proxy down, so that it finds more to do at each turn)."""

    def __init__(self):
        probe = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "true"]
        try:
            works = subprocess.run(probe, capture_output=True, check=False).returncode == 0
        except OSError:
            works = False
        self.tool = "perf" if works else "strace" if shutil.which("strace") else None

    def begin(self, pid):
        if self.tool == "perf":
            command = ["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", pid]
        else:
            command = ["strace", "-c", "-f", "-qq", "-U", "calls,name", "-p", pid]
        return lab.start(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def end(self, process):
        process.send_signal(2)
        said = process.communicate(timeout=30)[1]
        if self.tool == "perf":
            return float(said.strip().splitlines()[-1].split(",")[0])
        return sum(float(line.split()[0]) for line in said.splitlines()
                   if len(line.split()) == 2 and line.split()[0].isdigit()
                   and line.split()[1] != "total")


def count_calls(load, counter, pid):
    """System calls a transaction. Counter and progress lines do not start at the same instant:
    both are taken as rates over their own time."""
    load.progress()
    tracer = counter.begin(pid)
    time.sleep(0.25)  # until it is attached
    begun = time.monotonic()
    tps = [load.progress()[0] for _ in range(int(load.seconds))]
    length = time.monotonic() - begun
    counted = counter.end(tracer)
    load.finish()
    return counted / (length + 0.25) / (sum(tps) / len(tps))


def instructions(pooler, conninfo, protocol, transactions):
    """User-space instructions of the worker of a pooler that runs under callgrind, whatever else
    the machine does. What the control loop does by the clock is not in them."""
    pooler.start()
    lab.run(["pgbench", "-n", "-S", "-c", 4, "-j", 1, "-M", protocol, "-t", transactions // 4,
             conninfo])
    lab.stop(pooler.process, 3, 60)
    totals = []
    for path in pooler.dir.glob("callgrind.*"):
        found = re.search(r"^(?:totals|summary): (\d+)", path.read_text(), re.M)
        if found and not path.name.endswith("-01"):  # the first thread is the control loop
            totals.append(int(found[1]))
    pooler.stop()
    if not totals:
        raise lab.Trouble(f"callgrind counted nothing: see {pooler.log_path}")
    return max(totals)


class Stub:
    """A PostgreSQL that does no work (stub.c), in place of a real one."""

    def __init__(self, seconds=600):
        self.port = lab.free_port()
        self.process = lab.start([lab.tool("stub"), self.port, f"--seconds={seconds}"])
        lab.wait_until("the stub listens", self._listens)

    def _listens(self):
        try:
            lab.connect(self.port).close()
        except OSError:
            return False
        return True

    def stop(self):
        lab.stop(self.process)


def flood(pooler, clients, seconds, read=None, sql="SELECT 1", cpus=CPUS[0]):
    """What flood.c counted through a Unix socket, and how much each of the values that read() tells
    grew meanwhile."""
    process = lab.start([lab.tool("flood"), pooler.conninfo(unix=True), f"--conns={clients}",
                         f"--sql={sql}", f"--seconds={seconds}"], cpus=cpus, **lab.PIPES)
    said = process.stderr.readline()  # "ready": its time begins
    before = read() if read else ()
    line = process.stdout.readline()
    after = read() if read else ()
    said += process.communicate(timeout=60)[1]
    if process.returncode or not line:
        raise lab.Trouble(f"flood through {pooler.name}: {said.strip()[-400:]}")
    span = json.loads(line)
    if span["errors"]:
        raise lab.Trouble(f"flood through {pooler.name}: {span['errors']} errors")
    return span, tuple(b - a for a, b in zip(before, after))


def metric(pooler, name):
    """A figure of the status port, over all labels."""
    url = f"http://127.0.0.1:{pooler.status_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines
               if re.match(rf"{re.escape(name)}[{{ ]", line))
