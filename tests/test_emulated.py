"""test_emulated.py - the ladder on this CPU: every rung on small cases with all that rungs do, test kernels
of what Hopper's rungs will use, and each part against what a GPU gave; three seeds each.

    build/venv/bin/python tests/test_emulated.py

Runs $MLA_BUILD/emulated (make emulated). What the emulator would miss: tests/wrong/sync, test_planted.py.
"""
import os
import re
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
EMULATED = os.path.join(BUILD, "emulated")
SEEDS = "1-3"
# Requests without keys, lengths that no tile divides, an even and an odd number of tiles, one to four
# tiles of 16 rows, rows that see no key; more splits than a warp merges alone.
CAPTURES = {
    "narrow": "--kv-len=40,300,0,3 --qo-len=1,2,1,3 --heads=3 --causal --page-size=16 --ckv-dim=40 --kpe-dim=8",
    "ragged": "--kv-len=40,300,0,70,33 --qo-len=1,2,1,4,3 --heads=16 --causal --page-size=16",
    "fp16": "--kv-len=0,97,33 --qo-len=2,1,5 --heads=16 --causal --page-size=1 --dtype=fp16",
    "splits": "--kv-len=4300,140 --heads=2 --page-size=64 --ckv-dim=200 --kpe-dim=0",
}


@unittest.skipUnless(os.path.exists(os.path.join(EMULATED, "mla")), "there is no emulated program: make emulated")
class Emulated(unittest.TestCase):
    def run_it(self, *words, **environment):
        """Standard output, after it ended well and the emulator had nothing to say."""
        done = subprocess.run(words, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
                              timeout=600, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), f"{' '.join(words)} {environment}:\n{done.stdout}")
        return done.stdout


class Rungs(Emulated):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="mla-emulated-")
        cls.addClassCleanup(folder.cleanup)
        cls.captures = {}
        for name, words in CAPTURES.items():
            cls.captures[name] = os.path.join(folder.name, name + ".h5")
            subprocess.run([os.path.join(EMULATED, "mla"), "make", "-o", cls.captures[name], *words.split()],
                           stdout=subprocess.DEVNULL, check=True)

    def check(self, rung, *words, passed):
        """Every case passed, for each seed; none is skipped unnoticed."""
        said = self.run_it(os.path.join(BUILD, "bin", "mla"), "check", f"--emulate={SEEDS}", "-k", rung, *words)
        self.assertIn("3 seeds: 3 clean", said)
        one = self.run_it(os.path.join(EMULATED, "mla"), "check", "-k", rung, *words, EMULATE_SEED="4")
        self.assertIn(f"{passed} passed, 0 failed, 0 skipped", one)

    def test_01_naive(self):
        self.check("01", self.captures["narrow"], passed=1)

    def test_02_splitk(self):
        self.check("02", "--fixed-split=128", self.captures["narrow"], passed=1)

    def test_03_vector(self):
        self.check("03", self.captures["ragged"], self.captures["fp16"], passed=2)

    def test_04_tiled(self):
        self.check("04", self.captures["ragged"], self.captures["fp16"], passed=2)

    def test_05_tensorcore(self):
        self.check("05", self.captures["ragged"], self.captures["fp16"], passed=2)

    def test_06_pipelined(self):
        self.check("06", self.captures["ragged"], self.captures["fp16"], passed=2)

    def test_07_ldmatrix(self):
        self.check("07", self.captures["ragged"], self.captures["fp16"], passed=2)

    def test_08_tall(self):
        self.check("08", self.captures["ragged"], self.captures["fp16"], passed=2)

    def test_the_ladder_is_tested(self):
        with open(os.path.join(ROOT, "optimized", "ladder.def"), encoding="utf-8") as file:
            rungs = re.findall(r"^MLA_KERNEL\((\w+),", file.read(), re.M)
        self.assertEqual([], [rung for rung in rungs if not hasattr(self, f"test_{rung}")])

    def test_merge_of_more_than_32_splits(self):
        self.check("02", "--fixed-split=128", self.captures["splits"], passed=1)

    def test_graph(self):
        self.check("07,08", "--graph", self.captures["fp16"], passed=2)


class Kernels(Emulated):
    def test_kernels(self):
        """Hopper's instructions, clusters, global memory, early launches: the same bits for every seed."""
        said = {seed: self.run_it(os.path.join(EMULATED, "kernels"), EMULATE_SEED=seed) for seed in "123"}
        self.assertEqual(said["1"], said["2"])
        self.assertEqual(said["1"], said["3"])
        for kernel in ("pair", "swap", "exchange", "counter", "chain", "boxes", "plain"):
            self.assertRegex(said["1"], rf"(?m)^PASS {kernel}\b")
        self.assertNotIn("FAIL", said["1"])

    def test_parts(self):
        """Each function that kernels are made of, against what a GPU gave."""
        recorded = os.path.join(ROOT, "tests", "emulated", "recorded")
        for name in sorted(os.listdir(recorded)):
            said = self.run_it(os.path.join(EMULATED, "parts"), "--compare", os.path.join(recorded, name))
            self.assertRegex(said, r"(?m)^\d+ parts, 0 failed$")


@unittest.skipUnless(os.path.exists(os.path.join(BUILD, "asan", "emulated", "mla")), "not built under the sanitizers")
class Sanitized(Emulated):
    """The emulator itself under AddressSanitizer and UBSan, which tell of themselves on standard error."""

    def test_kernels(self):
        self.run_it(os.path.join(BUILD, "asan", "emulated", "kernels"), EMULATE_SEED="2")

    def test_parts(self):
        self.run_it(os.path.join(BUILD, "asan", "emulated", "parts"), "--compare",
                    os.path.join(ROOT, "tests", "emulated", "recorded", "sm90.txt"))

    def test_rungs(self):
        self.run_it(os.path.join(BUILD, "asan", "emulated", "mla"), "check", "-k", "07,08", "-c", "random:1.0")


def hopper():
    """Is there a GPU of compute capability 9.0, which these are built for?"""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"], timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout
    except OSError:
        return False
    return said.startswith("9.0")


@unittest.skipUnless(os.path.exists(os.path.join(BUILD, "tests", "kernels")), "built without nvcc")
@unittest.skipUnless(hopper(), "SKIPPED, no CUDA device of compute capability 9.0")
class OnGpu(unittest.TestCase):
    def run_it(self, *words):
        done = subprocess.run([os.path.join(BUILD, "tests", words[0]), *words[1:]], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_kernels(self):
        for seed in "123":
            self.run_it("kernels", "--seed", seed)

    def test_parts(self):
        """A GPU of the kind that was recorded gives the same again."""
        self.run_it("parts", "--compare", os.path.join(ROOT, "tests", "emulated", "recorded", "sm90.txt"))


if __name__ == "__main__":
    unittest.main()
