#!/usr/bin/env python3
"""run.py - does the emulator see each defect that plant.py plants?

    tests/wrong/sync/run.py [--build FOLDER] [--seeds N] [--jobs N] [--only REGEX] [--verbose]

Runs the planted programs of BUILD/emulated/planted (make planted) with one defect after the other, on
small cases with everything that rungs do: requests without keys, tails, odd and even numbers of tiles,
tiles with idle rows, more splits than a warp merges alone. A defect is tried with seed 1, 2, ... until
a report or a wrong answer shows it, and for those of defects.def until the report says what is expected
there. With none planted all is clean: each case is run once for each seed that was used.

    --build FOLDER  where it was built (build)
    --seeds N       how many to try before a defect counts as missed (8)
    --jobs N        programs at a time (as many as there are cores)
    --only REGEX    only defects whose file, line and name it matches
    --verbose       the table in full: what each report said

Exit codes: 0 each defect was caught, 1 one was not, or what is said to be needless is needed, or a
case is not clean without a defect, 2 wrong usage, 3 a program or list cannot be used.
"""
import argparse
import concurrent.futures
import os
import re
import resource
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
    # tiles of 32: an even number of them, ten, none, three, two; 16 to 64 rows
    "ragged": "--kv-len=40,300,0,70,33 --qo-len=1,2,1,4,3 --heads=16 --causal --page-size=16",
    # more states than a warp merges alone
    "splits": "--kv-len=1060,70,1100 --heads=2 --page-size=64",
    # more items than the merge takes at once, the first and the last of many states
    "items": f"--kv-len=4300,{'129,' * 515}4400 --heads=1 --page-size=256 --ckv-dim=2 --kpe-dim=0",
}
# Cases of a source: a program, and its words.
RUNG = {f"{number}": [("mla", ["check", "-k", number, capture])] for number, capture in (
    ("01", "narrow"), ("03", "ragged"), ("04", "ragged"), ("05", "ragged"), ("06", "ragged"), ("07", "ragged"),
    ("08", "ragged"))}
# parts of more keys than threads
RUNG["02"] = [("mla", ["check", "-k", "02", "--fixed-split=256", "narrow"])]
CASES = {
    "merge.cu": [("mla", ["check", "-k", "03", "--fixed-split=32", "splits"]),
                 ("mla", ["check", "-k", "02", "--fixed-split=128", "items"]), ("again", ["08"])],
    "tile_sm80.cuh": RUNG["07"] + RUNG["08"] + [("again", ["08"])],
    "reduce.cuh": RUNG["01"] + [("kernels", ["plain"])],
}
REPORT = re.compile(r"^emulator: (?:seed \d+: )?(.*)$", re.M)
WAIVED = re.compile(r"\[waived\]|waived:")
# What a program's exit code says (mla check and tests/emulated agree).
CLEAN, WRONG, REPORTS = 0, 1, 70
NEEDLESS_SEEDS = 1  # what is caught at all, seed 1 nearly always catches
LIMIT = 60  # seconds; none of these cases takes more than a few


def cases_of(file):
    """The cases that show defects of this source."""
    name = os.path.basename(file)
    if name in CASES:
        return CASES[name]
    if "emulated" in file.split(os.sep):
        return [("kernels", [os.path.splitext(name)[0]])]
    return RUNG[name[:2]]


class Missed(Exception):
    """A program that is not there or does not do what it must: a sentence."""


class Outcome:
    """How a run ended, None: not at all. report: what it said first; said: all that it said."""

    def __init__(self, code, text):
        reports = [r for r in REPORT.findall(text) if not WAIVED.search(r)]
        self.code, self.said = code, text
        if code == CLEAN:
            self.report = ""
        elif reports:
            self.report = " ".join(reports[0].split())
            if self.report.endswith(":") and len(reports) > 1:  # what follows says who waits for what
                self.report += " " + " ".join(reports[1].split())
        else:
            self.report = ("wrong answer" if code == WRONG else f"nothing for {LIMIT} seconds" if code is None
                           else f"ended with {code}")
        if code in (WRONG, REPORTS) and re.search(r"\bFAIL", text):
            self.said += "\nwrong answer"

    @property
    def caught(self):
        """Seen by the emulator or by what was computed; a crash or a hang is neither."""
        return self.code in (WRONG, REPORTS)


class Result:
    """What came of a defect. seed: the one that caught it, or None."""

    def __init__(self, defect, seed, report, good):
        self.defect, self.seed, self.report, self.good = defect, seed, report, good

    def line(self):
        """As the table has it."""
        d = self.defect
        state = f"seed {self.seed}" if self.seed else "needless" if d.needless and self.good else "-"
        return f"{'ok    ' if self.good else 'FAILED'} {d.file}:{d.line}  {d.name}  {state}  {self.report}".rstrip()


class Run:
    """The planted programs of a build, and what was run so far."""

    def __init__(self, build, seeds, jobs):
        self.folder = os.path.join(build, "emulated", "planted")
        self.seeds, self.jobs = seeds, jobs
        self.clean = {}  # (case, seed): a future of the run without a defect
        self.lock = threading.Lock()
        self.captures = {}

    def program(self, name):
        """Its path."""
        path = os.path.join(self.folder, name)
        if not os.access(path, os.X_OK):
            raise Missed(f"there is no {path}: make planted")
        return path

    def make_captures(self, folder):
        """Writes the captures of all cases."""
        for name, words in CAPTURES.items():
            self.captures[name] = os.path.join(folder, name + ".h5")
            made = subprocess.run([self.program("mla"), "make", "-o", self.captures[name], *words.split()],
                                  capture_output=True, text=True, check=False)
            if made.returncode:
                raise Missed(f"mla make {words}: {made.stderr.strip()}")

    def once(self, case, seed, number, expect=None):
        """One program, one seed, one defect (0: none). Ends at a report that is enough: what comes
        behind it is of no interest."""
        name, words = case
        command = [self.program(name), *(self.captures.get(word, word) for word in words)]
        env = dict(os.environ, EMULATE_SEED=str(seed), EMULATE_DEFECT=str(number), OMP_NUM_THREADS="1")
        said, enough = "", False
        with tempfile.TemporaryFile("w+", errors="replace") as printed:
            with subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=printed,
                                  stderr=subprocess.PIPE, text=True, errors="replace") as process:
                alarm = threading.Timer(LIMIT, process.kill)
                alarm.start()
                for line in process.stderr:
                    said += line
                    if enough:  # and who waits for what
                        process.kill()
                        break
                    enough = (REPORT.match(line) and not WAIVED.search(line) and
                              (not expect or re.search(expect, line)))
                    if enough and not line.rstrip().endswith(":"):
                        process.kill()
                        break
                code = process.wait()
                in_time = alarm.is_alive()
                alarm.cancel()
            printed.seek(0)
            said += printed.read()
        if enough:
            return Outcome(REPORTS, said)
        return Outcome(code if in_time else None, said)

    def is_clean(self, case, seed):
        """Nothing is reported without a defect: a report in a clean case would show nothing."""
        key = (case[0], *case[1], seed)
        with self.lock:
            mine = key not in self.clean
            if mine:
                self.clean[key] = concurrent.futures.Future()
        if mine:
            self.clean[key].set_result(self.once(case, seed, 0))
        return self.clean[key].result().code == CLEAN

    def judge(self, defect):
        """Tries seeds until one catches it."""
        other = ""  # what a report said that was not what is expected
        for seed in range(1, (NEEDLESS_SEEDS if defect.needless else self.seeds) + 1):
            for case in cases_of(defect.file):
                outcome = self.once(case, seed, defect.number, defect.expect)
                if outcome.code == CLEAN:
                    continue
                if defect.needless:
                    return Result(defect, seed, f"is said to be needless: {outcome.report}", False)
                if not outcome.caught or not self.is_clean(case, seed):
                    return Result(defect, None, outcome.report, False)
                if not defect.expect or re.search(defect.expect, outcome.said):
                    return Result(defect, seed, outcome.report, True)
                other = other or outcome.report
        if defect.needless:
            return Result(defect, None, defect.needless, True)
        if other:
            return Result(defect, None, f"{other} (expected: {defect.expect})", False)
        return Result(defect, None, f"missed by seeds 1 to {self.seeds}", False)

    def all(self, defects, progress=lambda done: None):
        """Results in the order of defects."""
        with tempfile.TemporaryDirectory(prefix="planted-") as folder:
            self.make_captures(folder)
            with concurrent.futures.ThreadPoolExecutor(self.jobs) as pool:
                futures = [pool.submit(self.judge, defect) for defect in defects]
                try:
                    for count, _ in enumerate(concurrent.futures.as_completed(futures), 1):
                        progress(count)
                    return [future.result() for future in futures]
                finally:
                    pool.shutdown(cancel_futures=True)

    def unclean(self):
        """Sentences about cases that are not clean without a defect."""
        return [f"{' '.join(key[:-1])}, seed {key[-1]}, without a defect: {future.result().report}"
                for key, future in self.clean.items() if future.result().code != CLEAN]


def read_defects(build, only):
    """All that were planted there."""
    folder = os.path.join(build, "emulated", "planted")
    try:
        with open(os.path.join(folder, "defects.txt"), encoding="utf-8") as file:
            planted = [line.rstrip("\n").split("\t") for line in file]
    except OSError as error:
        raise Missed(f"{error}: make planted") from error
    sources = list(dict.fromkeys(where.rsplit(":", 1)[0] for _, where, _ in planted))
    _, defects = plant.plant(sources)
    if [(str(d.number), f"{d.file}:{d.line}", d.name) for d in defects] != [tuple(row) for row in planted]:
        raise Missed(f"the programs of {folder} are of other sources: make planted")
    return [d for d in defects if re.search(only, f"{d.file}:{d.line} {d.name}")]


def summary(results, seconds):
    """One line about all."""
    needless = sum(1 for r in results if r.defect.needless)
    caught = [r for r in results if r.good and not r.defect.needless]
    first = sum(1 for r in caught if r.seed == 1)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    wrong = sum(1 for r in caught if r.report == "wrong answer")
    return (f"{len(caught)} of {len(results) - needless} caught, {first} of them by seed 1, {wrong} by a wrong "
            f"answer alone; {needless} needless; {seconds:.0f} s, {used.ru_utime + used.ru_stime:.0f} s of CPU")


def main(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     add_help=False)
    parser.add_argument("--build", default="build")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--only", default=".")
    parser.add_argument("--verbose", action="store_true")
    if "--help" in words:
        print(__doc__)
        return 0
    given = parser.parse_args(words)
    began = time.monotonic()

    def progress(done):
        if sys.stderr.isatty():
            print(f"\r{done} defects", end="\n" if done == len(defects) else "", file=sys.stderr, flush=True)

    try:
        defects = read_defects(given.build, given.only)
        run = Run(given.build, given.seeds, given.jobs)
        results = run.all(defects, progress)
    except (Missed, plant.Bad) as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 3
    unclean = run.unclean()
    for result in results:
        if given.verbose or not result.good:
            print(result.line())
    for sentence in unclean:
        print(f"FAILED {sentence}")
    print(summary(results, time.monotonic() - began))
    return 1 if unclean or not all(r.good for r in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
