#!/usr/bin/python3
"""make lint: what a compiler does not see, and the house does not want.

Format and clang-tidy are judged by the versions of Debian 12 (14); by others they are only shown,
because each version has its own mind. Everything else holds everywhere. clang-tidy's good verdicts
are kept in O/lint, by the content of the file and of all headers. One line a finding; the last line
is `lint: N passed, N failed`. Warnings (length of files and functions) do not count.
"""
import concurrent.futures
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

JUDGE_VERSION = 14
LAYERS = ["breaker", "pool", "config", "proxy", "bench", "tests"]  # each may include those before
# Inside proxy/: the rank of a file by its stem, or else by the first word of it. It includes files
# of its own rank or a lower one.
RANKS = [
    "ends log buf view wire sql scram stats vars version hash texts",
    "worker sock net ring tls dns",
    "client auth server prep relay gather owed route refusal hub listen_peer census gates stream "
    "pacer",
    "flow session hold door steer hosts hello grant drain cancel cull brake sweep hubs hours "
    "control baselines console admin status table command copyout metrics notify rows samples "
    "listen probe reload main",
]
TOP_LEVEL = {"proxy", "pool", "breaker", "config", "bench", "tests", "Makefile", "README.md",
             "LICENSE"}
BANNED = ("strcpy strncpy stpcpy strcat strncat sprintf vsprintf gets strtok atoi atol atoll atof "
          "alloca system popen tmpnam mktemp asctime ctime gmtime localtime rand srand "
          "gethostbyname inet_ntoa inet_addr").split()
# The pure core takes time and randomness as arguments and knows no sockets.
IMPURE = ("time clock_gettime gettimeofday random getrandom rand RAND_bytes socket connect accept "
          "send recv epoll_wait poll select sleep usleep nanosleep").split()
PURE = re.compile(r"^(breaker|pool|config)/|^proxy/(wire|sql|scram|view|buf)\w*\.[ch]$")
FILE_LINES, FUNCTION_LINES, PARAMETERS = 800, 60, 5  # aims: beyond them it is a warning
COLUMNS = 100

failures, warnings = [], []


def fail(where, what):
    failures.append(f"{where}: {what}")


def tree():
    """All files of the tree: what git knows, and what it would take in."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, check=False)
    if listed.returncode == 0:
        names = [name for name in listed.stdout.decode().split("\0") if name]
    else:  # an unpacked archive
        names = [str(path) for path in Path(".").rglob("*")
                 if path.is_file() and not str(path).startswith((".git/", "build/"))]
    return sorted(name for name in set(names) if Path(name).is_file())


def without_comments(text):
    """The code with comments and the inside of literals blanked, line by line as before."""
    def blank(match):
        found = match.group(0)
        if found.startswith(("//", "/*")):
            return re.sub(r"[^\n]", " ", found)
        return found[0] + " " * (len(found) - 2) + found[-1]

    return re.sub(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text,
                  flags=re.S)


# ---- the checks; each gets the files and reports through fail() -------------------------------


def check_top_level(files):
    for name in sorted({name.split("/")[0] for name in files}):
        if not name.startswith(".") and name not in TOP_LEVEL:
            fail(name, "does not belong at the top level")
    for folder in LAYERS:
        if f"{folder}/README.md" not in files:
            fail(folder, "has no README.md")


def rank_of(name):
    stem = Path(name).stem
    for word in (stem, stem.split("_")[0]):
        for rank, words in enumerate(RANKS):
            if word in words.split():
                return rank
    return None


def check_layers(files):
    c_files = [name for name in files if name.endswith((".c", ".h"))]
    for name in c_files:
        folder = name.split("/")[0]
        if folder not in LAYERS:
            fail(name, "C outside the layers")
            continue
        if folder == "proxy" and rank_of(name) is None:
            fail(name, "has no rank: give its first word one in tests/lint.py")
        for number, line in enumerate(Path(name).read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
            if not match:
                continue
            target = match.group(1)
            to = target.split("/")[0]
            if "/" not in target or to not in LAYERS:
                fail(f"{name}:{number}", f'"{target}" does not name folder and file')
            elif LAYERS.index(to) > LAYERS.index(folder):
                fail(f"{name}:{number}", f"{folder} may not include {target}")
            elif to == folder == "proxy" and None not in (rank_of(name), rank_of(target)) \
                    and rank_of(target) > rank_of(name):
                fail(f"{name}:{number}", f"rank {rank_of(name) + 1} may not include {target} "
                                         f"of rank {rank_of(target) + 1}")


def function_sizes(name, code):
    """Warns of long functions and long lists of parameters. `{` and `}` of a function stand in
    column one, which clang-format sees to."""
    begin, head = None, ""
    for number, line in enumerate(code, 1):
        if line == "{":
            begin = number
            first = re.search(r"\b(\w*[a-z]\w*)\s*\((.*)\)", " ".join(head.split()))
            title, parameters = (first.group(1), first.group(2)) if first else ("?", "")
            if parameters.count(",") >= PARAMETERS:
                warnings.append(f"{name}:{number}: {title}() has {parameters.count(',') + 1} "
                                f"parameters (aim: {PARAMETERS})")
        elif line.startswith("}") and begin:
            if number - begin - 1 > FUNCTION_LINES:
                warnings.append(f"{name}:{begin}: {title}() has {number - begin - 1} lines "
                                f"(aim: {FUNCTION_LINES})")
            begin = None
        head = "" if not line.strip() or line[:1] in "}#" or line.endswith(";") else head + line


def check_c_house_rules(files):
    for name in files:
        if not name.endswith((".c", ".h")):
            continue
        text = Path(name).read_text()
        lines = text.splitlines()
        own = name[:-2] + ".h"
        header = Path(own).read_text() if own in files else ""
        if not text.startswith("/*") and not header.startswith("/*"):
            fail(name, "neither it nor its header begins with the comment that says what it is for")
        if len(lines) > FILE_LINES:
            warnings.append(f"{name}: {len(lines)} lines (aim: {FILE_LINES})")
        if name.endswith(".h") and "No include guard" not in text.split("*/")[0]:
            guard = re.sub(r"\W", "_", "/".join(name.split("/")[-2:])).upper()
            if f"#ifndef {guard}\n#define {guard}\n" not in text:
                fail(name, f"has no include guard {guard}")
        if name.endswith(".c") and own in files:
            first = re.search(r'^#include\s+(\S+)', text, re.M)
            if not first or first.group(1) != f'"{own}"':
                fail(name, f'does not include "{own}" first')
        code = without_comments(text).splitlines()
        function_sizes(name, code)
        for number, line in enumerate(code, 1):
            for word in re.findall(r"(?<![\w.>])(\w+)\s*\(", line):
                if word in BANNED:
                    fail(f"{name}:{number}", f"{word}() is banned")
                elif word in IMPURE and PURE.search(name):
                    fail(f"{name}:{number}", f"{word}() in the pure core")


def check_text(files):
    """What holds for every text file."""
    secret_paths = re.compile("/(?:" + "|".join(("wo" + "rk", "ro" + "ot", "ho" + r"me/\w"))
                              + r")(?:/|\b)|/tmp/" + "o-")
    undone = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"))
                        + r")\b")
    for name in files:
        raw = Path(name).read_bytes()
        if b"\0" in raw or "/corpus/" in name:
            continue
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            fail(name, "is not UTF-8")
            continue
        if text and not text.endswith("\n"):
            fail(name, "does not end with a newline")
        for number, line in enumerate(text.split("\n"), 1):
            at = f"{name}:{number}"
            if "\t" in line and Path(name).name != "Makefile":
                fail(at, "tab")
            if line.rstrip() != line and not name.endswith(".trace"):
                fail(at, "blank at the end of the line")
            if undone.search(line):
                fail(at, "something is left undone")
            if secret_paths.search(line):
                fail(at, "a path of one machine")
            if len(line) > COLUMNS and name.endswith((".py", ".sh", ".c", ".h")):
                fail(at, f"{len(line)} columns")


def check_scripts(files):
    for name in files:
        first = Path(name).read_bytes()[:40]
        if name.endswith(".sh") or (first.startswith(b"#!") and b"bash" in first):
            done = subprocess.run(["bash", "-n", name], capture_output=True, text=True, check=False)
            if done.returncode:
                fail(name, done.stderr.strip())
        if name.endswith(".py"):
            try:
                compile(Path(name).read_text(), name, "exec")
            except SyntaxError as error:
                fail(name, str(error))
        if first.startswith(b"#!") and not os.access(name, os.X_OK):
            fail(name, "begins with #! and is not executable")


def version_of(tool):
    try:
        said = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"version (\d+)", said.stdout)
    return int(found.group(1)) if found else None


def report(tool, lines):
    """Findings of a tool of the judging version count, others are shown."""
    if version_of(tool) == JUDGE_VERSION:
        failures.extend(lines)
    else:
        warnings.extend(lines)


def check_format(files):
    if version_of("clang-format") is None:
        fail("clang-format", "is not installed (make deps)")
        return
    c_files = [name for name in files if name.endswith((".c", ".h"))]
    done = subprocess.run(["clang-format", "--dry-run", *c_files], capture_output=True, text=True,
                          check=False)
    bad = sorted(set(re.findall(r"^([^:\s]+):\d+:\d+: warning", done.stderr, re.M)))
    report("clang-format", [f"{name}: not as clang-format has it (make format)" for name in bad])


def tidy_one(name, cache, salt):
    stamp = cache / hashlib.sha256(salt + Path(name).read_bytes() + name.encode()).hexdigest()
    if stamp.exists():
        return []
    done = subprocess.run(["clang-tidy", "--quiet", name, "--", "-std=c17", "-D_GNU_SOURCE", "-I.",
                           "-isystem", "/usr/include/postgresql", "-pthread"],
                          capture_output=True, text=True, check=False)
    here = os.getcwd() + "/"
    said = [line.replace(here, "") for line in done.stdout.splitlines()
            if re.search(r": (warning|error): ", line)]
    kept = [line for line in said if not lost_in_a_container(line)]
    if not kept and (said or done.returncode == 0):
        stamp.touch()
    if not said and done.returncode:
        return [f"{name}: error: {done.stderr[-300:]}"]
    return kept


def lost_in_a_container(finding):
    """The analyzer does not follow the macros of uthash and utlist, and sees freed memory and null
    pointers in each loop over them."""
    at = re.match(r"(.+?):(\d+):\d+: .*\[clang-analyzer", finding)
    line = Path(at.group(1)).read_text().splitlines()[int(at.group(2)) - 1] if at else ""
    return re.search(r"\b(HASH|DL|LL)_[A-Z]", line) is not None


def check_tidy(files):
    if version_of("clang-tidy") is None:
        fail("clang-tidy", "is not installed (make deps)")
        return
    cache = Path(os.environ.get("O", "build")) / "lint"
    cache.mkdir(parents=True, exist_ok=True)
    salt = hashlib.sha256(Path(".clang-tidy").read_bytes())
    for name in files:
        if name.endswith(".h"):
            salt.update(name.encode() + Path(name).read_bytes())
    # Tests include the sources they look into, so that those would be judged twice.
    sources = [name for name in files if name.endswith(".c") and not name.startswith("tests/")]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        said = pool.map(lambda name: tidy_one(name, cache, salt.digest()), sources)
    report("clang-tidy", sorted({line for lines in said for line in lines}))


CHECKS = [check_top_level, check_layers, check_c_house_rules, check_text, check_scripts,
          check_format, check_tidy]


def main():
    os.chdir(Path(__file__).resolve().parent.parent)
    files = tree()
    passed = failed = 0
    chosen = [c for c in CHECKS if not sys.argv[1:] or c.__name__[6:] in sys.argv[1:]]
    for check in chosen:
        before = len(failures)
        check(files)
        found = len(failures) - before
        passed, failed = passed + (not found), failed + bool(found)
        print(f"{'FAIL' if found else 'ok':4} lint.{check.__name__[6:]}"
              + (f": {found} findings" if found else ""), flush=True)
        for line in failures[before:]:
            print(f"     {line}")
    for line in warnings:
        print(f"     (warning) {line}")
    print(f"lint: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
