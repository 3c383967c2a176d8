#!/usr/bin/env python3
"""Breaks the code one small change at a time and expects the tests to notice.

    tests/mutants/run.py [--only SUBSTRING] [--target-dir FOLDER] [--check]

Each entry of mutants.toml names a rule of the fold, a file, a text that occurs in it exactly once
(white space does not count), and what to put in its place. The tracked files are copied to a
temporary folder; nothing is changed here. Exit code 1 if a mutant survives, does not apply or does
not build, or if the tests fail without any. `--check` only sees that each mutant applies.
"""

import argparse
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# A mutant that makes the tests hang is caught as well.
STAGE_SECONDS_MAX = 900

# Cheapest first: the folder of the mutant, and which tests. The first that fails ends a mutant.
STAGES = [
    ("projections/", ["-p", "rollcall-projections", "--lib"]),
    # The log's own tests are about bytes on the disk, not about the fold.
    ("src/", ["-p", "rollcall", "--lib", "--", "--skip", "log::"]),
    ("", ["-p", "rollcall", "--test", "blackbox", "--", "rules::", "laws::stories"]),
    ("", ["-p", "rollcall", "--test", "blackbox", "--", "calls::", "laws::", "faults::"]),
]


def copy_tracked(folder):
    """Copies the files that git knows, as they are in the working tree."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def places(mutant, text):
    """Returns where the mutant's text occurs, whatever the white space."""
    tokens = re.findall(r"\w+|[^\w\s]", mutant["find"])
    return list(re.finditer(r"\s*".join(map(re.escape, tokens)), text))


def cargo(tree, environment, arguments):
    """Runs `cargo test`. Returns its exit code, or None if it took too long, and its output."""
    process = subprocess.Popen(
        ["cargo", "test", "--offline", *arguments],
        cwd=tree,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=STAGE_SECONDS_MAX)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        return None, output


def first_failure(tree, environment, file):
    """Returns the first test that fails, or None, and the output of its stage."""
    for folder, arguments in STAGES:
        if file and not file.startswith(folder):
            continue
        code, output = cargo(tree, environment, arguments)
        if code is None:
            return "hangs", output
        if code:
            if "could not compile" in output:
                return "DOES NOT BUILD", output
            failed = re.findall(r"^test (\S+) \.\.\. FAILED$", output, re.MULTILINE)
            return failed[0] if failed else "aborts", output
    return None, ""


def verdict_of(mutant, tree, environment):
    """Returns what becomes of the mutant; in capitals if the tests did not catch it."""
    path = tree / mutant["file"]
    text = path.read_text()
    found = places(mutant, text)
    if len(found) != 1:
        return f"DOES NOT APPLY ({len(found)})"
    path.write_text(text[: found[0].start()] + mutant["replace"] + text[found[0].end() :])
    caught_by, output = first_failure(tree, environment, mutant["file"])
    path.write_text(text)
    if caught_by == "DOES NOT BUILD":
        print(output[-2000:])
    return caught_by or "SURVIVES"


def check(mutants):
    """Prints the mutants that do not apply, and returns the exit code."""
    bad = 0
    for mutant in mutants:
        path = ROOT / mutant["file"]
        found = len(places(mutant, path.read_text())) if path.is_file() else 0
        if found != 1:
            bad += 1
            print(f"rule {mutant['rule']}: {mutant['file']}: found {found} times: {mutant['find']}")
    print(f"{len(mutants)} mutants, {bad} do not apply")
    return 1 if bad else 0


def run(mutants, target):
    """Runs every mutant in a copy of the tree, and returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        tree = pathlib.Path(name) / "tree"
        copy_tracked(tree)
        target = os.path.abspath(target or pathlib.Path(name) / "target")
        environment = {**os.environ, "CARGO_TARGET_DIR": target}
        begun = time.monotonic()
        caught_by, output = first_failure(tree, environment, "")
        print(f"unchanged: {caught_by or 'passes'} ({time.monotonic() - begun:.0f} s)", flush=True)
        if caught_by:
            print(output[-3000:])
            return 1
        bad = 0
        for mutant in mutants:
            begun = time.monotonic()
            verdict = verdict_of(mutant, tree, environment)
            bad += verdict.split(" (")[0].isupper()
            seconds = time.monotonic() - begun
            print(f"{mutant['rule']:<6}{seconds:>4.0f} s  {mutant['says']}: {verdict}", flush=True)
        print(f"{len(mutants)} mutants, {bad} not caught")
        return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only these mutants")
    parser.add_argument("--target-dir", metavar="FOLDER", help="keep what is compiled here")
    parser.add_argument("--check", action="store_true", help="only see that each mutant applies")
    options = parser.parse_args()
    mutants = tomllib.loads((HERE / "mutants.toml").read_text())["mutant"]
    mutants = [m for m in mutants if options.only in f"{m['rule']}: {m['says']} ({m['file']})"]
    return check(mutants) if options.check else run(mutants, options.target_dir)


if __name__ == "__main__":
    sys.exit(main())
