"""test_trace.py - the emulator's trace of a block, as text and as a picture.

    build/venv/bin/python tests/test_trace.py

Needs what "make emulated" built (in $MLA_BUILD, default build) and a C++ compiler, for a kernel of its own
that waits for everything that there is to wait for. Pictures are drawn where matplotlib is.
"""
import collections
import contextlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
EMULATED = os.path.join(BUILD, "emulated")
MLA = os.path.join(EMULATED, "mla")
CXX = next(filter(shutil.which, (os.environ.get("CXX", "g++"), "c++", "clang++")), None)
sys.path[:0] = [os.path.join(ROOT, "harness", "python")]

from mla import plot, results, trace  # noqa: E402

# Warp 0 waits for 32 arrivals of warp 1, and for warp 3 at a named barrier; warp 1 for a bulk copy of warp 0;
# warp 2 polls for the arrivals; warp 3 waits for its own copies. Two of the arrivals are lacking if that is
# what to do, or one thread touches what is not there.
KERNEL = r"""
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>

#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
#include "parts/ptx_sm90.cuh"

enum { RIGHT, DEADLOCK, FAULT };

struct memory {
	int data[64], more[8];
	uint64_t copied, filled;
};

static __global__ void stages(const int *from, int what)
{
	memory &m = dynamic_shared<memory, 128>();
	const uint32_t copied = shared_address(&m.copied), filled = shared_address(&m.filled);
	const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;

	if (threadIdx.x == 0) {
		mbarrier_init(copied, 1);
		mbarrier_init(filled, 32);
		mbarrier_init_fence();
	}
	__syncthreads();
	if (threadIdx.x == 0) {
		mbarrier_expect(copied, 256);
		copy_bulk_load(shared_address(m.data), from, 256, copied);
	}
	if (warp == 0) {
		mbarrier_wait(filled, 0);
		barrier_sync<64>(1);
	}
	if (warp == 1) {
		mbarrier_wait(copied, 0);
		if (what == FAULT && lane == 5)
			*(volatile int *)16 = 0;
		if (what != DEADLOCK || lane < 30)
			mbarrier_arrive(filled);
	}
	if (warp == 2)
		while (!mbarrier_test(filled, 0))
			;
	if (warp == 3) {
		if (lane < 2)
			cp_async_16(shared_address(&m.more[lane * 4]), from, 16);
		cp_async_commit();
		cp_async_wait<0>();
		barrier_arrive<64>(1);
	}
	cluster_sync();
}

int main(int, char **argv)
{
	int *from;

	cudaMalloc((void **)&from, 256);
	cudaMemset(from, 0, 256);
	for (int i = 0; i < 2; i++)
		launch_kernel({4, 128, sizeof(memory), 2}, 0, stages, from, atoi(argv[1]));
	puts(cudaGetErrorString(cudaDeviceSynchronize()));
	return 0;
}
"""
RIGHT, DEADLOCK, FAULT = "0", "1", "2"


def lanes_of(text):
    found = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


@unittest.skipUnless(os.path.exists(MLA), "SKIPPED, make emulated builds what is traced")
class Traced(unittest.TestCase):
    program = None

    @classmethod
    def build(cls):
        """The kernel's program, once."""
        if Traced.program:
            return Traced.program
        folder = tempfile.mkdtemp(prefix="mla-trace-")
        unittest.addModuleCleanup(shutil.rmtree, folder)
        source = os.path.join(folder, "stages.cu")
        with open(source, "w", encoding="utf-8") as file:
            file.write(KERNEL)
        core = os.path.join(EMULATED, "core")
        subprocess.run([CXX, "-std=c++17", "-g", "-O1", "-fno-pie", "-no-pie", "-w", "-DMLA_EMULATED",
                        "-Ioptimized/emulator", "-I.", "-Iharness", "-Ioptimized", "-x", "c++", source, "-x",
                        "none", *(os.path.join(core, name) for name in os.listdir(core) if name.endswith(".o")),
                        "-o", source[:-3]], cwd=ROOT, check=True)
        Traced.program = source[:-3]
        return Traced.program

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mla-trace-")
        self.addCleanup(shutil.rmtree, self.folder)
        self.file = os.path.join(self.folder, "trace.tsv")

    def run_program(self, *words, code=0, **environment):
        """What it said on standard output and standard error, after its exit code was that."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("EMULATE_")}
        done = subprocess.run(words, cwd=self.folder, text=True, timeout=300, stdin=subprocess.DEVNULL,
                              env={**clean, "OMP_NUM_THREADS": "1", "EMULATE_TRACE": self.file, **environment},
                              capture_output=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout, done.stderr

    def read(self):
        """The trace, after a look at each of its lines."""
        with open(self.file, encoding="utf-8") as file:
            lines = file.read().split("\n")
        self.assertRegex(lines[0], r"\Amla-trace\t1\tseed \d+ order \d timing \d company \d\tlaunch \d+\t"
                                   r"block \d+\Z")
        self.assertEqual(lines[1].split("\t"), trace.COLUMNS)
        self.assertEqual(lines[-1], "")
        found = trace.read(self.file)
        begins = [row.begin for row in found.rows]
        self.assertEqual(begins, sorted(begins))
        names = {row.name for row in found.rows}
        for row in found.rows:
            self.assertTrue(row.end is None or row.begin <= row.end, vars(row))
            if row.waits and row.end is not None:
                self.assertRegex(row.by, r"\A((block \d+ )?warp \d+ lane \d+|copy \d+|wgmma \d+\.\d+|kernel .*)\Z")
                self.assertTrue(not row.by.startswith(("copy", "wgmma")) or row.by in names, row.by)
            if row.warp is not None and row.event != "report":
                self.assertTrue(lanes_of(row.lanes) <= set(range(32)))
        return found

    def of(self, found, event, what, warp):
        return [row for row in found.rows
                if row.event == event and row.what.startswith(what) and row.warp == warp]


class Text(Traced):
    def setUp(self):
        super().setUp()
        self.build()

    def test_who_waits_for_whom(self):
        seen = collections.Counter()
        for seed in range(1, 10):
            self.run_program(self.program, RIGHT, EMULATE_SEED=str(seed))
            found = self.read()
            self.assertFalse([row.what for row in found.rows if row.end is None])
            self.assertEqual(found.head, [found.head[0], "launch 1", "block 0"])
            self.assertTrue(found.head[0].startswith(f"seed {seed} "))
            self.assertEqual(found.kernel, "kernel stages (stages.cu), 4 blocks of 128 threads")

            def waits(event, what, warp, by):
                rows = self.of(found, event, what, warp)
                seen[what, by.split()[0]] += len(rows)
                for row in rows:
                    self.assertRegex(row.by, by)
                return rows

            # all warps, once: each lane waits, or is the last
            for warp in range(4):
                rows = waits("wait", "__syncthreads, barrier 0 for 128 threads", warp, "warp ")
                self.assertEqual(set().union(*(lanes_of(row.lanes) for row in rows)), set(range(32)))
                self.assertEqual(len({(row.end, row.by) for row in rows}), 1)
                end, = self.of(found, "end", "", warp)
                self.assertEqual(end.lanes, "0-31")
                for row in waits("wait", "the cluster's barrier", warp, "warp "):
                    self.assertLessEqual(row.end, end.end)
                arrival, = self.of(found, "arrive", "the cluster's barrier", warp)
                self.assertRegex(arrival.what, ": 32 arrivals, [0-9]+ lacking$")
            copy, = self.of(found, "copy", "copy ", 0)
            self.assertRegex(copy.what, r"^copy \d: bulk load for mbarrier \+\d+ phase 0: 1 copy, 256 bytes$")
            expect, = self.of(found, "arrive", "mbarrier", 0)
            self.assertRegex(expect.what, r"phase 0: 1 arrival, 0 lacking, expects 256 bytes$")
            for row in waits("wait", "mbarrier", 1, "copy "):
                self.assertEqual((row.by, row.end), (copy.name, copy.end))
            arrival, = self.of(found, "arrive", "mbarrier", 1)
            self.assertRegex(arrival.what, r"phase 0: 32 arrivals, 0 lacking$")
            for row in waits("wait", "mbarrier", 0, "warp 1 ") + waits("poll", "mbarrier", 2, "warp 1 "):
                self.assertEqual(row.end, arrival.end)
            own, = self.of(found, "copy", "copy ", 3)
            self.assertRegex(own.what, r"^copy \d: cp.async group 0: 2 copies, 32 bytes$")
            self.assertEqual(own.lanes, "0-1")
            passed, = waits("wait", "cp.async, all groups", 3, own.name)
            self.assertLessEqual(own.end, passed.end)
            arrival, = self.of(found, "arrive", "barrier 1", 3)
            self.assertRegex(arrival.what, "^barrier 1: 32 arrivals, ")
            waits("wait", "barrier 1 for 64 threads", 0, "warp [03] ")
        for what, by in (("mbarrier", "copy"), ("mbarrier", "warp"), ("the cluster's barrier", "warp"),
                         ("barrier 1 for 64 threads", "warp")):
            self.assertTrue(seen[what, by], (what, by))

    def test_places(self):
        self.run_program(self.program, RIGHT)
        lines = KERNEL.split("\n")
        for row in self.read().rows:
            if row.event not in ("end", "report"):
                file, line = row.where.split(":")
                self.assertEqual(file, "stages.cu")
                self.assertRegex(lines[int(line) - 1], r"mbarrier|barrier_|sync|copy|cp_async")

    def test_a_deadlock_shows(self):
        for seed in range(1, 4):
            _, said = self.run_program(self.program, DEADLOCK, EMULATE_SEED=str(seed), code=70)
            self.assertIn("nothing can go on", said)
            found = self.read()
            never = {(row.event, row.what.split(" +")[0], row.warp): row.lanes
                     for row in found.rows if row.end is None}
            self.assertEqual(never, {
                ("wait", "mbarrier", 0): "0-31", ("poll", "mbarrier", 2): "0-31",
                ("wait", "the cluster's barrier", 1): "0-31", ("wait", "the cluster's barrier", 3): "0-31"})
            arrival, = self.of(found, "arrive", "mbarrier", 1)
            self.assertRegex(arrival.what, ": 30 arrivals, 2 lacking$")
            self.assertEqual([row.what for row in found.rows if row.event == "report"], ["nothing can go on"])
            self.assertFalse([row for row in found.rows if row.event == "end"])

    def test_a_fault_leaves_a_whole_file(self):
        blocks = set()
        for seed in range(1, 4):
            _, said = self.run_program(self.program, FAULT, EMULATE_SEED=str(seed), code=70)
            block, = re.findall(r"block (\d) thread 37 \(warp 1 lane 5\) touches the address 0x10", said)
            for traced in "01":
                self.run_program(self.program, FAULT, EMULATE_SEED=str(seed), EMULATE_TRACE_BLOCK=traced, code=70)
                with open(self.file, encoding="utf-8") as file:
                    text = file.read()
                self.assertTrue(text.endswith("\n"))
                own = re.findall(r"^\d+\t\d+\t1\t5\treport\t.*0x10.*$", text, re.M)
                aside = re.findall(r"^-\t-\t-\t-\treport\t.*0x10.*$", text, re.M)
                self.assertEqual((len(own), len(aside)), (1, 0) if block == traced else (0, 1), text)
                blocks.add(block == traced)
        self.assertIn(False, blocks)

    def test_it_changes_nothing(self):
        for seed in ("1", "5", "9"):
            _, with_it = self.run_program(self.program, RIGHT, EMULATE_SEED=seed, EMULATE_VERBOSE="1")
            _, without = self.run_program(self.program, RIGHT, EMULATE_SEED=seed, EMULATE_VERBOSE="1",
                                          EMULATE_TRACE="")
            self.assertIn(" switches, ", without)
            self.assertEqual(with_it, without)

    def test_which_launch_and_block(self):
        self.run_program(self.program, RIGHT, EMULATE_TRACE_LAUNCH="2", EMULATE_TRACE_BLOCK="3")
        found = self.read()
        self.assertEqual(found.head[1:], ["launch 2", "block 3"])
        self.assertEqual([row.name for row in found.asides], ["1", "2"])
        self.assertIn("block 2", {row.by[:7] for row in found.rows} | {"block 2"})
        self.assertFalse([row for row in found.rows if row.by.startswith("block 3")])

    def test_bad_values(self):
        for name, value, sentence in (
                ("EMULATE_TRACE_LAUNCH", "3", "EMULATE_TRACE_LAUNCH is 3, expected the number of a launch, of "
                 "which there were 2: nothing is traced"),
                ("EMULATE_TRACE_LAUNCH", "0", 'EMULATE_TRACE_LAUNCH is "0", expected a number from 1 to '),
                ("EMULATE_TRACE_BLOCK", "4", "EMULATE_TRACE_BLOCK is 4, expected a block of launch 1, 0 to 3: "
                 "nothing is traced"),
                ("EMULATE_TRACE_BLOCK", "-1", 'EMULATE_TRACE_BLOCK is "-1", expected a number from 0 to '),
                ("EMULATE_TRACE_BLOCK", "x", 'EMULATE_TRACE_BLOCK is "x", expected a number from 0 to '),
                ("EMULATE_TRACE", "/no/such", 'EMULATE_TRACE is "/no/such": No such file or directory'),
                ("EMULATE_TRACE", self.folder, f'EMULATE_TRACE is "{self.folder}": Is a directory')):
            _, said = self.run_program(self.program, RIGHT, code=70, **{name: value})
            self.assertIn(f"emulator: {sentence}", re.sub(r"emulator: seed \d+: ", "emulator: ", said))

    def test_another_file_is_kept(self):
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("mla-notes\n")
        _, said = self.run_program(self.program, RIGHT, code=70)
        self.assertIn(f'EMULATE_TRACE is "{self.file}", which is there and is no trace: it is not replaced', said)
        with open(self.file, encoding="utf-8") as file:
            self.assertEqual(file.read(), "mla-notes\n")
        with open(self.file, "w", encoding="utf-8") as file:
            file.write("mla-trace\tan older one\n" * 10000)
        self.run_program(self.program, RIGHT)
        self.read()


class Rungs(Traced):
    """What 06 and 08 do with three tiles of keys for 64 rows, and a kernel with wgmma in a cluster."""

    def trace_rung(self, rung, **environment):
        case = os.path.join(self.folder, "case.h5")
        if not os.path.exists(case):
            self.run_program(MLA, "make", "-o", case, "--batch=1", "--heads=64", "--kv-len=70", EMULATE_TRACE="")
        self.run_program(MLA, "check", "-k", rung, case, EMULATE_SMS="1", **environment)
        return self.read()

    def count(self, found, what):
        return collections.Counter(row.what for row in found.rows)[what]

    def test_06(self):
        found = self.trace_rung("06", EMULATE_SEED="2")
        tiles, rest = divmod(self.count(found, "mma in scores: 18 products"), 8)
        self.assertEqual((rest, tiles % 3), (0, 0))
        self.assertGreater(tiles, 0)
        self.assertEqual(self.count(found, "mma in values: 16 products"), 8 * tiles)
        for warp in range(8):
            copies = self.of(found, "copy", "copy ", warp)
            self.assertEqual(sum(": 288 copies, 4608 bytes" in row.what for row in copies), tiles)
            self.assertFalse([row for row in copies if row.end is None])
            waits = self.of(found, "wait", "cp.async, all groups", warp)
            self.assertEqual({row.by for row in waits}, {row.name for row in copies})

    def test_08_takes_turns(self):
        found = self.trace_rung("08", EMULATE_SEED="6")
        for warp in 1, 6:
            self.assertEqual([row.name[7:] for row in self.of(found, "mma", "mma in ", warp)],
                             ["scores", "values"] * 3)
            waits = self.of(found, "wait", f"barrier {1 + warp // 4} for 128 threads", warp)
            self.assertEqual({int(row.by.split()[1]) // 4 for row in waits}, {warp // 4})

    def test_a_cluster_with_wgmma(self):
        self.run_program(os.path.join(EMULATED, "kernels"), "pair", EMULATE_SEED="2")
        found = self.read()
        self.assertFalse([row.what for row in found.rows if row.end is None])
        products = [row for row in found.rows if row.event == "wgmma"]
        waits = [row for row in found.rows if row.waits and row.by.startswith("wgmma")]
        self.assertEqual({row.name for row in products}, {row.by for row in waits})
        done = {row.name: row.end for row in products}
        for row in waits:
            self.assertLessEqual(done[row.by], row.end)
        copies = [row for row in found.rows if row.event == "copy"]
        self.assertTrue([row for row in copies if row.by.startswith("block 1 warp")])
        self.assertTrue([row for row in copies if " of block 1 phase " in row.what])


GOOD = ("mla-trace\t1\tseed 1 order 1 timing 1 company 1\tlaunch 1\tblock 0\n"
        + "\t".join(trace.COLUMNS) + "\n"
        "-\t-\t-\t-\tlaunch\t1: kernel k (k.cu), 1 block of 64 threads\t-\t-\n"
        "10\t20\t0\t0-31\twait\t__syncthreads, barrier 0 for 64 threads\twarp 1 lane 3\tk.cu:3\n"
        "12\t20\t1\t5\tmma\tmma in f: 3 products\t-\tk.cu:4\n"
        "30\tnever\t0\t0-31\twait\tmbarrier +1024 to complete parity 0\t-\tk.cu:5\n")


class Folder(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mla-trace-")
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, text):
        path = os.path.join(self.folder, "trace.tsv")
        with open(path, "wb") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path


class Files(Folder):
    """What is refused in words."""

    def test_a_good_one(self):
        found = trace.read(self.write(GOOD))
        self.assertEqual([row.end for row in found.rows], [20, 20, None])
        self.assertTrue(trace.is_trace(self.write(GOOD)))
        self.assertFalse(trace.is_trace(self.write('{"schema": "mla-results"}')))
        self.assertFalse(trace.is_trace(self.write("")))

    def test_bad_ones(self):
        for old, new, sentence in (
                ("mla-trace\t1", "mla-trace\t2", "its first line is .*, expected version 1, seed, launch and "),
                ("\tblock 0\n", "\n", "its first line is "),
                ("begin\tend", "end\tbegin", "line 2 is not \"begin end warp "),
                ("k.cu:4\n", "k.cu:4\tx\n", "line 5: 9 fields, expected 8"),
                ("10\t20", "10\t9", "line 4: end \"9\", expected a step from 10 on, or never"),
                ("10\t20", "ten\t20", "line 4: begin \"ten\", expected a step"),
                ("10\t20", "-\t-", "line 4: begin \"-\", expected a step"),
                ("10\t20", "9" * 30 + "\t20", "line 4: begin \"9+\", expected a step"),
                ("12\t20\t1\t", "12\t20\t64\t", "line 5: warp \"64\", expected 0 to 63 or -"),
                ("\tmma\t", "\tmmm\t", "line 5: event \"mmm\", expected one of arrive, copy, "),
                ("k.cu:5\n", "k.cu:5", "line 6 has no end: the file was cut")):
            self.assertIn(old, GOOD)
            with self.assertRaisesRegex(results.ResultError, "^[^ ]*trace.tsv: " + sentence):
                trace.read(self.write(GOOD.replace(old, new)))
        without = "".join(GOOD.splitlines(True)[:3])
        with self.assertRaisesRegex(results.ResultError, "it has no event of the block; it says: 1: kernel k"):
            trace.read(self.write(without))

    def test_what_steers_a_terminal_is_escaped(self):
        found = trace.read(self.write(GOOD.encode().replace(b"in f:", b"in \x1b[31m\xff:")))
        self.assertEqual(found.rows[1].what, "mma in \\x1b[31m\\xff: 3 products")


@unittest.skipUnless(importlib.util.find_spec("matplotlib"), "SKIPPED, no matplotlib")
@unittest.skipUnless(os.path.exists(MLA), "SKIPPED, make emulated builds the program")
class Pictures(Folder):
    def mla(self, *words, code=0):
        """What the program said."""
        done = subprocess.run([MLA, "plot", *words, "-o", "p.svg"], cwd=self.folder, text=True, timeout=120,
                              capture_output=True, env={**os.environ, "MLA_PYTHON": sys.executable}, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr

    def plot(self, file, *words, code=0, out="p.svg"):
        """What the script said."""
        err = io.StringIO()
        with contextlib.redirect_stderr(err):
            got = plot.main([os.path.join(self.folder, file), "-o", os.path.join(self.folder, out), *words])
        self.assertEqual(got, code, err.getvalue())
        return err.getvalue().replace(self.folder + os.sep, "")

    def picture(self, name="p.svg"):
        with open(os.path.join(self.folder, name), encoding="utf-8") as file:
            return file.read()

    def test_what_is_in_it(self):
        self.write(GOOD)
        self.assertEqual(self.plot("trace.tsv"), "")
        texts = re.findall(r">([^<>\n]+)</text>", self.picture())
        for text in ("block 0 of kernel k (k.cu), 1 block of 64 threads, launch 1, seed 1 order 1 timing 1 "
                     "company 1", "warp 0", "warp 1", "waits: __syncthreads", "waits: mbarrier", "never goes on",
                     "lets others go on, where lines lead", "f"):
            self.assertIn(text, texts)
        self.assertNotIn("copies under way", texts)
        once = self.picture()
        self.plot("trace.tsv")
        self.assertEqual(once, self.picture())
        self.plot("trace.tsv", out="p.png")

    def test_some_of_its_steps(self):
        self.write(GOOD)
        self.plot("trace.tsv", "--from", "15", "--to=25")
        texts = re.findall(r">([^<>\n]+)</text>", self.picture())
        self.assertIn("waits: __syncthreads", texts)
        self.assertNotIn("waits: mbarrier", texts)
        for words, code, sentence in (
                (("--from", "40"), 3, "plot: --from 40: expected a step before 32, where the picture ends\n"),
                (("--from", "20", "--to", "10"), 3, "plot: --from 20: expected a step before 10, where"),
                (("--to", "0"), 3, "plot: --from 0: expected a step before 0, where"),
                (("--kind", "rungs"), 3, "plot: trace.tsv: --kind is for result files, this is a trace\n"),
                (("--mode", "graph"), 3, "plot: trace.tsv: --mode is for result files, this is a trace\n")):
            self.assertIn(sentence, self.plot("trace.tsv", *words, code=code))

    def test_the_program_passes_words_on(self):
        self.write(GOOD)
        self.mla("trace.tsv", "--from", "15", "--to=25")
        self.assertNotIn("waits: mbarrier", self.picture())
        self.assertEqual(self.mla("trace.tsv", "--from=25", "--to=15", code=3),
                         "plot: --from 25: expected a step before 15, where the picture ends\n")
        self.assertIn('mla plot: --from: found "x", expected a whole number',
                      self.mla("trace.tsv", "--from", "x", code=2))
        self.assertIn("mla plot: --to: -1 is out of range", self.mla("trace.tsv", "--to", "-1", code=2))

    def test_steps_of_a_result_file(self):
        file = os.path.join(ROOT, "data", "results", "h200", "peers.json")
        self.assertEqual(self.plot(file, "--from", "3", code=3),
                         f"plot: {file}: --from is for traces, this is none\n")

    def test_a_bad_file(self):
        self.write(GOOD.replace("\tmma\t", "\tmmm\t"))
        self.assertIn("plot: trace.tsv: line 5: event \"mmm\", expected", self.plot("trace.tsv", code=3))

    def test_many_events(self):
        row = "10\t20\t0\t0-31\twait\t__syncthreads, barrier 0 for 64 threads\twarp 1 lane 3\tk.cu:3\n"
        self.write(GOOD + row * trace.MANY)
        self.assertEqual(self.plot("trace.tsv"), f"plot: {trace.MANY + 3} events, too many to tell apart; "
                                                 "--from and --to choose steps\n")

    def test_those_of_the_emulator(self):
        """Each kind of event, and what never ended."""
        traced = Traced()
        for what, code in ((RIGHT, 0), (DEADLOCK, 70), (FAULT, 70)):
            for block in "01":
                done = subprocess.run([traced.build(), what], capture_output=True, check=False, timeout=60,
                                      env={**os.environ, "EMULATE_TRACE": os.path.join(self.folder, "t.tsv"),
                                           "EMULATE_TRACE_BLOCK": block, "EMULATE_SEED": "6"})
                self.assertEqual(done.returncode, code)
                self.plot("t.tsv")
                self.assertEqual("never goes on" in self.picture(), what != RIGHT)
                self.assertEqual("nothing can go on" in self.picture(), what == DEADLOCK)


if __name__ == "__main__":
    unittest.main()
