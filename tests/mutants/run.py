#!/usr/bin/env python3
"""Breaks the code one small change at a time and sees that the tests notice.

    tests/mutants/run.py [--only SUBSTRING] [--jobs-env] [--target-dir FOLDER] [--why] [--list]

Each entry of mutants.toml names a rule of the fold, a file, a text that occurs in it exactly once, and what to put in its
place. The tracked files are copied to a temporary folder; nothing is changed here. Exit code 1 if a mutant survives,
does not apply or does not build, or if the tests fail without any. Python 3.11 and its standard library are enough.
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

# Cheapest first: where, which tests, how many random histories. The first that fails ends a mutant.
STAGES = [
    ("projections/", ["-p", "rollcall-projections", "--lib"], None),
    # The store's own tests are about bytes on the disk, not about the fold.
    ("src/", ["-p", "rollcall", "--lib", "--", "--skip", "log::store::"], None),
    ("", ["--test", "blackbox", "--", "laws::stories::every"], None),
    ("", ["--test", "blackbox", "--", "calls::events", "calls::roles", "calls::operators", "calls::history", "calls::diff", "calls::changes", "model::audit"], None),
    ("", ["--test", "blackbox", "--", "equal_model"], 10),
    ("", ["--test", "blackbox", "--", "laws::", "calls::webhooks", "faults::"], 100),
]


def copy_tracked(folder):
    """Copies the files that git knows, as they stand in the working tree."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)


def cargo(tree, environment, arguments):
    """Runs `cargo test`; the exit code, or None if it took too long, and all that was printed."""
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


def run_tests(tree, environment, file):
    """What the tests of `file` say: the name of the first that fails, None if all pass; and the output."""
    for prefix, arguments, histories in STAGES:
        if file and not file.startswith(prefix):
            continue
        asked = environment if histories is None else {**environment, "ROLLCALL_MODEL_HISTORIES": str(histories)}
        code, output = cargo(tree, asked, arguments)
        if code is None:
            return "hangs", output
        if code:
            if "could not compile" in output:
                return "does not build", output
            failed = re.findall(r"^test (\S+) \.\.\. FAILED$", output, re.MULTILINE)
            return failed[0] if failed else "aborts", output
    return None, ""


def load(only):
    mutants = tomllib.loads((HERE / "mutants.toml").read_text())["mutant"]
    return [mutant for mutant in mutants if only in f"{mutant['rule']}: {mutant['says']} ({mutant['file']})"]


def first_reason(output):
    """The first panic's or error's text, on one line."""
    found = re.search(r"panicked at [^\n]*\n((?:.+\n){1,3})|^error[^\n]*\n[^\n]*", output, re.MULTILINE)
    return " ".join((found.group(1) or found.group(0)).split())[:400] if found else "?"


def main():
    parser = argparse.ArgumentParser(description="Breaks the code one small change at a time and sees that the tests notice.")
    parser.add_argument("--only", default="", metavar="SUBSTRING", help="only mutants whose rule, description or file contains this")
    parser.add_argument("--jobs-env", action="store_true", help="build with CARGO_BUILD_JOBS as it is, not with one job")
    parser.add_argument("--target-dir", metavar="FOLDER", help="keep what is compiled here, for the next time")
    parser.add_argument("--why", action="store_true", help="print what the test that noticed says")
    parser.add_argument("--list", action="store_true", help="print the mutants and stop")
    options = parser.parse_args()
    mutants = load(options.only)
    if options.list or not mutants:
        for mutant in mutants:
            print(f"{mutant['rule']:<6} {mutant['file']:<34} {mutant['says']}")
        return 0 if mutants else 1

    with tempfile.TemporaryDirectory(prefix="mutants-") as name:
        folder = pathlib.Path(name)
        tree = folder / "tree"
        copy_tracked(tree)
        environment = {**os.environ, "CARGO_TARGET_DIR": os.path.abspath(options.target_dir or folder / "target")}
        environment.pop("ROLLCALL_MODEL_FIRST", None)
        if not options.jobs_env:
            environment["CARGO_BUILD_JOBS"] = "1"

        begun = time.monotonic()
        caught_by, output = run_tests(tree, environment, "")
        print(f"unchanged: {caught_by or 'passes'} ({time.monotonic() - begun:.0f} s)", flush=True)
        if caught_by:
            print(output[-3000:])
            return 1

        bad = 0
        print(f"{'rule':<6} {'seconds':>7}  {'caught by':<64} mutant", flush=True)
        for mutant in mutants:
            path = tree / mutant["file"]
            text = path.read_text()
            begun, output = time.monotonic(), ""
            if text.count(mutant["find"]) != 1:
                verdict = f"DOES NOT APPLY: found {text.count(mutant['find'])} times"
                bad += 1
            else:
                path.write_text(text.replace(mutant["find"], mutant["replace"]))
                caught_by, output = run_tests(tree, environment, mutant["file"])
                path.write_text(text)
                verdict = {None: "SURVIVES", "does not build": "DOES NOT BUILD"}.get(caught_by, caught_by)
                bad += verdict.isupper()
            print(f"{mutant['rule']:<6} {time.monotonic() - begun:>7.0f}  {verdict:<64} {mutant['says']}", flush=True)
            if output and (options.why or verdict == "DOES NOT BUILD"):
                print(f"{'':<16}{first_reason(output)}", flush=True)
        print(f"{len(mutants)} mutants, {len(mutants) - bad} caught, {bad} not")
        return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
