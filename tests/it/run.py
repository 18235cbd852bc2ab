#!/usr/bin/python3
"""Runs the integration cases: real PostgreSQL, real clients, one fresh pgweir each.

    tests/it/run.py [--bin build/pgweir] [--small] [--jobs N] [--list] [PATTERN...]

A PATTERN is part of a file's or a case's name. --small scales sizes down, for sanitizer builds.
PGWEIR_BIN names the binary as well; with PgBouncer's, the cases it cannot pass are skipped. One
line a case, what failed at the end, and last `integration: N passed, N failed[, N skipped]`.
"""
import argparse
import importlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import harness  # noqa: E402


class TooLong(BaseException):
    """A case ran out of its time. Not an Exception, so that no case can swallow it."""


def alarm(*_):
    raise TooLong


def run_case(entry, pg, opts, directory):
    """(verdict, text) of one case."""
    if entry["beyond"] and not opts.is_weir:
        return "skip", f"beyond PgBouncer: {entry['beyond']}"
    t = harness.Case(pg, opts.binary, opts.is_weir, 0 if opts.small else 1, directory)
    signal.signal(signal.SIGALRM, alarm)
    signal.alarm(entry["seconds"] * (4 if opts.small else 1))
    try:
        entry["run"](t)
        t.finish()
        verdict = "ok", "; ".join(t.notes)
    except harness.Skip as why:
        verdict = "skip", str(why)
    except TooLong:
        verdict = "FAIL", f"not done after {entry['seconds']} s\n{traceback.format_exc(limit=-4)}"
    except Exception:
        verdict = "FAIL", traceback.format_exc(limit=-5)
    signal.alarm(0)
    if verdict[0] == "FAIL":
        for weir in t.weirs:
            state = weir.process.poll() if weir.process else "never started"
            verdict = "FAIL", (f"{verdict[1]}\npgweir {'runs' if state is None else state}; "
                               f"end of its log:\n{weir.log()[-2500:]}")
    t.end()
    if verdict[0] != "FAIL" or not opts.keep:
        shutil.rmtree(t.dir, ignore_errors=True)
    return verdict


def worker(index, todo, results, opts):
    """One process with one PostgreSQL; takes cases until there are none."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    directory = Path(opts.dir) / f"job{index}"
    directory.mkdir(mode=0o755)
    harness.give_away(directory)
    pg = harness.Postgres(directory / "pg")
    try:
        pg.start().populate()
        while True:
            at = todo.get()
            if at is None:
                break
            began = time.monotonic()
            verdict, text = run_case(harness.CASES[at], pg, opts, directory)
            results.put((at, verdict, text, time.monotonic() - began))
            if verdict == "FAIL":  # what a failed case left open must not fail the next one
                pg.stop(signal.SIGQUIT)
                pg.start()
    finally:
        pg.stop()
        results.put(None)


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", default=os.environ.get("PGWEIR_BIN", "build/pgweir"))
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep the folder of failed cases")
    parser.add_argument("patterns", nargs="*")
    return parser.parse_args()


def prepare(opts):
    """A folder of the run, and in it a copy of the binary that an unprivileged user may execute."""
    opts.dir = tempfile.mkdtemp(prefix="pgweir-it-")
    os.chmod(opts.dir, 0o755)
    opts.binary = str(Path(opts.dir) / "pgweir")
    shutil.copyfile(opts.bin, opts.binary)
    os.chmod(opts.binary, 0o755)
    version = harness.output_of([*harness.as_postgres(), opts.binary, "--version"])[1]
    opts.is_weir = version.lower().startswith("pgweir")


def run_all(chosen, opts):
    context = multiprocessing.get_context("fork")
    todo, results = context.Queue(), context.Queue()
    jobs = max(1, min(opts.jobs, len(chosen)))
    for at in chosen:
        todo.put(at)
    for _ in range(jobs):
        todo.put(None)
    workers = [context.Process(target=worker, args=(i, todo, results, opts)) for i in range(jobs)]
    for process in workers:
        process.start()
    counts, failed, seen, running = {"ok": 0, "FAIL": 0, "skip": 0}, [], set(), jobs
    while running:
        result = results.get()
        if result is None:
            running -= 1
            continue
        at, verdict, text, seconds = result
        entry = harness.CASES[at]
        name = f"{entry['file']}.{entry['name']}"
        counts[verdict] += 1
        seen.add(at)
        first = text.strip().splitlines()[0] if text.strip() and verdict != "FAIL" else ""
        print(f"{verdict:4} {name:68} {seconds:5.1f} s  {first}".rstrip(), flush=True)
        if verdict == "FAIL":
            failed.append((name, text))
            print(text, flush=True)
    for process in workers:
        process.join()
    for at in set(chosen) - seen:
        counts["FAIL"] += 1
        failed.append((harness.CASES[at]["name"], "never ran"))
    return counts, failed


def main():
    opts = options()
    for path in sorted(Path(__file__).resolve().parent.glob("it_*.py")):
        importlib.import_module(path.stem)
    chosen = [i for i, entry in enumerate(harness.CASES)
              if (entry["small"] or not opts.small)
              and (not opts.patterns
                   or any(p in f"{entry['file']}.{entry['name']}" for p in opts.patterns))]
    if opts.list or not chosen:
        for i in chosen:
            print(f"{harness.CASES[i]['file']}.{harness.CASES[i]['name']}")
        return 0 if chosen else 2
    prepare(opts)
    try:
        counts, failed = run_all(chosen, opts)
    finally:
        if not opts.keep:
            shutil.rmtree(opts.dir, ignore_errors=True)
    if failed:
        print("\nfailed: " + ", ".join(name for name, _ in failed))
    skipped = f", {counts['skip']} skipped" if counts["skip"] else ""
    print(f"integration: {counts['ok']} passed, {counts['FAIL']} failed{skipped}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
