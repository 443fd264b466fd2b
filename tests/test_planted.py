"""test_planted.py - defects of synchronisation: how they are planted, what the runner makes of what programs
say, and that the emulator sees each of them.

    build/venv/bin/python tests/test_planted.py

Needs a C++ compiler ($CXX, default g++). The last needs make planted (in $MLA_BUILD, default build), and
takes a minute on two cores.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
SYNC = os.path.join(ROOT, "tests", "wrong", "sync")
sys.path.insert(0, SYNC)

import plant  # noqa: E402
import run  # noqa: E402

# A kernel in which every call says its name and its arguments.
SOURCE = """\
enum { STAGES = 3 };

static void group_sync() /* a definition: __syncthreads() is not called here */
{
	say("group_sync()"); // nor here: cp_async_commit()
}

void kernel(int lane)
{
	int i = 4;

	if (lane == 0)
		__syncthreads();
	else
		group_sync();
	cp_async_wait<STAGES - 2>();
	mbarrier_wait(first(1, 2), lane ^ 1);
	read(i % STAGES, (i + 1) % STAGES);
	write(lane);
	write(lane + 7);
	say(__syncthreads_or(lane == 0) ? "yes" : "no");
}
"""
KIT = """\
#include <stdio.h>
static void say(const char *text) { printf("%s ", text); }
static void __syncthreads() { say("sync"); }
static bool __syncthreads_or(bool x) { say("or"); return x; }
template <int N> static void cp_async_wait() { printf("wait%d ", N); }
static int first(int x, int) { return x; }
static void mbarrier_wait(int barrier, int parity) { printf("mbarrier%d,%d ", barrier, parity); }
static void read(int a, int b) { printf("read%d,%d ", a, b); }
static void write(int a) { printf("write%d ", a); }
"""
CLEAN = "sync wait1 mbarrier1,1 read1,2 write0 write7 or yes"


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="mla-planted-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)

    def write(self, name, text, executable=False):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        if executable:
            os.chmod(path, 0o755)
        return path


class Planting(Folder):
    def plant(self, by_hand="", needless="", source=SOURCE):
        self.source = self.write("kernel.cu", source)
        copies, self.defects = plant.plant([self.source], self.write("hand.def", by_hand),
                                           self.write("needless.def", needless))
        return copies[self.source]

    def runs(self, by_hand="", needless=""):
        """What the kernel says with each defect: {name: words}; "" is without one."""
        kernel = self.write("copy.cu", self.plant(by_hand, needless))
        program = os.path.join(self.folder, "program")
        main = self.write("main.cpp", f'{KIT}#include "{kernel}"\nint main() {{ kernel(0); }}\n')
        planted = self.write("planted.o", "")
        subprocess.run(["gcc", "-I", ROOT, "-c", os.path.join(SYNC, "planted.c"), "-o", planted], check=True)
        subprocess.run([os.environ.get("CXX", "g++"), "-std=c++17", "-Wall", "-Werror", "-I", ROOT, main,
                        planted, "-o", program], check=True)
        said = {}
        for number, name in [(0, "")] + [(d.number, d.name) for d in self.defects]:
            said[name] = subprocess.run([program], env={**os.environ, "EMULATE_DEFECT": str(number)}, check=True,
                                        capture_output=True, text=True).stdout.strip()
        unset = {k: v for k, v in os.environ.items() if k != "EMULATE_DEFECT"}
        self.assertEqual(said[""], subprocess.run([program], env=unset, check=True, capture_output=True,
                                                  text=True).stdout.strip())
        return said

    def refused(self, sentence, by_hand="", needless="", source=SOURCE):
        with self.assertRaisesRegex(plant.Bad, sentence):
            self.plant(by_hand, needless, source)

    def test_what_the_source_shows(self):
        self.assertEqual(self.runs(), {
            "": CLEAN,
            "without: __syncthreads()": CLEAN.replace("sync ", ""),
            "without: group_sync()": CLEAN,
            "without: cp_async_wait<STAGES - 2>()": CLEAN.replace("wait1 ", "", 1),
            "one group too few: cp_async_wait<STAGES - 2>()": CLEAN.replace("wait1", "wait2", 1),
            "without: mbarrier_wait(first(1, 2), lane ^ 1)": CLEAN.replace("mbarrier1,1 ", ""),
            "the other parity: mbarrier_wait(first(1, 2), lane ^ 1)": CLEAN.replace("1,1", "1,0"),
            "the next stage: i % STAGES": CLEAN.replace("read1", "read2"),
            "the stage before: i % STAGES": CLEAN.replace("read1", "read0"),
            "the next stage: (i + 1) % STAGES": CLEAN.replace("1,2", "1,0"),
            "the stage before: (i + 1) % STAGES": CLEAN.replace("1,2", "1,1"),
            "without: __syncthreads_or(lane == 0)": CLEAN.replace("or ", ""),
        })

    def test_by_hand(self):
        said = self.runs("""\
swapped | kernel.cu | cp_async_wait<STAGES - 2>(); mbarrier_wait(first(1, 2), lane ^ 1); | mbarrier_wait(9, 9); | x
over it | kernel.cu | mbarrier_wait(first(1, 2), lane ^ 1); read(i % STAGES, (i + 1) % STAGES); | read(8, 8); | x
a part | kernel.cu | write(@lane@); | 5 | x
body | kernel.cu | group_sync(); | say("never"); | x | a note
all | kernel.cu:all | @lane@ ^ 1 | 3 | x
two places | kernel.cu | @lane@); write | 6 | x
two places | kernel.cu | @lane + 7@ | 6
its own question | kernel.cu | i = @4@; | 4 + PLANTED | x
""")
        self.assertEqual(said["swapped"], CLEAN.replace("wait1 mbarrier1,1", "mbarrier9,9", 1))
        self.assertEqual(said["over it"], CLEAN.replace("mbarrier1,1 read1,2", "read8,8"))
        self.assertEqual(said["a part"], CLEAN.replace("write0", "write5"))
        self.assertEqual(said["body"], CLEAN)
        self.assertEqual(said["all"], CLEAN.replace("1,1", "1,2"))
        self.assertEqual(said["two places"], CLEAN.replace("write0 write7", "write6 write6"))
        self.assertEqual(said["its own question"], CLEAN.replace("read1,2", "read2,0"))
        self.assertEqual(said["without: cp_async_wait<STAGES - 2>()"], CLEAN.replace("wait1 ", "", 1))

    def test_lines_keep_their_numbers(self):
        copy = self.plant("swapped | kernel.cu | cp_async_wait<STAGES - 2>(); mbarrier_wait(first(1, 2), "
                          "lane ^ 1); | mbarrier_wait(9, 9); | x\n").split("\n")
        self.assertEqual(copy[:2], ['#include "tests/wrong/sync/planted.h"', f'#line 1 "{self.source}"'])
        for number, line in enumerate(SOURCE.split("\n")):
            for word in re.findall(r"\w+\(", plant.without(line, "comment", "string")):
                self.assertIn(word, copy[2 + number])
        self.assertEqual({d.line for d in self.defects if d.kind == "without"},
                         {n for n, line in enumerate(SOURCE.split("\n"), 1)
                          if re.match(r"\t+(?:__sync|group_|cp_|mbar|say\(__)", line)})

    def test_a_ring_of_two(self):
        self.plant(source="enum { STAGES = 2 };\nvoid f(int i) { read(i % STAGES, at.stage); ++at.stage; }\n")
        self.assertEqual([d.name for d in self.defects],
                         ["the other stage: i % STAGES", "the other stage: at.stage"])

    def test_needless(self):
        self.plant(needless="kernel.cu | without | group_sync(); | why not\n")
        self.assertEqual({d.name: d.needless for d in self.defects if d.needless},
                         {"without: group_sync()": "why not"})

    def test_bad_lists(self):
        self.refused("hand.def:1: 2 fields, expected 4 to 6", "a | b\n")
        self.refused("no source is called other.cu, expected one of kernel.cu", "a | other.cu | x | y | z\n")
        self.refused('"nowhere" stands in 0 places of .*, expected one place', "a | kernel.cu | nowhere | y | z\n")
        self.refused('"write" stands in 2 places of .*, expected one place, or FILE:2 or FILE:all',
                     "a | kernel.cu | write | y | z\n")
        self.refused("stands in 2 places of .*, expected place 3", "a | kernel.cu:3 | write | y | z\n")
        self.refused('1 @ in "write@", expected two or none', "a | kernel.cu | write@ | y | z\n")
        self.refused(r'"\(" is no regular expression', "a | kernel.cu | write(lane); | y | (\n")
        self.refused("begins in the middle of a statement", "a | kernel.cu | + 7); | y | z\n")
        self.refused("the body of one and goes on",
                     "a | kernel.cu | group_sync(); cp_async_wait<STAGES - 2>(); | y | z\n")
        self.refused('"a" of .* stands further up already',
                     "".join(f"{name} | kernel.cu | write(lane); | y; | z\n" for name in "aba"))
        self.refused('"a" overlaps "b", and is no statement', "a | kernel.cu | first(1, @2), lane@ ^ | y | z\n"
                     "b | kernel.cu | @lane ^ 1@ | y | z\n")
        self.refused('"a" of .* stands in place of a text in which "without: .*" is planted',
                     "a | kernel.cu | group_sync(); | say(PLANTED ? \"\" : \"\"); | z\n")
        self.refused("needless.def:1: 3 fields", needless="kernel.cu | without | x\n")
        self.refused('"nowhere" stands 0 times', needless="kernel.cu | without | nowhere | why\n")
        self.refused('0 calls stand in "write\\(lane\\);" that can be "without"',
                     needless="kernel.cu | without | write(lane); | why\n")
        self.refused("no reason, expected one", needless="kernel.cu | without | group_sync(); |\n")

    def test_bad_numbers(self):
        program = os.path.join(self.folder, "program")
        main = self.write("main.c", "int main(void) { return 0; }\n")
        subprocess.run(["gcc", "-I", ROOT, main, os.path.join(SYNC, "planted.c"), "-o", program], check=True)
        for word in ("", "x", "-1", "1x", "10000000", "1.5"):
            done = subprocess.run([program], env={**os.environ, "EMULATE_DEFECT": word}, capture_output=True,
                                  text=True, check=False)
            self.assertEqual((done.returncode, done.stderr), (2, f'EMULATE_DEFECT is "{word}", expected the number '
                                                              "of a defect, or 0 for none\n"))


PLAYED = """\
#!/bin/sh
case "$1 $EMULATE_DEFECT $EMULATE_SEED" in
make*) : >"$4" ;;
*" 1 2") echo "emulator: seed 2: f.cu:1: reads; nothing orders the two" >&2; exec sleep 60 ;;
*" 2 "?) echo "emulator: seed 1: nothing can go on:" >&2; echo "emulator:     threads 0..31 wait" >&2; exit 70 ;;
*" 3 "?) echo FAIL; exit 1 ;;
*" 4 "?) kill -SEGV $$ ;;
*" 5 "?) exec sleep 60 ;;
*" 6 "?) echo "emulator: seed 1: f.cu:1: reads [waived]" >&2 ;;
*" 9 "[12]) echo "emulator: seed 1: something else" >&2; exit 70 ;;
*" 9 3") echo "emulator: seed 3: nothing orders the two" >&2; exit 70 ;;
*" 0 1") [ ! -e "$0.unclean" ] || exit 1 ;;
esac
"""


class Running(Folder):
    """Programs are played."""

    def setUp(self):
        super().setUp()
        for name in ("mla", "kernels", "again"):
            self.write(f"emulated/planted/{name}", PLAYED, executable=True)

    def judge(self, number, seeds=4, **fields):
        defect = plant.Defect("optimized/07_x.cu", 1, "", "a defect")
        defect.number = number
        for name, value in fields.items():
            setattr(defect, name, value)
        self.run_ = run.Run(self.folder, seeds, 2)
        [result] = self.run_.all([defect])
        return result

    def test_verdicts(self):
        found = self.judge(1)
        self.assertEqual((found.good, found.seed), (True, 2))
        self.assertEqual(found.report, "f.cu:1: reads; nothing orders the two")
        self.assertEqual(self.judge(2, expect="can go on").report, "nothing can go on: threads 0..31 wait")
        self.assertEqual(self.judge(3, expect="wrong answer").report, "wrong answer")
        self.assertFalse(self.judge(3, expect="nothing orders").good)
        self.assertRegex(str(self.judge(4)), r"^FAILED optimized/07_x.cu:1  a defect  \[seed 1\]  ended with -11$")
        self.assertFalse(self.judge(6).good)
        missed = self.judge(7)
        self.assertRegex(str(missed), r"^FAILED .*\[missed\]  by seeds 1 to 4$")
        self.assertRegex(self.run_.repeat(missed), "^EMULATE_DEFECT=7 EMULATE_SEED=1 .*/mla check -k 07_x .*ragged.h5$")
        found = self.judge(9, expect="nothing orders")
        self.assertEqual((found.good, found.seed), (True, 3))
        self.assertRegex(str(self.judge(9, seeds=2, expect="nothing orders")), "something else .expected: nothing")

    def test_hang(self):
        limit, run.LIMIT = run.LIMIT, 1
        self.addCleanup(setattr, run, "LIMIT", limit)
        self.assertRegex(str(self.judge(5)), r"^FAILED .*nothing for 1 seconds$")

    def test_needless(self):
        self.assertRegex(str(self.judge(7, needless="why")), r"^ok .*\[needless\]  why$")
        self.assertRegex(str(self.judge(3, needless="why")), r"^FAILED .*said to be needless, but: wrong answer$")

    def test_unclean(self):
        self.write("emulated/planted/mla.unclean", "")
        self.assertFalse(self.judge(3).good)
        self.assertEqual(len(self.run_.unclean()), 1)
        self.assertRegex(self.run_.unclean()[0], "seed 1, without a defect: wrong answer")

    def test_unusable(self):
        self.write("emulated/planted/defects.txt", "1\toptimized/01_naive.cu:1\twithout: nothing\n")
        with self.assertRaisesRegex(plant.Bad, "no source is called"):
            run.Run(self.folder).defects()
        os.remove(os.path.join(self.folder, "emulated", "planted", "defects.txt"))
        with self.assertRaisesRegex(run.Unusable, "make planted"):
            run.Run(self.folder).defects()
        os.remove(os.path.join(self.folder, "emulated", "planted", "mla"))
        with self.assertRaisesRegex(run.Unusable, "there is no .*/mla: make planted"):
            run.Run(self.folder).make_captures()


class Seen(unittest.TestCase):
    @unittest.skipUnless(os.path.exists(os.path.join(BUILD, "emulated", "planted", "kernels")),
                         "make planted was not run")
    def test_each_defect(self):
        every = run.Run(BUILD)
        results = every.all(every.defects())
        for result in results:
            with self.subTest(defect=str(result)):
                self.assertTrue(result.good, every.repeat(result) if not result.good else "")
        self.assertEqual(every.unclean(), [])
        print(run.summary(results))


if __name__ == "__main__":
    unittest.main()
