#!/usr/bin/python3
"""make test: everything that decides whether the tree is good, cheapest first.

Lint, both compilers, unit tests, simulator, fuzz targets, integration, a short drill; then the same
under AddressSanitizer with UndefinedBehaviorSanitizer, and under ThreadSanitizer. All of it runs
even after something failed. What a stage prints goes to O/test/NAME.log; of one that failed, also
to the terminal. The last line is `N passed, N failed`, alone; the exit status says the same.

    tests/all.py [STAGE...]     some stages only (their names are printed)
"""
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = Path(os.environ.get("O") or "build")
SIM_SEEDS, SIM_SEEDS_SAN = "1..2000", "1..150"
FUZZ_SECONDS = 5
JOBS = max(2, os.cpu_count() or 2)
TAIL_LINES = 120  # of the output of a stage that failed

ASAN, TSAN = "address,undefined", "thread"
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    "TSAN_OPTIONS": "second_deadlock_stack=1:exitcode=66",
    "LC_ALL": "C.UTF-8",
}


class Log:
    """Runs the commands of one stage; their output goes to a file and stays readable."""

    def __init__(self, name):
        (OUT / "test").mkdir(parents=True, exist_ok=True)
        self.path = OUT / "test" / f"{name}.log"
        self.file = self.path.open("w")
        self.passed = self.failed = 0
        self.note = ""

    def run(self, *command, seconds=900, env=None):
        """(exit status, output)"""
        command = [str(part) for part in command]
        self.file.write("$ " + " ".join(command) + "\n")
        self.file.flush()
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, timeout=seconds, check=False,
                                  env={**os.environ, **ENVIRONMENT, **(env or {})})
            status, output = done.returncode, done.stdout.decode(errors="replace")
        except subprocess.TimeoutExpired as error:
            status, output = -1, (error.stdout or b"").decode(errors="replace")
            output += f"\nnot done after {seconds} s\n"
        except FileNotFoundError:
            status, output = 127, f"{command[0]} was not built\n"
        self.file.write(output + ("" if status == 0 else f"(exit status {status})\n"))
        self.file.flush()
        return status, output

    def count(self, good):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)

    def count_summary(self, status, output, name):
        """Adds up a last line `NAME: N passed, N failed`."""
        found = re.findall(rf"^{name}: (\d+) passed, (\d+) failed(.*)$", output, re.M)
        if not found:
            self.count(False)
            return
        passed, failed, rest = found[-1]
        self.passed, self.failed = self.passed + int(passed), self.failed + int(failed)
        self.note = rest.strip(", ")
        if status and not int(failed):
            self.count(False)


def make(log, *arguments, san="", out=OUT):
    status, _ = log.run("make", "-sk", f"-j{JOBS}", f"O={out}", f"SAN={san}", *arguments,
                        seconds=1200)
    log.count(status == 0)
    return status == 0


def without_randomisation(log):
    """ThreadSanitizer of these compilers cannot live with all the randomness of newer kernels."""
    try:
        return ["setarch", "-R"] if log.run("setarch", "-R", "true")[0] == 0 else []
    except OSError:
        return []


# ---- stages ----------------------------------------------------------------------------------


def lint(log):
    log.count_summary(*log.run(ROOT / "tests" / "lint.py", env={"O": str(OUT)}), "lint")


def build_gcc(log):
    make(log, "CC=gcc", "everything")


def build_clang(log):
    make(log, "CC=clang", "everything", "fuzz-build", out=OUT / "clang")


def install(log):
    """Into a folder of its own; what was installed must start."""
    target = OUT / "test" / "installed"
    shutil.rmtree(target, ignore_errors=True)
    if make(log, f"DESTDIR={target.resolve()}", "PREFIX=/usr", "install"):
        log.count(log.run(target / "usr/bin/pgweir", "--version")[0] == 0)


def run_units(log, binaries, prefix=()):
    for binary in sorted(binaries):
        status, output = log.run(*prefix, binary, seconds=300)
        passed = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", output))
        failed = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", output))
        log.passed, log.failed = log.passed + passed, log.failed + failed
        if (status != 0 and not failed) or passed + failed == 0:
            log.count(False)  # it crashed, or tests nothing


def units_of(out):
    return [out / "tests" / path.stem for path in (ROOT / "tests").glob("t_*.c")]


def unit(log):
    run_units(log, units_of(OUT))


def simulator(log):
    """The pool against its invariants; pool and breakers against goals in a modelled overload."""
    log.count(log.run(OUT / "tests" / "sim", "--seeds", SIM_SEEDS)[0] == 0)
    log.count(log.run(OUT / "bench" / "sim", "--check")[0] == 0)
    log.note = f"seeds {SIM_SEEDS}"


def fuzz(log):
    """Each target, briefly: what it finds in so short a time is really wrong."""
    targets = sorted((ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
    for source in targets:
        corpus = OUT / "test" / "corpus" / source.stem
        corpus.mkdir(parents=True, exist_ok=True)
        seeds = ROOT / "tests" / "fuzz" / "corpus" / source.stem.removeprefix("fuzz_")
        status, _ = log.run(OUT / "clang" / "fuzz" / source.stem, f"-max_total_time={FUZZ_SECONDS}",
                            "-timeout=10", "-rss_limit_mb=1024", "-verbosity=0",
                            f"-artifact_prefix={OUT}/test/", corpus,
                            *([seeds] if seeds.is_dir() else []), seconds=120)
        log.count(status == 0)
    if not targets:
        log.count(False)


def integration(log):
    log.count_summary(*log.run(ROOT / "tests/it/run.py", "--bin", OUT / "pgweir"), "integration")


def drill(log):
    """Each scenario of the drill can be staged; what it would show takes longer."""
    status, output = log.run(ROOT / "bench" / "drill.py", env={"QUICK": "1", "O": str(OUT)})
    log.passed += len(re.findall(r"^ok ", output, re.M))
    log.failed += len(re.findall(r"^FAILED", output, re.M))
    if status and not log.failed:
        log.count(False)


def sanitized(log, name, prefix, seeds, patterns):
    out = OUT / name.replace(",", "-")
    if not make(log, "everything", san=name, out=out):
        return
    run_units(log, units_of(out), prefix)
    log.count(log.run(*prefix, out / "tests" / "sim", "--seeds", seeds)[0] == 0)
    log.count_summary(*log.run(*prefix, ROOT / "tests/it/run.py", "--small", "--bin",
                               out / "pgweir", *patterns), "integration")


def address_sanitizer(log):
    sanitized(log, ASAN, [], SIM_SEEDS_SAN, [])


def thread_sanitizer(log):
    """Unit tests and those integration cases in which loops meet."""
    sanitized(log, TSAN, without_randomisation(log), "1..20",
              ["it_basic", "it_prepared", "it_cancel", "it_modes", "it_faults", "it_console",
               "it_classes", "it_status", "it_state"])


STAGES = [lint, build_gcc, build_clang, install, unit, simulator, fuzz, integration,
          drill, address_sanitizer, thread_sanitizer]


def main():
    os.chdir(ROOT)
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):  # of the make that runs this
        os.environ.pop(name, None)
    chosen = [stage for stage in STAGES if not sys.argv[1:] or stage.__name__ in sys.argv[1:]]
    passed = failed = 0
    began = time.monotonic()
    for stage in chosen:
        log, at = Log(stage.__name__), time.monotonic()
        print(f"{stage.__name__} ...", flush=True)
        try:
            stage(log)
        except OSError as error:  # a full disk, say
            log.file.write(f"{type(error).__name__}: {error}\n")
            log.count(False)
        log.file.close()
        passed, failed = passed + log.passed, failed + log.failed
        print(f"{'FAIL' if log.failed else 'ok':4} {stage.__name__:20} {log.passed:5} passed "
              f"{log.failed:4} failed {time.monotonic() - at:7.1f} s  {log.note}", flush=True)
        if log.failed:
            lines = [line for line in log.path.read_text().splitlines()
                     if not line.startswith(("ok ", "skip", "[ RUN ", "[       OK", "[===="))]
            print(f"---- end of {log.path}, without what went well")
            print("\n".join(lines[-TAIL_LINES:]), flush=True)
            print("----")
    print(f"in {time.monotonic() - began:.0f} s; the logs are in {OUT}/test")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
