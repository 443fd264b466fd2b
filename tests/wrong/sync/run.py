#!/usr/bin/env python3
"""run.py - does the emulator see each defect that plant.py plants?

    tests/wrong/sync/run.py [--build FOLDER] [--seeds N] [--jobs N] [--only REGEX] [--verbose]

Runs the programs of FOLDER/emulated/planted (make planted) with one defect after the other, on small
cases of all that rungs meet: requests without keys, tails, odd and even numbers of tiles, tiles with
idle rows, more states than a warp merges alone, runs right behind one another. A defect is tried with
seed 1, 2, ... until the emulator reports it, or numbers are wrong; one of defects.def until the report
says what is expected there. What needless.def names must not be seen. And without a defect each case is
clean, with every seed that was used.

    --build FOLDER  where it was built (build)
    --seeds N       how many to try before a defect counts as missed (8)
    --jobs N        programs at a time (as many as there are cores)
    --only REGEX    only defects whose file, line and name it matches
    --verbose       all results, and what each report said; else only the bad ones

Exit codes: 0 all as it should be, 1 not, 2 wrong usage, 3 a program or a list cannot be used.
"""
import argparse
import concurrent.futures
import os
import re
import resource
import shlex
import subprocess
import sys
import tempfile
import threading
import time

import plant

# Small captures: what mla make is told.
CAPTURES = {
    # 01 and 02 take any dimensions, and are slow
    "narrow": "--kv-len=40,300,0,3 --qo-len=1,2,1,3 --heads=3 --causal --page-size=16 --ckv-dim=40 --kpe-dim=8",
    # tiles of 32: two, ten, none, three, two; 16 to 64 rows
    "ragged": "--kv-len=40,300,0,70,33 --qo-len=1,2,1,4,3 --heads=16 --causal --page-size=16",
    # more states than a warp merges alone
    "splits": "--kv-len=1060,70,1100 --heads=2 --page-size=64",
    # more items than the merge takes at once, the first and the last of many states
    "items": f"--kv-len=4300,{'129,' * 515}4400 --heads=1 --page-size=256 --ckv-dim=2 --kpe-dim=0",
}
# The cases that show defects of a source: programs and their words. Those of other rungs and of test
# kernels are made of their names.
CASES = {
    "01_naive.cu": ["mla check -k 01 narrow.h5"],
    "02_splitk.cu": ["mla check -k 02 --fixed-split=256 narrow.h5"],  # parts of more keys than threads
    "06_pipelined.cu": ["mla check -k 06 ragged.h5", "again 06"],
    "merge.cu": ["mla check -k 03 --fixed-split=32 splits.h5", "mla check -k 02 --fixed-split=128 items.h5",
                 "again 08"],
    "tile_sm80.cuh": ["mla check -k 07 ragged.h5", "mla check -k 08 ragged.h5", "again 08"],
    "reduce.cuh": ["mla check -k 01 narrow.h5", "kernels plain"],
}
REPORT = re.compile(r"^emulator: (?:seed \d+: )?(.*)$", re.M)
WAIVED = re.compile(r"\[waived\]|waived:")
# What a program's exit code says; mla check and the test kernels agree.
CLEAN, WRONG, REPORTS = 0, 1, 70
NEEDLESS_SEEDS = 1  # what is seen at all, seed 1 nearly always sees
LIMIT = 60  # seconds; none of these cases takes more than a few


def cases_of(file):
    name, _ = os.path.splitext(os.path.basename(file))
    if os.path.basename(file) in CASES:
        return CASES[os.path.basename(file)]
    if file.startswith("tests/emulated/"):
        return [f"kernels {name}"]
    return [f"mla check -k {name} ragged.h5"]


class Unusable(Exception):
    """A program that is not there or does not do what it must: a sentence."""


class Outcome:
    """How a run ended; code None: not at all. report: what it said first; said: all of it."""

    def __init__(self, code, said):
        reports = [" ".join(r.split()) for r in REPORT.findall(said) if not WAIVED.search(r)]
        self.code, self.said = code, said
        if code == CLEAN:
            self.report = ""
        elif reports:  # one that ends with a colon goes on in the next line
            self.report = " ".join(reports[:2] if reports[0].endswith(":") else reports[:1])
        elif code is None:
            self.report = f"nothing for {LIMIT} seconds"
        else:
            self.report = "wrong answer" if code == WRONG else f"ended with {code}"
        if code in (WRONG, REPORTS) and re.search(r"\bFAIL", said):
            self.said += "\nwrong answer"

    @property
    def seen(self):
        """By the emulator or by what was computed; a crash or a hang is neither."""
        return self.code in (WRONG, REPORTS)


class Result:
    """What came of a defect. seed: the one that showed it, or None; case: the one that was run last."""

    def __init__(self, defect, good, report, seed=None, case=None):
        self.defect, self.good, self.report, self.seed, self.case = defect, good, report, seed, case

    def __str__(self):
        d = self.defect
        state = f"seed {self.seed}" if self.seed else "needless" if d.needless and self.good else "missed"
        return f"{'ok    ' if self.good else 'FAILED'} {d.file}:{d.line}  {d.name}  [{state}]  {self.report}"


class Run:
    """The planted programs of a build, and what was run so far."""

    def __init__(self, build, seeds=8, jobs=None):
        self.folder = os.path.join(build, "emulated", "planted")
        self.seeds, self.jobs = seeds, jobs or os.cpu_count()
        self.clean = {}  # (case, seed): a future of the run without a defect
        self.lock = threading.Lock()

    def defects(self, only="."):
        """All that were planted there, if the sources are still the same."""
        try:
            with open(os.path.join(self.folder, "defects.txt"), encoding="utf-8") as file:
                planted = [tuple(line.rstrip("\n").split("\t")) for line in file]
        except OSError as error:
            raise Unusable(f"{error}: make planted") from error
        _, defects = plant.plant(list(dict.fromkeys(place.rpartition(":")[0] for _, place, _ in planted)))
        if [(str(d.number), f"{d.file}:{d.line}", d.name) for d in defects] != planted:
            raise Unusable(f"the programs of {self.folder} are of other sources: make planted")
        return [d for d in defects if re.search(only, f"{d.file}:{d.line} {d.name}")]

    def make_captures(self):
        for name, words in CAPTURES.items():
            path = os.path.join(self.folder, name + ".h5")
            made = subprocess.run([self.program("mla"), "make", "--force", "-o", path, *words.split()],
                                  capture_output=True, text=True, check=False)
            if made.returncode:
                raise Unusable(f"mla make {words}: {made.stderr.strip()}")

    def program(self, name):
        path = os.path.join(self.folder, name)
        if not os.access(path, os.X_OK):
            raise Unusable(f"there is no {path}: make planted")
        return path

    def command(self, case):
        name, *words = case.split()
        return [self.program(name),
                *(os.path.join(self.folder, word) if word.endswith(".h5") else word for word in words)]

    def once(self, case, seed, number, expect=None):
        """One case, one seed, one defect (0: none). Ends at the first report, or the first that is
        expected: what comes behind it is of no interest."""
        env = dict(os.environ, EMULATE_SEED=str(seed), EMULATE_DEFECT=str(number), OMP_NUM_THREADS="1")
        said, enough = "", False
        with tempfile.TemporaryFile("w+", errors="replace") as printed:
            with subprocess.Popen(self.command(case), env=env, stdin=subprocess.DEVNULL, stdout=printed,
                                  stderr=subprocess.PIPE, text=True, errors="replace") as process:
                alarm = threading.Timer(LIMIT, process.kill)
                alarm.start()
                for line in process.stderr:
                    said += line
                    goes_on = line.rstrip().endswith(":")  # who waits for what
                    if not enough:
                        enough = (REPORT.match(line) and not WAIVED.search(line) and
                                  (not expect or re.search(expect, line)))
                    if enough and not goes_on:
                        process.kill()
                        break
                code = process.wait()
                in_time = alarm.is_alive()
                alarm.cancel()
            printed.seek(0)
            said += printed.read()
        return Outcome(REPORTS if enough else code if in_time else None, said)

    def is_clean(self, case, seed):
        """Without a defect; else a report would show nothing."""
        with self.lock:
            mine = (case, seed) not in self.clean
            if mine:
                self.clean[case, seed] = concurrent.futures.Future()
        if mine:
            self.clean[case, seed].set_result(self.once(case, seed, 0))
        return self.clean[case, seed].result().code == CLEAN

    def judge(self, defect):
        """Tries seeds until one shows it."""
        other = None  # what was seen that was not what is expected
        for seed in range(1, (NEEDLESS_SEEDS if defect.needless else self.seeds) + 1):
            for case in cases_of(defect.file):
                outcome = self.once(case, seed, defect.number, defect.expect)
                if outcome.code == CLEAN:
                    continue
                if defect.needless:
                    return Result(defect, False, f"said to be needless, but: {outcome.report}", seed, case)
                if not outcome.seen:
                    return Result(defect, False, outcome.report, seed, case)
                if not self.is_clean(case, seed):
                    return Result(defect, False, "the case is not clean without it either", seed, case)
                if not defect.expect or re.search(defect.expect, outcome.said):
                    return Result(defect, True, outcome.report, seed, case)
                other = other or Result(defect, False, f"{outcome.report} (expected: {defect.expect})", seed,
                                        case)
        if defect.needless:
            return Result(defect, True, defect.needless)
        return other or Result(defect, False, f"by seeds 1 to {self.seeds}", None, case)

    def all(self, defects, progress=lambda done: None):
        """Results in the order of the defects."""
        self.make_captures()
        with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
            futures = [pool.submit(self.judge, defect) for defect in defects]
            try:
                for done, _ in enumerate(concurrent.futures.as_completed(futures), 1):
                    progress(done)
                return [future.result() for future in futures]
            finally:
                pool.shutdown(cancel_futures=True)

    def repeat(self, result):
        """What to type to see it again."""
        return (f"EMULATE_DEFECT={result.defect.number} EMULATE_SEED={result.seed or 1} "
                f"{shlex.join(self.command(result.case))}")

    def unclean(self):
        """Sentences about cases that are not clean without a defect."""
        return [f"{case}, seed {seed}, without a defect: {future.result().report}"
                for (case, seed), future in self.clean.items() if future.result().code != CLEAN]


def summary(results):
    """One line about all."""
    shown = [r for r in results if r.good and not r.defect.needless]
    needless = sum(1 for r in results if r.defect.needless)
    first = sum(1 for r in shown if r.seed == 1)
    wrong = sum(1 for r in shown if r.report == "wrong answer")
    return (f"{len(shown)} of {len(results) - needless} caught, {first} by seed 1, {wrong} by a wrong answer "
            f"alone; {needless} needless")


def main(words):
    if "--help" in words:
        print(__doc__)
        return 0
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--build", default="build")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default=".")
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args(words)
    if given.seeds < 1 or given.jobs < 1:
        parser.error("--seeds and --jobs want a number from 1 on")
    began, run = time.monotonic(), Run(given.build, given.seeds, given.jobs)
    try:
        defects = run.defects(given.only)

        def progress(done):
            if sys.stderr.isatty():
                print(f"\r{done} of {len(defects)}", end="\n" if done == len(defects) else "", file=sys.stderr)

        results = run.all(defects, progress)
    except (Unusable, plant.Bad, re.error) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 3
    for result in results:
        if given.verbose or not result.good:
            print(result)
        if not result.good:
            print(f"       {run.repeat(result)}")
    for sentence in run.unclean():
        print(f"FAILED {sentence}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{summary(results)}; {time.monotonic() - began:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU")
    return 1 if run.unclean() or not all(r.good for r in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
