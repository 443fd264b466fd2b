"""test_emulate.py - mla check --emulate: which program it runs, with which words, and what it makes of how
that ends, seed by seed.

    build/venv/bin/python tests/test_emulate.py

The emulated program is played by a script, beside a copy of the real mla (in $MLA_BUILD, default build).
"""
import errno
import os
import pty
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
# What a seed does stands in $DOES: "2=exit 70", a line each; all others are clean.
PLAYED = """#!/bin/sh
echo "seed=$EMULATE_SEED threads=$OMP_NUM_THREADS"
for word; do echo "<$word>"; done
echo "$EMULATE_SEED" >>"$FOLDER/ran"
does=$(printf '%s\\n' "$DOES" | sed -n "s/^$EMULATE_SEED=//p")
[ -z "$does" ] || { echo "emulator: seed $EMULATE_SEED: $does" >&2; eval "$does"; }
"""


class Emulate(unittest.TestCase):
    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="mla-emulate-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.mkdir(os.path.join(self.folder, "bin"))
        self.mla = shutil.copy(os.path.join(BUILD, "bin", "mla"), os.path.join(self.folder, "bin"))
        self.environment = {k: v for k, v in os.environ.items()
                            if not k.startswith("EMULATE_") and k != "OMP_NUM_THREADS"}
        self.environment["FOLDER"] = self.folder

    def play(self, where="emulated/mla", script=PLAYED):
        path = os.path.join(self.folder, where)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(script)
        os.chmod(path, 0o755)
        return path

    def check(self, *words, code=0, said_aside="", **environment):
        """Standard output, after exit code and standard error were those expected."""
        done = subprocess.run([self.mla, "check", *words], cwd=self.folder, text=True, timeout=60,
                              env={**self.environment, **environment}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        if said_aside:
            self.assertIn(said_aside, done.stderr)
        else:
            self.assertEqual(done.stderr, "")
        return done.stdout

    def ran(self):
        """The seeds that ran, sorted."""
        with open(os.path.join(self.folder, "ran"), encoding="utf-8") as file:
            return sorted(int(line) for line in file)


class OneSeed(Emulate):
    def test_words_pass_through(self):
        self.play()
        self.assertEqual(self.check("--emulate=3", "-k", "07", "--random", "5", "--seed", "9", "-v", "--graph"),
                         "seed=3 threads=\n<check>\n<-k>\n<07>\n<--random>\n<5>\n<--seed>\n<9>\n<-v>\n"
                         "<--graph>\n")
        self.assertEqual(self.check("--suite", "gpu", "-c", "0/*", "--emulate=3", "--fixed-split=64",
                                    "--kernel=naive", "a b.h5", "--", "-k", "--emulate=3"),
                         "seed=3 threads=\n<check>\n<--suite>\n<gpu>\n<-c>\n<0/*>\n<--fixed-split=64>\n"
                         "<--kernel=naive>\n<a b.h5>\n<-->\n<-k>\n<--emulate=3>\n")

    def test_kernels_are_what_is_emulated(self):
        self.play()
        self.assertIn("<check>\n<-k>\n<gpu>\n<--random>\n<1>\n<-->\n<x.h5>\n",
                      self.check("--emulate=3", "--random", "1", "--", "x.h5"))

    def test_an_abbreviation_is_no_word_of_the_program(self):
        self.play()
        self.assertEqual(self.check("--random=1", "--emu=4", "-k", "01"),
                         "seed=4 threads=\n<check>\n<--random=1>\n<-k>\n<01>\n")

    def test_the_environment_says_which_seed_if_nobody_else_does(self):
        self.play()
        self.assertIn("seed= ", self.check("--emulate", "--random", "1"))
        self.assertIn("seed=8 ", self.check("--emulate", "--random", "1", EMULATE_SEED="8"))
        self.assertIn("seed=3 ", self.check("--emulate=3", "--random", "1", EMULATE_SEED="8"))

    def test_its_code_and_streams_are_its_own(self):
        self.play()
        for code in (1, 2, 3, 70, 77):
            self.assertNotIn("==", self.check("--emulate=2", "--random", "1", code=code, DOES=f"2=exit {code}",
                                              said_aside=f"emulator: seed 2: exit {code}\n"))
        self.check("--emulate=2", "--random", "1", code=-signal.SIGSEGV, DOES="2=kill -SEGV $$",
                   said_aside="kill -SEGV")

    def test_it_takes_the_place_of_the_program(self):
        """A signal has one process to end, and none of the one that reads captures is left."""
        self.play(script="#!/bin/sh\nexec sleep 600\n")
        process = subprocess.Popen([self.mla, "check", "--emulate", "--random", "1"], env=self.environment)
        self.addCleanup(process.kill)
        children = f"/proc/{process.pid}/task/{process.pid}/children"
        name = ""
        until = time.monotonic() + 20
        while name != "sleep\n" and time.monotonic() < until:
            time.sleep(0.01)
            with open(f"/proc/{process.pid}/comm", encoding="utf-8") as file:
                name = file.read()
        self.assertEqual(name, "sleep\n")
        if os.path.exists(children):
            with open(children, encoding="utf-8") as file:
                self.assertEqual(file.read(), "")
        process.terminate()
        self.assertEqual(process.wait(timeout=20), -signal.SIGTERM)


class Program(Emulate):
    def test_without_one_it_says_how_to_get_it(self):
        for seeds in ("1", "1-3"):
            self.assertEqual(self.check(f"--emulate={seeds}", "--random", "1", code=77, said_aside=
                                        f"mla check: there is no emulated program beside {self.mla}; in the "
                                        "project's folder \"make emulated\" builds it\n"), "")

    def test_that_of_a_rung_alone_has_the_same(self):
        self.play()
        os.makedirs(os.path.join(self.folder, "rung", "07_ldmatrix"))
        self.mla = shutil.move(self.mla, os.path.join(self.folder, "rung", "07_ldmatrix", "mla"))
        self.assertIn("seed=5 ", self.check("--emulate=5", "--random", "1"))

    def test_one_that_does_not_start(self):
        os.chmod(self.play(), 0o644)
        sentence = f"{self.folder}/bin/../emulated/mla cannot be started: Permission denied\n"
        self.check("--emulate=5", "--random", "1", code=77, said_aside="mla check: " + sentence)
        said = self.check("--emulate=1-2", "--random", "1", code=1)
        self.assertIn("== seed 1: failed, exit code 127\n" + sentence, said)
        self.assertIn("2 seeds: 0 clean, 2 failed (seeds 1, 2)\n", said)


class Seeds(Emulate):
    def setUp(self):
        super().setUp()
        self.play()

    def test_all_clean(self):
        said = self.check("--emulate=1-20", "--random", "1")
        self.assertEqual(self.ran(), list(range(1, 21)))
        self.assertRegex(said, r"\A== seed 1: clean, exit code 0\nseed=1 threads=\d+\n<check>\n<-k>\n<gpu>\n"
                               r"<--random>\n<1>\n20 seeds: 20 clean\n\Z")

    def test_lists_are_taken_too(self):
        self.assertTrue(self.check("--emulate=3,7-8", "--random", "1").endswith("3 seeds: 3 clean\n"))
        self.assertEqual(self.ran(), [3, 7, 8])

    def test_one_with_reports(self):
        said = self.check("--emulate=1-20", "-k", "07", "a b.h5", code=70, DOES="7=exit 70")
        self.assertRegex(said, r"\A== seed 7: with reports, exit code 70\nseed=7 .*\n(<.*>\n)+"
                               r"emulator: seed 7: exit 70\n20 seeds: 19 clean, 1 with reports \(seed 7\)\n"
                               r"repeat: mla check --emulate=7 -k 07 'a b\.h5'\n\Z")

    def test_the_first_failures_are_shown_once_and_the_rest_counted(self):
        """The first of the list, whichever ended first."""
        does = "\n".join(f"{seed}=sleep 0.{9 - seed}; exit 1" for seed in range(2, 8))
        said = self.check("--emulate=1-9", "--random", "1", code=1, DOES=does)
        self.assertEqual(re.findall("== (.*)", said), [
            "seed 2: failed, exit code 1", "seed 3: failed, exit code 1", "seed 4: failed, exit code 1",
            "the output of 3 more is not shown"])
        for seed in range(2, 8):
            self.assertEqual(said.count(f"emulator: seed {seed}: "), seed < 5)
        self.assertIn("9 seeds: 3 clean, 6 failed (seeds 2, 3, 4, 5, 6, 7)\n", said)
        self.assertIn("repeat: mla check --emulate=2 --random 1\n", said)

    def test_many_failures_make_a_short_line(self):
        said = self.check("--emulate=1-12", "--random", "1", code=1,
                          DOES="\n".join(f"{seed}=exit 1" for seed in range(1, 13)))
        self.assertIn("12 seeds: 0 clean, 12 failed (seeds 1, 2, 3, 4, 5, 6, 7, 8, ...)\n", said)
        self.assertIn("== the output of 9 more is not shown\n", said)

    def test_the_worst_code_is_the_code(self):
        for does, code in (("2=exit 1", 1), ("2=exit 1\n3=exit 70", 70), ("2=exit 70\n3=exit 1", 70),
                           ("2=exit 9", 1), ("2=kill -SEGV $$", 1), ("3=kill -KILL $$\n2=exit 70", 70)):
            self.check("--emulate=1-3", "--random", "1", code=code, DOES=does)

    def test_how_a_signal_ends_one_is_said(self):
        said = self.check("--emulate=1-4", "--random", "1", code=1, DOES="3=kill -SEGV $$")
        self.assertIn("== seed 3: ended by a signal, exit code 139\n", said)
        self.assertIn("4 seeds: 3 clean, 1 ended by a signal (seed 3)\n", said)

    def test_one_that_hangs_is_ended(self):
        begin = time.monotonic()
        said = self.check("--emulate=1-4", "--random", "1", code=70, EMULATE_TIMEOUT="1",
                          DOES="2=exec sleep 600\n3=exit 70")
        self.assertLess(time.monotonic() - begin, 20)
        self.assertIn("== seed 2: out of time, 1 s (EMULATE_TIMEOUT)\n", said)
        self.assertIn("4 seeds: 2 clean, 1 with reports (seed 3), 1 out of time (seed 2)\n", said)

    def test_the_limit_is_a_number(self):
        for value, found in (("0", "0 is out of range, expected 1 to 86400"), ("x", 'found "x", expected a whole'),
                             ("86401", "86401 is out of range")):
            self.check("--emulate=1-4", "--random", "1", code=2, EMULATE_TIMEOUT=value,
                       said_aside=f"EMULATE_TIMEOUT: {found}")

    def test_what_no_seed_can_change_ends_the_run(self):
        for code in (2, 3, 77):
            said = self.check("--emulate=2-1000", "--random", "1", code=code, DOES=f"2=exit {code}",
                              said_aside=f"emulator: seed 2: exit {code}\n" if code != 77 else "")
            self.assertEqual("emulator: seed 2: exit 77\n" in said, code == 77)
            self.assertNotIn("seeds", said)
        self.assertLess(len(self.ran()), 100)

    def test_output_without_end_is_cut(self):
        said = self.check("--emulate=1-2", "--random", "1", code=70,
                          DOES="2=yes a line of many | head -c 3000000; exit 70")
        self.assertLess(len(said), 70000)
        left = int(re.search(r"\n\.\.\. and (\d+) bytes more\n2 seeds: ", said)[1])
        self.assertGreater(left, 2900000)

    def test_what_steers_a_terminal_is_escaped(self):
        said = self.check("--emulate=1-2", "--random", "1", code=70,
                          DOES="2=printf 'a\\033[31mb\\n\\n'; exit 70")
        self.assertIn("a\\x1b[31mb\n\n2 seeds: ", said)

    def test_one_that_leaves_its_pipe_open_is_not_waited_for(self):
        begin = time.monotonic()
        self.check("--emulate=1-4", "--random", "1", DOES="2=sleep 30 & echo $! >$FOLDER/left")
        self.assertLess(time.monotonic() - begin, 20)
        with open(os.path.join(self.folder, "left"), encoding="utf-8") as file:
            os.kill(int(file.read()), signal.SIGKILL)

    def test_side_by_side_on_all_cores(self):
        cores = len(os.sched_getaffinity(0))
        if cores == 1:
            self.skipTest("SKIPPED, one core")
        with open(os.path.join(self.folder, "both"), "w", encoding="utf-8") as script:
            script.write("until [ -e $FOLDER/1 ] && [ -e $FOLDER/2 ]\n"
                         "do : >$FOLDER/$EMULATE_SEED; sleep 0.01; done\n")
        said = self.check("--emulate=1-2", "--random", "1", EMULATE_TIMEOUT="20",
                          DOES="1=. $FOLDER/both\n2=. $FOLDER/both")
        self.assertIn(f"threads={cores // 2}\n", said)
        self.assertIn("threads=5\n", self.check("--emulate=1-2", "--random", "1", OMP_NUM_THREADS="5"))

    def test_a_file_that_each_would_write(self):
        for words, environment, sentence in (
                (("--json", "x.json"), {}, "--json names one file, and --emulate 3 seeds"),
                ((), {"EMULATE_TRACE": "x"}, "EMULATE_TRACE names one file, and --emulate 3 seeds")):
            self.check("--emulate=1-3", "--random", "1", *words, code=2, said_aside=sentence, **environment)
            self.check("--emulate=1", "--random", "1", *words, **environment)


class Ending(Emulate):
    def processes(self):
        """Those that run in this folder."""
        found = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.readlink(f"/proc/{entry}/cwd") == self.folder:
                    found.append(entry)
            except OSError:
                pass
        return found

    def start(self, **streams):
        def as_a_terminal_does():
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen([self.mla, "check", "--emulate=1-9", "--random", "1"], cwd=self.folder,
                                env={**self.environment, "DOES": "1=exec sleep 600\n2=exec sleep 600"},
                                start_new_session=True, preexec_fn=as_a_terminal_does, **streams)

    def wait_until(self, true):
        until = time.monotonic() + 20
        while not true() and time.monotonic() < until:
            time.sleep(0.02)
        self.assertTrue(true())

    def test_a_signal_leaves_nothing_behind(self):
        self.play()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            with self.subTest(number), open(os.path.join(self.folder, "said"), "w+", encoding="utf-8") as said:
                process = self.start(stdout=said, stderr=said)
                self.addCleanup(process.kill)
                self.wait_until(lambda: os.path.exists(os.path.join(self.folder, "ran")))
                process.send_signal(number)
                self.assertEqual(process.wait(timeout=20), -number)
                self.wait_until(lambda: not self.processes())
                os.remove(os.path.join(self.folder, "ran"))
                said.seek(0)
                self.assertEqual(said.read(), "")
        self.assertEqual(sorted(os.listdir(self.folder)), ["bin", "emulated", "said"])


class Terminal(Emulate):
    def test_progress_stands_on_a_terminal(self):
        """And is gone at the end. Elsewhere standard error is empty: each check above says so."""
        self.play()
        try:
            ours, theirs = pty.openpty()
        except OSError:
            self.skipTest("SKIPPED, no pseudo-terminals here")
        process = subprocess.Popen([self.mla, "check", "--emulate=1-5", "--random", "1"], stdin=subprocess.DEVNULL,
                                   env={**self.environment, "DOES": "2=exit 1"}, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = b""
        try:
            while chunk := os.read(ours, 4096):
                text += chunk
        except OSError as error:
            self.assertEqual(error.errno, errno.EIO)
        os.close(ours)
        self.assertEqual(process.wait(timeout=20), 1)
        text = text.decode()
        self.assertIn("\r\033[K0 of 5 seeds, 0 failed", text)
        self.assertRegex(text, "\r\033\\[K4 of 5 seeds, [01] failed\r\033\\[K== seed 2: failed")


EMULATED = os.path.join(BUILD, "emulated", "mla")


@unittest.skipUnless(os.path.exists(EMULATED), "SKIPPED, make emulated has not been called")
class Real(Emulate):
    """The emulated program itself."""

    def setUp(self):
        super().setUp()
        self.mla = EMULATED

    def run_verb(self, *words, code=0):
        done = subprocess.run([self.mla, *words], cwd=ROOT, env=self.environment, text=True, timeout=120,
                              stdin=subprocess.DEVNULL, capture_output=True, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_it_is_not_timed(self):
        for words in (["bench", "--suite", "smoke"], ["ceilings"], ["profile", "-k", "01", "--kv-len", "9"]):
            self.assertEqual(self.run_verb(*words, code=2), f"mla {words[0]}: the emulated program is not timed: how "
                             "long a CPU takes to emulate a kernel says nothing about a GPU\n")
        self.assertIn("GPU: emulated GPU", self.run_verb("list"))

    def test_it_emulates_itself(self):
        """From wherever it lies, and several seeds, too."""
        said = self.check("--emulate=2", "-k", "04,05", "-c", "random:1.0")
        self.assertIn("\n2 passed, 0 failed, 0 skipped\n", said)
        self.mla = shutil.copy(EMULATED, os.path.join(self.folder, "elsewhere"))
        said = self.check("--emulate=1-3", "-k", "05", "-c", "random:1.0")
        self.assertIn("\n1 passed, 0 failed, 0 skipped\n", said)
        self.assertTrue(said.endswith("\n3 seeds: 3 clean\n"))

    def test_the_program_beside_it_finds_it(self):
        self.mla = os.path.join(BUILD, "bin", "mla")
        self.assertIn("\n05_tensorcore  PASS ", self.check("--emulate", "-k", "05", "-c", "random:1.0"))


if __name__ == "__main__":
    unittest.main()
