"""test_outputs.py - what is written replaces nothing else, and is whole or not there: every verb of
the program, and the scripts.

    build/venv/bin/python tests/test_outputs.py

Needs a built mla (in $MLA_BUILD, default build), and h5py. Disks are full by a limit on the size of
files and, where they can be mounted, by a small file system; signals come while files are written.
"""
import contextlib
import fcntl
import json
import os
import re
import resource
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
MLA = os.path.join(BUILD, "bin", "mla")
RESULTS = os.path.join(ROOT, "data", "results", "h200", "peers_ladder.json")
PYTHON = os.path.join(ROOT, "harness", "python")
sys.path[:0] = [PYTHON]

from mla import output  # noqa: E402

SHAPE = "--heads 2 --kv-len 5,3 --page-size 2 --ckv-dim 8 --kpe-dim 4".split()
BENCH = ["-k", "online", "--heads", "2", "--kv-len", "50", "--samples", "3", "--time", "0.01"]
COMPARE = ["--implementation", "07_ldmatrix=08_tall"]
SIGNALS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGPIPE", "SIGXFSZ", "SIGXCPU", "SIGUSR1")
# Numpy's threads may get a signal, too, which does not wake the one that sleeps.
SLEEP = "[time.sleep(0.02) for _ in range(3000)]"


def limited(size):
    """For a child: no file may become larger, and writing beyond that sends SIGXFSZ."""
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return limit


class Outputs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)

    def mla(self, *words, code=0, says=None, prints=None, size=resource.RLIM_INFINITY, **how):
        """Runs the program; pipes take what it prints, so that a limit is about files alone."""
        done = subprocess.run([MLA, *words], capture_output=True, text=True, timeout=120,
                              check=False, stdin=subprocess.DEVNULL, preexec_fn=limited(size),
                              **how)
        self.assertEqual(done.returncode, code, (words, done.stdout, done.stderr))
        if says is not None:
            self.assertRegex(done.stderr, f"^mla[ a-z]*: {says}\n$")
        if prints is not None:
            self.assertEqual(done.stdout, prints)
        return done

    def make(self, name="in.h5"):
        self.mla("make", "-o", name, *SHAPE)
        return name

    def read(self, path):
        with open(path, "rb") as file:
            return file.read()

    def put(self, path, data):
        with open(path, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
        return path

    def state(self):
        """What lies here, and all that it holds."""
        return {name: self.read(name) if stat.S_ISREG(os.lstat(name).st_mode)
                else os.lstat(name).st_mode for name in os.listdir()}

    @contextlib.contextmanager
    def unchanged(self):
        before = self.state()
        yield
        self.assertEqual(self.state(), before)

    def wait_for(self, condition):
        end = time.monotonic() + 60
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.002)


class Refusals(Outputs):
    """Exit code 2, a sentence, and nothing has changed."""

    def writers(self, capture, result):
        """The program's ways to write a file: words that the path follows."""
        return [["make", *SHAPE, "--force", "-o"],
                ["cut", "--heads", "0", "--force", capture],
                ["check", "-k", "cpu", capture, "--json"],
                ["bench", *BENCH, "--json"],
                ["bench", *BENCH, "--csv"],
                ["compare", result, result, *COMPARE, "--json"],
                ["ceilings", "--ceilings"]]

    def refused(self, words, why):
        with self.unchanged():
            self.mla(*words, code=2, says=f".*: cannot be written: {why}", prints="")

    def test_an_input_by_any_name(self):
        capture = self.make()
        result = shutil.copy(RESULTS, "in.json")
        ceilings = shutil.copy(os.path.join(ROOT, "data/results/h200/ceilings.json"), "c.json")
        os.mkdir("sub")
        for name in (capture, result, ceilings):
            os.link(name, f"hard-{name}")
            os.symlink(name, f"soft-{name}")
        os.symlink(result, "soft.svg")
        for make in ("{}", "./{}", "hard-{}", "soft-{}", "sub/../{}", os.getcwd() + "/{}"):
            for name, words in (
                    (capture, ["cut", "--heads", "0", "--force", capture]),
                    (capture, ["check", "-k", "cpu", capture, "--json"]),
                    (capture, ["bench", "-k", "online", capture, "--csv"]),
                    (result, ["compare", result, RESULTS, *COMPARE, "--json"]),
                    (ceilings, ["bench", *BENCH, "--ceilings", ceilings, "--json"])):
                self.refused([*words, make.format(name)],
                             "it is an input of the same command, .*; choose another name")
        done = self.mla("plot", result, "-o", "soft.svg", code=2)
        self.assertIn("it is an input of the same command", done.stderr)

    def test_another_output_of_the_command(self):
        os.mkdir("sub")
        for other in ("same", "./same", "sub/../same"):
            self.refused(["bench", *BENCH, "--json", "same", "--csv", other],
                         "another output of the same command goes there, .*")
        self.put("same", "")
        os.link("same", "hard")
        self.refused(["bench", *BENCH, "--json", "same", "--csv", "hard"],
                     "another output of the same command goes there, .*")
        self.refused(["bench", *BENCH, "--json", "-", "--csv", "/dev/stdout"],
                     "another output of the same command goes there, .*")

    def test_what_is_no_regular_file(self):
        capture, result = self.make(), shutil.copy(RESULTS, "in.json")
        os.mkdir("folder")
        os.mkfifo("pipe")
        os.mkfifo("pipe.svg")
        os.symlink("nowhere", "link")
        devices = []
        with contextlib.suppress(PermissionError):  # where this is no root
            os.mknod("device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            os.mknod("device.svg", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            devices.append(("device", "it is a device, expected a regular file"))
        for words in self.writers(capture, result):
            for name, why in (("folder", "it is a folder, .*"),
                              ("link", "it is a symbolic link to nothing")):
                self.refused([*words, name], why)
            if words[0] in ("make", "cut", "ceilings"):
                for name, why in (("pipe", "it is a pipe, .*"), *devices):
                    self.refused([*words, name], why)
        self.refused(["check", "-k", "cpu", capture, "--json", "pipe"], "nobody reads this pipe")
        for name in ("pipe.svg", "device.svg")[:1 + len(devices)]:
            with self.unchanged():
                done = self.mla("plot", result, "-o", name, code=2, prints="")
                self.assertRegex(done.stderr, f"plot: {name}: cannot be written: it is a [a-z]*, "
                                              "expected a regular file\n")

    def test_a_file_of_another_kind(self):
        capture, result = self.make(), shutil.copy(RESULTS, "in.json")
        self.put("source.c", "int main(void)\n{\n}\n")
        self.put("script", "#!/bin/sh\nexit 0\n")
        self.put("table", "name,age\nme,7\n")
        self.put("picture.png", b"\x89PNG\r\n\x1a\n....")
        self.put("other.h5", b"\x89HDF\r\n\x1a\n" + bytes(500))
        self.put("words.json", '{"schema": "mla-cases"}')
        shutil.copy(MLA, "program")
        everything = ["source.c", "script", "table", "picture.png", "other.h5", "program",
                      "words.json"]
        for words in self.writers(capture, result):
            for name in everything:
                self.refused([*words, name], "it holds .* and would be lost, expected no file, an "
                                             "empty one or .*; choose another name, or remove it "
                                             "first")
        os.link(capture, "spare.h5")
        for words in (["check", "-k", "cpu", "--random", "1", "--json", "spare.h5"],
                      ["bench", *BENCH, "--csv", "spare.h5"]):
            self.refused(words, "it holds a capture and would be lost.*")
        shutil.copy(capture, "q.svg")
        with self.unchanged():
            self.mla("plot", result, "-o", "q.svg", code=2)

    def test_a_capture_wants_force(self):
        capture = self.make()
        self.make("out.h5")
        for words in (["make", *SHAPE, "-o"], ["cut", "--heads", "0", capture]):
            self.refused([*words, "out.h5"], "there is a capture already; --force replaces it")
            before = self.read("out.h5")
            self.mla(*words, "out.h5", "--force")
            self.assertNotEqual(self.read("out.h5"), before)
        self.put("empty", "")
        self.mla("make", *SHAPE, "-o", "empty")
        self.mla("verify", "empty")

    def test_before_any_work(self):
        """A bench of minutes ends at once, and nothing was printed."""
        long = ["bench", "-k", "online", "--suite", "smoke", "--time", "60", "--samples", "100000"]
        self.put("theirs", "text")
        start = time.monotonic()
        for option in ("--json", "--csv"):
            self.refused([*long, option, "theirs"], "it holds other text.*")
            self.mla(*long, option, "no/such/folder", code=3, prints="",
                     says="no/such/folder: cannot be written: No such file or directory")
        self.mla("check", "--random", "100000", "-k", "cpu", "--json", "no/such", code=3, prints="",
                 says="no/such: cannot be written: No such file or directory")
        self.mla("make", "-o", "no/such", "--heads", "128", "--kv-len", "100000", code=3, prints="",
                 says="no/such: cannot be written: No such file or directory")
        self.assertLess(time.monotonic() - start, 10)
        self.assertEqual(os.listdir(), ["theirs"])

    def test_links_and_files_at_old_temporary_names(self):
        self.put("victim", "precious")
        os.symlink("victim", "d.h5.partial")
        os.mkfifo("e.h5.partial")
        self.put("p.partial.svg", "mine")
        before = self.state()
        self.make("d.h5")
        self.make("e.h5")
        with output.Output("p.svg", "svg") as out:
            out.write("<svg/>")
        after = self.state()
        self.assertEqual({name: after[name] for name in before}, before)
        self.assertEqual(set(after) - set(before), {"d.h5", "e.h5", "p.svg"})


class Streams(Outputs):
    """The file alone goes to standard output; what is printed goes elsewhere."""

    def forms(self, words):
        """The bytes that a pipe, a file and a FIFO get."""
        command = [MLA, *words]
        for path in ("-", "/dev/stdout"):
            done = subprocess.run([*command, path], capture_output=True, timeout=60, check=False,
                                  stdin=subprocess.DEVNULL)
            yield done, done.stdout
            with open("file", "wb") as file:
                done = subprocess.run([*command, path], stdout=file, stderr=subprocess.PIPE,
                                      timeout=60, check=False)
            yield done, self.read("file")
            with open("both", "wb") as file:
                done = subprocess.run([*command, path], stdout=file, stderr=subprocess.STDOUT,
                                      timeout=60, check=False)
            done.stderr = b"passed A/B median"
            yield done, self.read("both")
        os.mkfifo("pipe")
        with subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE) as reader:
            done = subprocess.run([*command, "pipe"], capture_output=True, timeout=60, check=False)
            got = reader.communicate(timeout=60)[0]
        done.stderr = done.stdout
        yield done, got
        self.assertTrue(stat.S_ISFIFO(os.lstat("pipe").st_mode))
        os.unlink("pipe")

    def test_json_is_alone(self):
        capture = self.make()
        for words, schema, table in (
                (["check", "-k", "cpu", capture, "--json"], "mla-check", b"passed"),
                (["bench", *BENCH, "--json"], "mla-results", b"median"),
                (["compare", RESULTS, RESULTS, *COMPARE, "--json"], "mla-compare", b"A/B")):
            for done, got in self.forms(words):
                self.assertIn(done.returncode, (0, 1), done.stderr)
                self.assertEqual(json.loads(got)["schema"], schema)
                self.assertIn(table, done.stderr)

    def test_csv_is_alone(self):
        for done, got in self.forms(["bench", *BENCH, "--csv"]):
            self.assertEqual(done.returncode, 0)
            lines = got.decode().splitlines()
            self.assertEqual(len(lines), 2)
            self.assertTrue(lines[0].startswith("case,implementation,"))

    def test_a_stream_gets_all_cases_once(self):
        done = self.mla("bench", "--suite", "smoke", "-k", "online", "--samples", "3", "--json",
                        "-", "--csv", "c.csv")
        cases = json.loads(done.stdout)["measurements"]
        self.assertEqual(len(cases), 3)
        self.assertEqual(len(self.read("c.csv").splitlines()), 4)

    def test_a_reader_that_goes(self):
        """It has the table; the file is written all the same. One of the file is missed."""
        head = f"'{MLA}' check -v -k cpu --json whole.json --random 9 | true"
        done = subprocess.run(["sh", "-c", head], capture_output=True, text=True, timeout=60,
                              check=False)
        self.assertEqual(done.stderr, "")
        self.assertEqual(len(json.loads(self.read("whole.json"))["cases"]), 9)
        for words in ("list", "cases --json --cells b1_4K_h16"):
            done = subprocess.run(["sh", "-c", f"'{MLA}' {words} | true"], capture_output=True,
                                  text=True, timeout=60, check=False)
            self.assertEqual(done.stderr, "")
        os.mkfifo("pipe")
        reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        with subprocess.Popen([MLA, "check", "-k", "cpu", "--random", "9", "--json", "pipe"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                              text=True) as child:
            select.select([reader], [], [], 60)
            os.close(reader)
            self.assertEqual(child.communicate(timeout=60)[1],
                             "mla check: pipe: cannot be written: Broken pipe\n")
        self.assertEqual(child.returncode, 3)

    def test_a_closed_standard_output_spares_the_file(self):
        """A file that is opened must not get the number of what is printed to."""
        for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
            command = f"'{MLA}' make -o x.h5 --force {' '.join(SHAPE)} {closed}"
            subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
            self.mla("verify", "x.h5")
            command = f"'{MLA}' check -k cpu --json x.json x.h5 {closed}"
            subprocess.run(["sh", "-c", command], capture_output=True, timeout=60, check=False)
            self.assertEqual(json.loads(self.read("x.json"))["schema"], "mla-check")


class Failures(Outputs):
    """Exit code 3, one sentence, the old file as it was, nothing beside it."""

    def walk(self, words, name, whole, *sizes):
        """Under limits on the size of files, from 1 KB to what it takes."""
        self.assertGreater(whole, 1000)
        for size in sizes or [*range(0, whole, max(1024, whole // 12)), whole - 1]:
            with self.subTest(words=words, size=size), self.unchanged():
                self.mla(*words, code=3, size=size, prints="",
                         says=f"{name}: cannot be written: File too large")
        self.mla(*words)  # room that HDF5 gives back in the end is needed besides

    def test_captures_under_a_limit(self):
        capture = self.make()
        for size in (0, 1024, 16384, 30000):  # a new file
            with self.unchanged():
                self.mla("make", *SHAPE, "-o", "new.h5", code=3, size=size,
                         says="new.h5: cannot be written: File too large")
        for words in (["make", *SHAPE, "--force", "-o"], ["make", *SHAPE, "-z", "--force", "-o"],
                      ["cut", "--force", capture]):
            self.mla(*words, "out.h5")
            self.walk([*words, "out.h5"], "out.h5", os.path.getsize("out.h5"))
        large = ["make", "--heads", "2", "--kv-len", "3000", "--force", "-o", "large.h5"]
        self.mla(*large)  # in chunks of 1 MB
        whole = os.path.getsize("large.h5")
        self.walk(large, "large.h5", whole, 0, 1 << 20, whole // 2, 3 << 20, whole - 1)

    def walk_text(self, words, name):
        self.mla(*words, name)
        whole = os.path.getsize(name)
        for size in (0, whole // 2, whole - 200):  # times are not as long each time
            with self.unchanged():
                done = self.mla(*words, name, code=3, size=size)
                self.assertRegex(done.stderr, f"^mla [a-z]*: {name}: cannot be written: "
                                              "File too large\n$")

    def test_reports_under_a_limit(self):
        self.walk_text(["check", "-k", "cpu", "--random", "3", "--json"], "check.json")
        self.walk_text(["bench", *BENCH, "--json"], "bench.json")
        self.mla("compare", RESULTS, RESULTS, *COMPARE, "--json", "c.json", code=0)
        self.walk_text(["compare", RESULTS, RESULTS, *COMPARE, "--json"], "c.json")

    def test_csv_under_a_limit(self):
        words = ["bench", *BENCH, "--csv", "c.csv"]
        self.mla(*words)
        for size in (0, 50):
            with self.unchanged():
                done = self.mla(*words, code=3, size=size)
                self.assertEqual(done.stderr,
                                 "mla bench: c.csv: cannot be written: File too large\n")

    def test_pictures_under_a_limit(self):
        words = ["plot", RESULTS, "-o", "p.svg"]
        self.mla(*words)
        with self.unchanged():
            done = self.mla(*words, code=3, size=os.path.getsize("p.svg") - 1)
            self.assertEqual(done.stderr, "plot: p.svg: cannot be written: File too large\n")

    def test_a_full_file_system(self):
        os.mkdir("full")
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "none", "full"],
                               capture_output=True, check=False)
        if mount.returncode:
            self.skipTest("no file system can be mounted here")
        try:
            capture = self.make()
            self.put("full/old.json", '{"old": 1}')
            with contextlib.suppress(OSError), open("full/rest", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1024))
            for words, name in ((["make", *SHAPE, "-o"], "new.h5"), (["cut", capture], "new.h5"),
                                (["compare", RESULTS, RESULTS, *COMPARE, "--json"], "old.json")):
                self.mla(*words, f"full/{name}", code=3, prints=None,
                         says=f"full/{name}: cannot be written: No space left on device")
                self.assertEqual(sorted(os.listdir("full")), ["old.json", "rest"])
                self.assertEqual(self.read("full/old.json"), b'{"old": 1}')
        finally:
            subprocess.run(["umount", "full"], check=True)

    def test_a_library_that_ends_the_program(self):
        capture = self.make()
        self.put("old.json", '{"old": 1}')
        # no thread has a stack of so many bytes
        env = dict(os.environ, OMP_NUM_THREADS="4", OMP_STACKSIZE="100000G")
        work = ["--random", "3", "-k", "cpu"]
        for words, name in ((["check", *work, "--json"], "old.json"),
                            (["bench", *BENCH, "--heads", "16", "--kv-len", "5000", "--csv"],
                             "new.csv")):
            with self.unchanged():
                done = self.mla(*words, name, code=3, env=env)
                self.assertIn(f"\nmla: {name}: cannot be written: ended by a library", done.stderr)
        self.mla("check", *work, code=3, env=env)
        self.mla("check", "-k", "cpu", capture, env=env)  # small ones need no second thread

    def test_who_may_read_stays(self):
        capture = self.make()
        for words, name, kept in ((["make", *SHAPE, "--force", "-o"], "a.h5", True),
                                  (["cut", "--force", capture], "b.h5", True),
                                  (["bench", *BENCH, "--json"], "c.json", False)):
            self.put(name, self.read(capture) if kept else "{}")
            for mode in (0o600, 0o640, 0o664):
                os.chmod(name, mode)
                self.mla(*words, name)
                self.assertEqual(stat.S_IMODE(os.stat(name).st_mode), mode, (words, oct(mode)))

    def interrupt(self, command, number, ready, **how):
        """Sends the signal when ready says so; the process has ended then."""
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              preexec_fn=limited(resource.RLIM_INFINITY), **how) as child:
            try:
                self.wait_for(lambda: child.poll() is not None or ready())
                child.send_signal(number)
                _, said = child.communicate(timeout=60)
            finally:
                child.kill()  # whatever went wrong, it ends
        return child.returncode, said

    @staticmethod
    def half_written(least=1):
        return any(name.startswith(".mla-") and os.path.getsize(name) >= least
                   for name in os.listdir())

    def test_signals_while_captures_are_written(self):
        self.mla("make", "--heads", "2", "--kv-len", "20000", "-o", "in.h5")
        self.make("out.h5")
        make = [MLA, "make", "--force", "-o", "out.h5", "--heads", "2", "--kv-len", "20000"]
        cut = [MLA, "cut", "--force", "in.h5", "out.h5"]
        for name, command in (*((name, make) for name in SIGNALS), ("SIGTERM", cut),
                              ("SIGINT", cut)):
            with self.subTest(name=name, command=command[1]), self.unchanged():
                code, said = self.interrupt(command, getattr(signal, name),
                                            lambda: self.half_written(1 << 20))
                self.assertEqual((code, said), (3, "mla: out.h5: cannot be written: ended by "
                                                   f"{name}\n"))

    def test_a_signal_while_a_report_is_made(self):
        self.put("old.json", '{"old": 1}')
        for words in (["check", "-k", "cpu", "--random", "100000", "--json", "old.json"],
                      ["check", "-k", "cpu", "--random", "100000", "--json", "new.json"]):
            with self.unchanged():
                code, said = self.interrupt([MLA, *words], signal.SIGTERM,
                                            lambda: self.half_written(0))
                self.assertEqual((code, said),
                                 (3, f"mla: {words[-1]}: cannot be written: ended by SIGTERM\n"))

    def test_what_was_measured_before_a_signal_stays(self):
        command = [MLA, "bench", "--suite", "smoke", "-k", "online", "--time", "0.3", "--json",
                   "b.json", "--csv", "b.csv"]
        code, said = self.interrupt(command, signal.SIGINT, lambda: os.path.exists("b.json"))
        self.assertIn(code, (0, 3))  # 0: all was measured before
        if code:
            self.assertIn("mla: b.json: holds what was known before the end by SIGINT\n", said)
        self.assertTrue(json.loads(self.read("b.json"))["measurements"])
        self.assertEqual(sorted(os.listdir()), ["b.csv", "b.json"])

    def test_a_signal_without_an_output_is_as_ever(self):
        command = [MLA, "check", "-k", "cpu", "--random", "100000"]
        start = time.monotonic()
        code, said = self.interrupt(command, signal.SIGTERM,
                                    lambda: time.monotonic() > start + 0.3)
        self.assertEqual((code, said), (-signal.SIGTERM, ""))

    def test_a_signal_that_is_ignored_stays_so(self):
        command = ["sh", "-c", f"trap '' HUP; exec '{MLA}' make -o out.h5 --heads 2 "
                               "--kv-len 20000"]
        code, _ = self.interrupt(command, signal.SIGHUP, lambda: self.half_written(1))
        self.assertEqual(code, 0)
        self.mla("verify", "out.h5")

    def test_a_signal_while_a_picture_is_drawn(self):
        """The verb becomes the script, so that a signal reaches who writes."""
        self.put("p.svg", "<svg/>")
        with self.unchanged():
            code, said = self.interrupt([MLA, "plot", RESULTS, "-o", "p.svg"], signal.SIGTERM,
                                        lambda: self.half_written(0))
            self.assertEqual((code, said),
                             (3, "plot: p.svg: cannot be written: ended by SIGTERM\n"))


class Together(Outputs):
    def test_a_capture_is_replaced_while_it_is_read(self):
        self.make("a.h5")
        writer = subprocess.Popen(
            ["/bin/sh", "-c", "while :; do cp a.h5 new; mv new a.h5; sleep 0.005; done"])
        try:
            for _ in range(100):
                self.mla("info", "a.h5")
        finally:
            writer.kill()
            writer.wait()

    def test_nothing_is_left_running(self):
        """Whoever is not waited for comes to a parent that says it takes them."""
        capture = self.make()
        script = ("import ctypes, os, subprocess, sys\n"
                  "assert not ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER\n"
                  "for _ in range(60):\n"
                  "    assert not subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)\n"
                  "    try:\n"
                  "        sys.exit(f'left: {os.waitpid(-1, os.WNOHANG)}')\n"
                  "    except ChildProcessError:\n"
                  "        pass\n")
        subprocess.run([sys.executable, "-c", script, MLA, "info", capture], check=True,
                       timeout=60)

    def test_a_name_that_is_taken_while_a_capture_is_made(self):
        """In a folder of many anyone may put a link where the file is being written."""
        victim = self.put("victim", "precious")
        with subprocess.Popen([MLA, "make", "-o", "a.h5", "--heads", "2", "--kv-len", "60000"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
            def beside():
                return [name for name in os.listdir() if name.startswith(".mla-")]
            self.wait_for(beside)
            name = beside()[0]
            os.rename(name, "moved")
            os.symlink(victim, name)
            said = child.communicate(timeout=60)[1].decode()
        self.assertEqual(self.read(victim), b"precious")
        self.assertEqual(child.returncode, 3, said)

    def test_without_proc(self):
        capture = self.make()
        script = f"mount -t tmpfs none /proc && {MLA} verify {capture} && {MLA} cut {capture} b.h5"
        if subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "none", "/proc"],
                          capture_output=True, check=False).returncode:
            self.skipTest("no file system can be mounted here")
        subprocess.run(["unshare", "-m", "/bin/sh", "-c", script], check=True, timeout=60,
                       stdout=subprocess.DEVNULL)

    def test_two_writers_end_whole(self):
        """Of an absent name, whichever ends last; and of one that --force replaces."""
        for force in ([], ["--force"]):
            for length in ("40", "3000"):
                self.mla("make", "-o", "w.h5", "--heads", "2", "--kv-len", length, "--force")
                if not force:
                    os.unlink("w.h5")
                words = [MLA, "make", "-o", "w.h5", "--heads", "2", "--kv-len", length, *force]
                children = [subprocess.Popen(words, stdout=subprocess.DEVNULL,
                                             stderr=subprocess.PIPE, text=True) for _ in range(3)]
                ends = [(child.communicate(timeout=60)[1], child.returncode) for child in children]
                self.assertIn(("", 0), ends)
                for said, code in ends:  # who came when one had ended was told so
                    self.assertTrue(code == 0 or (code == 2 and "--force replaces it" in said))
                self.mla("verify", "w.h5")
                self.assertEqual(os.listdir(), ["w.h5"])
                os.unlink("w.h5")

    def test_a_writer_replaces_what_came_meanwhile(self):
        with subprocess.Popen([MLA, "make", "-o", "w.h5", "--heads", "2", "--kv-len", "60000"],
                              stdout=subprocess.DEVNULL) as child:
            self.wait_for(lambda: Failures.half_written(0))
            self.put("w.h5", "somebody else's, later")
        self.assertEqual(child.returncode, 0)
        self.mla("verify", "w.h5")


class Scripts(Outputs):
    """The same of what Python writes: output.Output."""

    def write(self, path, kind, data, **asked):
        with output.Output(path, kind, **asked) as out:
            out.write(data)

    def refused(self, why, path, kind, error=output.Refused, **asked):
        with self.unchanged(), self.assertRaises(error) as caught:
            self.write(path, kind, "new", **asked)
        self.assertRegex(str(caught.exception), f"^{re.escape(path)}: cannot be written: {why}$")

    def test_kinds(self):
        files = {"a.h5": self.read(self.make()), "a.json": b'{"schema": "s"}', "b.json": b"{}",
                 "a.svg": b"<?xml?><svg/>", "a.png": b"\x89PNG\r\n\x1a\n", "a.c": b"int x;",
                 "a.sh": b"#!/bin/sh\n", "h.h5": b"\x89HDF\r\n\x1a\n", "list.json": b"[1]",
                 "half.json": b'{"a"'}
        good = {("a.h5", "capture"), ("a.json", "json"), ("b.json", "json"), ("a.svg", "svg"),
                ("a.png", "png")}
        os.unlink("in.h5")
        for name, data in files.items():
            for kind in ("capture", "json", "svg", "png"):
                self.put(name, data)
                if (name, kind) in good:
                    self.write(name, kind, "new", force=True)
                    self.assertEqual(self.read(name), b"new")
                else:
                    self.refused("it holds .* and would be lost, .*", name, kind, force=True)
        self.put("a.json", b'{"schema": "s"}')
        self.refused('it holds JSON of schema "s" and would be lost, .* JSON \\("t"\\); .*',
                     "a.json", "json", schema="t")
        self.put("a.h5", files["a.h5"])
        self.refused("there is a capture already; --force replaces it", "a.h5", "capture")
        self.put("empty", "")
        for kind in ("capture", "json", "svg", "png", "own"):
            self.write("empty", kind, "")
        self.assertEqual(self.read("empty"), b"")

    def test_inputs_others_and_what_is_no_file(self):
        self.put("in.json", "{}")
        os.link("in.json", "hard.json")
        os.symlink("in.json", "soft.json")
        for name in ("in.json", "./in.json", "hard.json", "soft.json"):
            self.refused("it is an input of the same command, in.json; .*", name, "json",
                         inputs=[None, "in.json"])
        self.refused("another output of the same command goes there, ./new; .*", "new", "json",
                     others=["./new"])
        os.mkdir("folder")
        os.mkfifo("pipe")
        os.symlink("nowhere", "link")
        for kind in ("capture", "svg", "own"):
            self.refused("it is a pipe, expected a regular file", "pipe", kind)
            self.refused("it is a device, expected a regular file", "/dev/null", kind)
        self.refused("nobody reads this pipe", "pipe", "json")
        self.refused("it is a folder, expected .*", "folder", "json")
        self.refused("it is a symbolic link to nothing", "link", "json")
        self.refused("No such file or directory", "no/such", "json", error=output.OutputError)

    def test_the_old_file_stays(self):
        self.put("a.json", "{}")
        with self.unchanged():
            with self.assertRaises(KeyError), output.Output("a.json", "json"):
                raise KeyError
            with output.Output("a.json", "json"):
                pass  # nothing was written
            with self.assertRaises(ValueError), output.Output("a.json", "json") as out:
                out.write("half", check=lambda path: int(path))
        os.symlink("a.json", "link.json")
        self.write("link.json", "json", "new")
        self.assertTrue(os.path.islink("link.json"))
        self.assertEqual(self.read("a.json"), b"new")

    def script(self, body, size=resource.RLIM_INFINITY, number=None):
        """A program that writes, and ends as those here do."""
        text = ("import sys, time\nfrom mla import output\ntry:\n    " + body.replace("\n", "\n    ")
                + "\nexcept output.ERRORS as error:\n    print(error)\n    sys.exit(error.code)\n")
        with subprocess.Popen([sys.executable, "-B", "-c", text], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, preexec_fn=limited(size),
                              env={**os.environ, "PYTHONPATH": PYTHON}) as child:
            if number is not None:
                self.wait_for(lambda: child.poll() is not None or Failures.half_written(0))
                child.send_signal(number)
            said = child.communicate(timeout=60)[0]
        return child.returncode, said

    def test_limits_and_signals(self):
        body = ("with output.Output('a.json', 'json') as out:\n    {}"
                "\n    out.write('x' * 5000)\n")
        self.put("a.json", "{}")
        for size in (0, 1024, 4999):
            with self.unchanged():
                self.assertEqual(self.script(body.format("pass"), size),
                                 (3, "a.json: cannot be written: File too large\n"))
        for name in SIGNALS:
            if name not in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them
                with self.unchanged():
                    self.assertEqual(
                        self.script(body.format(SLEEP), number=getattr(signal, name)),
                        (3, f"a.json: cannot be written: ended by {name}\n"))

    def test_captures_under_a_limit(self):
        """HDF5 never sees the disk, which it would not survive."""
        body = ("from mla import h5\nimport numpy\n"
                "with output.Output('a.h5', 'capture', force=True) as out, h5.writing(out) as file:"
                "\n    for name in 'abc':\n"
                "        h5.write_dataset(file, name, numpy.ones((90, 90), 'f4'), 'f32')\n")
        self.assertEqual(self.script(body), (0, ""))
        whole = os.path.getsize("a.h5")
        for size in (0, 1024, whole // 2, whole - 1):
            with self.unchanged():
                self.assertEqual(self.script(body, size),
                                 (3, "a.h5: cannot be written: File too large\n"))

    def test_streams(self):
        body = "with output.Output('-', 'json') as out:\n    print('said')\n    out.write('{}')\n"
        self.assertEqual(self.script(body), (0, "{}"))
        text = f"import sys\nfrom mla import output\n{body}sys.stdout.flush()\n"
        done = subprocess.run([sys.executable, "-B", "-c", text], capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": PYTHON}, timeout=60, check=False)
        self.assertEqual((done.stdout, done.stderr), ("{}", "said\n"))

    def test_a_folder_as_a_whole(self):
        body = ("with output.Folder('sub/model') as folder:\n"
                "    output.write(folder.beside + '/a', 'own', 'a')\n    {}\n    folder.publish()\n")
        code, _ = self.script(body.format("raise KeyError"))
        self.assertEqual((code, os.listdir("sub")), (1, []))
        self.assertEqual(self.script(body.format("pass")), (0, ""))
        self.assertEqual((os.listdir("sub"), os.listdir("sub/model")), (["model"], ["a"]))
        code, said = self.script(body.format("pass"))
        self.assertEqual(code, 2)
        self.assertIn("it is there and would be lost", said)
        os.unlink("sub/model/a")
        self.assertEqual(self.script(body.format("pass")), (0, ""))
        os.chdir("sub")
        code, said = self.script(f"with output.Folder('m') as folder:\n    {SLEEP}\n",
                                 number=signal.SIGTERM)
        self.assertEqual((code, os.listdir()), (3, ["model"]), said)


if __name__ == "__main__":
    unittest.main()
