"""test_loop.py - what an author's loop is made of: make's targets around one rung, the ladder's traps,
set-up in groups, and the scripts behind them.

    build/venv/bin/python tests/test_loop.py

Works in copies of the tree, with a toolkit, a GPU, a package manager played by scripts: nothing is
installed, and no CUDA compiler is needed. Needs a built mla (in $MLA_BUILD, default build).
"""
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
MLA = os.path.join(BUILD, "bin", "mla")
PARTS = ("Makefile", ".commit", ".clang-format", ".clangd", ".ci", "reference", "optimized", "harness",
         "tests")
GIT = shutil.which("git")
# What a calling make, or git, told this process is not meant for the copies.
INHERITED = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "BUILD", "NVCC", "CC", "CXX", "CFLAGS",
             "CUFLAGS", "CPPFLAGS", "LDFLAGS", "PREFIX", "DESTDIR", "GPU", "R", "ARCH", "AGAINST", "DEBUG",
             "SEED", "SEEDS", "SETUP", "GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE")


class Tree(unittest.TestCase):
    """A folder of its own for each test; programs that are played stand first on PATH."""

    def setUp(self):
        self.folder = os.path.realpath(tempfile.mkdtemp(prefix="mla-loop-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        os.mkdir(self.path("fakes"))
        self.environment = {k: v for k, v in os.environ.items() if k not in INHERITED}
        self.environment.update(PATH=self.path("fakes") + ":" + os.environ["PATH"], LC_ALL="C",
                                GIT_CONFIG_GLOBAL="/dev/null", GIT_CONFIG_SYSTEM="/dev/null",
                                GIT_CEILING_DIRECTORIES=os.path.dirname(self.folder))
        self.tree = self.folder

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def copy_tree(self, where="tree", parts=PARTS):
        self.tree = self.path(where)
        for part in parts:
            source, target = os.path.join(ROOT, part), os.path.join(self.tree, part)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if os.path.isdir(source):
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)

    def write(self, name, text, mode="w", executable=False):
        name = os.path.join(self.tree, name)
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, mode, encoding="utf-8") as file:
            file.write(text)
        if executable:
            os.chmod(name, 0o755)
        return name

    def read(self, name):
        with open(os.path.join(self.tree, name), encoding="utf-8") as file:
            return file.read()

    def fake(self, name, script, where="fakes"):
        return self.write(self.path(where, name), "#!/bin/sh\n" + script, executable=True)

    def run_in_tree(self, *words, code=0, **environment):
        """Standard output and error together, after the exit status was the one expected."""
        done = subprocess.run(words, cwd=self.tree, env={**self.environment, **environment}, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=120, check=False)
        if code is not None:
            self.assertEqual(done.returncode, code, f"{' '.join(words)}\n{done.stdout}")
        return done.stdout

    def make(self, *words, code=0, **environment):
        return self.run_in_tree("make", "--no-print-directory", *words, code=code,
                                **{"SETUP": "no", **environment})

    def git(self, *words, code=0):
        return self.run_in_tree("git", "-c", "user.name=x", "-c", "user.email=x@x", *words, code=code)

    def commit_all(self):
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "all")

    def play_toolkit(self):
        """A CUDA toolkit that compiles nothing, for what make -n shows; returns its nvcc."""
        self.write(self.path("cuda", "lib64", "libcudart_static.a"), "")
        self.write(self.path("cuda", "include", "cuda_runtime_api.h"), "")
        return self.fake("nvcc", "echo 'Cuda compilation tools, release 13.0, V13.0.88'\n",
                         os.path.join("cuda", "bin"))

    def play_gpu(self, answer):
        self.fake("nvidia-smi", f"echo '{answer}'\n" if answer else "exit 9\n")

    def add_rung(self, name, arch="sm_80", source="02_splitk"):
        text = self.read(f"optimized/{source}.cu")
        self.write(f"optimized/{name}.cu", text.replace(source, name))
        self.write("optimized/ladder.def", f"MLA_KERNEL({name}, {arch}, nospill)\n", mode="a")


# ---- the ladder's traps ---------------------------------------------------------------------------


class Ladder(Tree):
    def ladder(self, *words, code=0):
        return self.run_in_tree("harness/tools/ladder.sh", *words, code=code)

    def fresh(self):
        shutil.rmtree(os.path.join(self.folder, "tree"), ignore_errors=True)
        self.copy_tree(parts=("optimized", "harness/tools/ladder.sh"))
        return self.read("optimized/ladder.def").count("\n") + 1

    def test_the_shipped_ladder_is_sound(self):
        self.fresh()
        lines = self.ladder("--lessons").split()
        self.assertEqual(len(lines), self.read("optimized/ladder.def").count("\nMLA_KERNEL("))
        self.assertEqual(lines[0], "01_naive:sm_80:nospill")
        self.assertEqual(lines, sorted(lines))

    def test_each_trap_says_what_to_do(self):
        def line(text):
            return lambda: self.write("optimized/ladder.def", text + "\n", mode="a")

        def copied(name):
            return lambda: shutil.copy(os.path.join(self.tree, "optimized/02_splitk.cu"),
                                       os.path.join(self.tree, f"optimized/{name}.cu"))

        def rung(name):
            return lambda: self.add_rung(name)

        def stray(name):
            return lambda: self.write(f"optimized/{name}", "")

        def removed(name):
            return lambda: os.remove(os.path.join(self.tree, "optimized", name))

        def nothing_described():
            self.write("optimized/02_splitk.cu", "/* nothing */\n")

        traps = (
            (copied("91_mine"), "optimized/91_mine.cu has no line in optimized/ladder.def: add "
             "MLA_KERNEL(91_mine, sm_80, nospill)"),
            (copied("91_mine"), "optimized/91_mine.cu describes 02_splitk: a copy must be renamed, "
             "MLA_KERNEL_DESCRIPTOR(91_mine)"),
            (nothing_described, "optimized/02_splitk.cu has no MLA_KERNEL_DESCRIPTOR(02_splitk)"),
            (rung("9_mine"), "optimized/9_mine.cu: a kernel is called NN_idea.cu"),
            (rung("91_Mine"), "optimized/91_Mine.cu: a kernel is called NN_idea.cu"),
            (rung("91bb_mine"), "optimized/91bb_mine.cu: a kernel is called NN_idea.cu"),
            (copied("mine"), "optimized/mine.cu: a kernel is called NN_idea.cu"),
            (rung("9_mine"), '"9_mine" is no name for a kernel: NN_idea, or NNb_idea'),
            (line("MLA_KERNEL(91_mine, sm_80, nospill)"), ": there is no optimized/91_mine.cu: write it"),
            (line("MLA_KERNEL(01_naive, sm_80, nospill)"), ": 01_naive has a line already, "
             "optimized/ladder.def:"),
            (line("MLA_KERNEL(91_mine, sm_80)"), '"MLA_KERNEL(91_mine, sm_80)" is no line of the ladder'),
            (line("MLA_KERNEL(91_mine, sm_70, nospill)"), "is no line of the ladder"),
            (line("MLA_KERNEL(91_mine, sm_80, nospill);"), "is no line of the ladder"),
            (line("MLA_KERNEL(91_mine, sm_80 , nospill)"),
             '"MLA_KERNEL(91_mine, sm_80 , nospill)" is no line of the ladder'),
            (line(" MLA_KERNEL(91_mine, sm_80, nospill)"), "is no line of the ladder"),
            (line("MLA_KERNEL(mine, sm_80, nospill)"), '"mine" is no name for a kernel: NN_idea'),
            (rung("91_auto"), ": the idea of 91_auto has a meaning of its own, and -k auto is not this kernel"),
            (stray("91_mine.cpp"), "optimized/91_mine.cpp is read by nothing: a kernel is called NN_idea.cu"),
            (stray("91_mine.cuh"), "optimized/91_mine.cuh is read by nothing"),
            (stray("91_mine.cu.bak"), "optimized/91_mine.cu.bak is read by nothing"),
            (stray("91 mine"), "optimized/91 mine is read by nothing"),
            (stray("shared.cuh"), "optimized/shared.cuh is read by nothing"),
            (stray("two words.cu"), "optimized/two words.cu is read by nothing"),
            (line("/* never"), ": a comment begins here and never ends: close it with */"),
            (line("MLA_KERNEL(91_mine, sm_80, nospill)\r"), ": lines end with CR LF here"),
            (line("91_mine"), '"91_mine" is no line of the ladder, which look like MLA_KERNEL(NN_idea, '),
            (rung("01_mine"), ": the number of 01_mine is taken by 01_naive: take a free one, or a "
             "letter for a variant (01b_...)"),
            (rung("91_naive"), ": the idea of 91_naive is taken by 01_naive"),
            (rung("01b_mine"), ": 01b_mine stands below "),
            (removed("02_splitk.cu"), ": there is no optimized/02_splitk.cu"),
            (removed("02_splitk.md"), ": 02_splitk has no lesson: write optimized/02_splitk.md"),
            (lambda: self.write("optimized/91_mine.md", ""), "optimized/91_mine.md has no line in"),
        )
        for trap, sentence in traps:
            with self.subTest(sentence):
                last = self.fresh()
                trap()
                said = self.ladder("--lessons", code=1)
                self.assertIn(sentence, said)
                if sentence.startswith(":") or "is no line" in sentence:
                    at = re.search(r"optimized/ladder\.def:(\d+): ", said)
                    self.assertIsNotNone(at, said)
                    if "02_splitk" not in sentence:
                        self.assertEqual(int(at[1]), last)

    def test_words_of_the_program_are_no_ideas(self):
        """Those of -k that can be spelled so: each CPU variant's name, and the groups'."""
        listed = json.loads(self.run_in_tree(MLA, "list", "--json"))
        words = [variant["name"] for variant in listed["cpu"]]
        self.assertIn("online", words)
        for word in [*words, "all", "cpu", "gpu", "auto"]:
            if re.fullmatch("[a-z0-9_]+", word):
                self.fresh()
                self.add_rung(f"91_{word}")
                self.assertIn(f"the idea of 91_{word} has a meaning of its own", self.ladder(code=1))

    def test_what_an_editor_leaves_is_let_be(self):
        self.fresh()
        for name in (".02_splitk.cu.swp", "02_splitk.cu~", "#02_splitk.cu#", "notes.txt", "parts/x.cuh"):
            self.write(f"optimized/{name}", "")
        self.ladder("--lessons")

    def test_one_fault_is_one_sentence(self):
        self.fresh()
        self.write("optimized/ladder.def", "MLA_KERNEL(91_mine, sm_80)\n", mode="a")
        self.write("optimized/91_mine.cu", "MLA_KERNEL_DESCRIPTOR(91_mine) = {\n};\n")
        self.assertEqual(len(re.findall("91_mine", self.ladder(code=1))), 1)

    def test_a_variant_and_comments_are_welcome(self):
        self.fresh()
        self.add_rung("91_first")
        self.write("optimized/ladder.def", "/* beside it:\n * MLA_KERNEL(nothing) */\n", mode="a")
        self.add_rung("91b_seesaw", "sm_90a")
        self.assertIn("91_first:sm_80:nospill\n91b_seesaw:sm_90a:nospill\n", self.ladder())
        self.assertIn("91b_seesaw has no lesson", self.ladder("--lessons", code=1))

    def test_make_and_lint_say_so_with_and_without_nvcc(self):
        self.copy_tree()
        sentence = "optimized/91_mine.cu has no line in optimized/ladder.def"
        shutil.copy(os.path.join(self.tree, "optimized/02_splitk.cu"),
                    os.path.join(self.tree, "optimized/91_mine.cu"))
        nvcc = self.play_toolkit()
        for compiler in ("", nvcc):
            for words in (("all",), ("rung", "R=91"), ("rung", "R=02"), ("test",)):
                said = self.make(*words, code=2, NVCC=compiler)
                self.assertIn(sentence, said)
                self.assertIn("the ladder is not sound", said)
                self.assertNotIn("CC ", said)
        for words in (("help",), ("clean",)):
            self.assertNotIn(sentence, self.make(*words))
        for tool in ("clang-format-14", "shellcheck", "cppcheck", "codespell"):
            self.fake(tool, "exit 0\n")
        said = self.run_in_tree("tests/lint.sh", code=1)
        self.assertIn("FAILED ladder.def and the folder\n" + sentence, said)
        self.assertIn("describes 02_splitk", said)

    def test_lint_sees_another_dialect(self):
        self.copy_tree()
        for tool in ("clang-format-14", "shellcheck", "cppcheck", "codespell"):
            self.fake(tool, "exit 0\n")
        self.assertIn("ok dialect\n", self.run_in_tree("tests/lint.sh", code=1))
        for text in ("if (p == NULL)", "if (MLA_OK != status)"):
            self.write("harness/base/text.c", text + "\n")
            self.assertIn("FAILED dialect\nharness/base/text.c:1:" + text,
                          self.run_in_tree("tests/lint.sh", code=1))


# ---- one rung alone --------------------------------------------------------------------------------


class Rung(Tree):
    def setUp(self):
        super().setUp()
        self.copy_tree()
        self.nvcc = self.play_toolkit()

    def compiled(self, name, *words, **environment):
        """How make would compile a kernel, and all that it would say and do."""
        said = self.make("-n", "V=1", *words, NVCC=self.nvcc, **environment)
        lines = said.replace("\\\n", " ").splitlines()
        return [line for line in lines if f"-c optimized/{name}.cu" in line], said

    def test_called_by_name_number_idea(self):
        self.add_rung("91_first")
        self.add_rung("91b_seesaw")
        for called, rung in (("02", "02_splitk"), ("2", "02_splitk"), ("splitk", "02_splitk"),
                             ("02_splitk", "02_splitk"), ("91", "91_first"), ("91b", "91b_seesaw"),
                             ("seesaw", "91b_seesaw"), ("91b_seesaw", "91b_seesaw")):
            lines, said = self.compiled(rung, "rung", f"R={called}")
            self.assertEqual(len(lines), 1, called)
            self.assertIn(f"build/rung/{rung}/mla check -k {rung} ", said)
        for called in ("", "9", "see", "naive_", "1b"):
            self.assertRegex(self.make("rung", f"R={called}", NVCC=self.nvcc, code=2),
                             rf'make rung R=NAME: "{called}" is not one of 01_naive 02_')

    def test_emulate_needs_no_nvcc(self):
        for more, seeds in (((), "1"), (("SEED=3",), "3"), (("SEEDS=1-20",), "1-20"), (("SEEDS=it's",), "it's")):
            said = self.make("-n", "emulate", "R=2", *more, NVCC="")
            self.assertNotIn("needs nvcc", said)
            line = re.search(r"^build/emulated/mla check .*", said, re.MULTILINE)[0]
            self.assertEqual(shlex.split(line)[2:7], [f"--emulate={seeds}", "-k", "02_splitk", "--random", "10"])
        self.assertIn('make emulate R=NAME: "99" is not one of 01_naive 02_',
                      self.make("emulate", "R=99", NVCC="", code=2))
        self.assertIn("make emulate R=2: SEED=3 and SEEDS=1-2, expected one of the two",
                      self.make("emulate", "R=2", "SEED=3", "SEEDS=1-2", NVCC="", code=2))

    def test_without_nvcc_it_says_so(self):
        for goal in ("rung", "watch", "sass"):
            self.assertIn(f"make {goal} needs nvcc, which was not found",
                          self.make(goal, "R=02", NVCC="", code=2))

    def test_native(self):
        self.add_rung("91_hopper", "sm_90a")
        for gpu, rung, arch in (("9.0", "02_splitk", "90"), ("8.0", "02_splitk", "80"),
                                ("12.0", "02_splitk", "120"), ("9.0", "91_hopper", "90a"),
                                ("8.0", "91_hopper", "90a"), ("", "02_splitk", "90"),
                                ("", "91_hopper", "90a"), ("NVIDIA-SMI has failed", "02_splitk", "90")):
            with self.subTest(gpu=gpu, rung=rung):
                self.play_gpu(gpu)
                lines, said = self.compiled(rung, "rung", f"R={rung}", "ARCH=native")
                self.assertEqual(len(lines), 1)
                self.assertEqual(re.findall(r"-gencode=(\S+)", lines[0]),
                                 [f"arch=compute_{arch},code=sm_{arch}"])
                self.assertIn(f"build/rung/{rung}-sm_{arch}/mla check", said)
                self.assertEqual(f"no GPU here: code for sm_{arch}" in said, not gpu[:1].isdigit())
        lines, said = self.compiled("02_splitk", "rung", "R=02", "ARCH=sm_86")
        self.assertIn("code=sm_86 ", lines[0])
        self.assertNotIn("no GPU here", said)
        for arch in ("hopper", "sm_", "sm_80 sm_90"):
            self.assertIn(f"ARCH={arch}: expected native, or sm_ and a number",
                          self.make("rung", "R=02", f"ARCH={arch}", NVCC=self.nvcc, code=2))
        lines, _ = self.compiled("02_splitk", "rung", "R=02")
        self.assertEqual(len(re.findall(r"-gencode=", lines[0])), 3)

    def test_debug(self):
        self.add_rung("91_hopper", "sm_90a")
        said = self.make("-n", "debug", "V=1", NVCC=self.nvcc).replace("\\\n", " ")

        def line(source):
            return re.search(rf".* -c {source} -o build/debug/obj/.*", said)[0]
        self.assertIn(" -O0 -g3 ", line("harness/lib/plan.c"))
        plain, hopper = line("optimized/02_splitk.cu"), line("optimized/91_hopper.cu")
        self.assertRegex(plain, " -g -G -DMLA_TRAPS ")
        self.assertNotIn("-O3", plain)
        self.assertIn(" -O3 -lineinfo -DMLA_TRAPS ", hopper)
        self.assertNotIn(" -G ", hopper)
        for words in (plain, hopper):
            self.assertNotIn("warn-spills", words)
        ordinary = self.compiled("02_splitk", "all")[0][0]
        self.assertIn("-Xptxas=-v,-warn-spills,-warn-lmem-usage,-Werror ", ordinary)
        self.assertNotIn("MLA_TRAPS", ordinary)
        self.assertIn(" -O3 -lineinfo ", ordinary)

    def test_watch_and_bench_call_their_scripts(self):
        self.play_gpu("9.0")
        said = self.compiled("02_splitk", "watch", "R=02", "ARCH=native")[1].replace("\\\n", " ")
        self.assertRegex(said, r"watch\.sh build/rung/02_splitk-sm_90/mla +make .*R=02_splitk\s+"
                               r"ARCH=sm_90 rung")
        self.assertIn("make bench R=02 AGAINST=WHAT: a revision that git knows, or the folder of a bundle",
                      self.make("bench", "R=02", NVCC=self.nvcc, code=2))

    def test_bench_takes_a_revision_or_a_bundle(self):
        self.fake("../tree/harness/tools/revision.sh", 'echo "made $@" >&2; echo "beside/$1"\n')
        self.fake("../tree/harness/tools/against.sh", 'echo "A=$1 B=$2 $3 $4 $5 $6"; exit ${STATUS:-0}\n')

        def bench(against, **more):
            # -o: the program is not built for this
            return self.make("-o", "all", "bench", "R=2", f"AGAINST={against}", NVCC=self.nvcc, **more)
        self.assertTrue(bench("v1").endswith(
            "made v1 all\nA=beside/v1/build/bin/mla B=build/bin/mla -k 02_splitk --cells "
            "b64_8K_h16_q1,b64_8K_h128_q1,b1_128K_h16_q1\n"), bench("v1"))
        self.fake("mla", "", "tree/old/bin")
        said = bench("old")
        self.assertNotIn("made", said)
        self.assertIn("A=old/bin/mla B=build/bin/mla -k 02_splitk ", said)
        self.assertIn("built, not run\n", bench("old", STATUS="77"))
        self.make("-o", "all", "bench", "R=2", "AGAINST=old", NVCC=self.nvcc, STATUS="1", code=2)

    def test_every_target_has_a_line_of_help(self):
        phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)$", self.read("Makefile"), re.MULTILINE)[1]
        said = self.make("help")
        for target in set(phony.replace("\\\n", " ").split()) - {"all", "help", "FORCE"}:
            self.assertRegex(said, rf"(make|\|) {target}\b")


@unittest.skipUnless(shutil.which("nvcc"), "SKIPPED, no nvcc")
class RealRung(Tree):
    def test_a_variant_is_built_and_called(self):
        """With the objects that are there already."""
        build = os.path.relpath(BUILD, ROOT)
        if build.startswith(".."):
            self.skipTest(f"SKIPPED, {BUILD} is outside the tree")
        self.copy_tree()
        os.makedirs(os.path.dirname(os.path.join(self.tree, build)), exist_ok=True)
        os.makedirs(os.path.join(self.tree, build))
        for part in ("obj", "config.mk", "commit"):
            self.run_in_tree("cp", "-al" if os.stat(BUILD).st_dev == os.stat(self.folder).st_dev else "-a",
                             os.path.join(BUILD, part), os.path.join(self.tree, build))
        config = self.read(os.path.join(build, "config.mk"))
        flags = re.search(r"^# flags: (\S+) (.*) / (.*)$", config, re.MULTILINE)
        self.play_gpu("")
        self.copy_tree(parts=("data/captures/tiny_prefill.h5",))
        self.add_rung("91b_seesaw")
        said = self.make("rung", "R=91b", "ARCH=native", f"BUILD={build}", f"CC={flags[1]}",
                         f"CXX={'clang++' if 'clang' in flags[1] else 'g++'}", f"CFLAGS={flags[2]}",
                         f"CUFLAGS={flags[3]}",
                         "CAPTURES=data/captures/tiny_prefill.h5")
        self.assertNotIn("optimized/02_splitk.cu", said)
        self.assertIn("no GPU here: code for sm_90\n", said)
        program = os.path.join(build, "rung", "91b_seesaw-sm_90", "mla")
        for called in ("91b", "seesaw", "91b_seesaw"):
            said = self.run_in_tree(program, "plan", "-k", called, "--batch", "1", "--kv-len", "100")
            self.assertIn("91b_seesaw", said)
        self.assertIn("no kernel is called",
                      self.run_in_tree(program, "plan", "-k", "91", "--batch", "1", code=None))


# ---- scripts ---------------------------------------------------------------------------------------


class Watch(Tree):
    """A rule of three words stands for a rung: what matters is when it runs, and how it ends."""

    def setUp(self):
        super().setUp()
        self.copy_tree(parts=("harness/tools/watch.sh",))
        self.write("Makefile", ".DELETE_ON_ERROR:\nbuild/out: optimized/a.cu\n"
                   "\t@echo building; mkdir -p build; echo half >$@; sleep 0.2; grep -v wrong $< >$@\n"
                   "slow: build/out\n\t@echo done; [ ! -e long ] || sleep 60\n")
        self.write("optimized/a.cu", "1\n")
        self.write("optimized/b.cu", "1\n")
        self.write("reference/x.c", "")
        # a log that the processes keep open is at its end when the last of them is gone
        self.log = os.path.join(self.tree, "log")

    def start(self, *make):
        with open(self.log, "w", encoding="utf-8") as log:
            process = subprocess.Popen(
                ["harness/tools/watch.sh", "build/out", "make", "--no-print-directory", *make, "slow"],
                cwd=self.tree, env={**self.environment, "BUILD": "build"}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.addCleanup(self.end, process, signal.SIGKILL)
        return process

    def end(self, process, number=signal.SIGINT):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            return
        process.wait(timeout=20)

    def wait_for(self, pattern, times, seconds=20):
        until = time.monotonic() + seconds
        while len(re.findall(pattern, self.read("log"))) < times:
            self.assertLess(time.monotonic(), until, self.read("log"))
            time.sleep(0.05)

    def save(self, name, text):
        time.sleep(0.02)  # times of files have steps
        self.write(name, text)

    def test_runs_again_when_what_it_depends_on_is_saved(self):
        process = self.start()
        self.wait_for("-- watching", 1)
        self.save("optimized/b.cu", "2\n")  # not its business
        time.sleep(1)
        self.assertEqual(self.read("log").count("building"), 1)
        self.save("optimized/a.cu", "2\n")
        self.wait_for("-- watching", 2)
        self.assertEqual(self.read("build/out"), "2\n")
        self.save("optimized/a.cu", "wrong\n")  # fails, and is not tried until it is saved again
        self.wait_for("-- watching", 3)
        time.sleep(1)
        self.assertEqual(self.read("log").count("building"), 3)
        self.save("optimized/a.cu", "4\n")
        self.wait_for("-- watching", 4)
        self.assertEqual(self.read("build/out"), "4\n")
        self.end(process)
        self.assertEqual(process.returncode, 0)

    def test_ctrl_c_leaves_nothing(self):
        for when in ("waiting", "building", "running"):
            with self.subTest(when):
                shutil.rmtree(os.path.join(self.tree, "build"), ignore_errors=True)
                if when == "running":
                    self.write("long", "")
                process = self.start()
                self.wait_for({"waiting": "-- watching", "building": "building", "running": "done"}[when],
                              1)
                self.end(process)
                with self.assertRaises(ProcessLookupError):
                    os.killpg(process.pid, 0)
                left = os.listdir(os.path.join(self.tree, "build"))
                self.assertEqual(left, [] if when == "building" else ["out"])


class Sass(Tree):
    """cuobjdump and nvdisasm are played: an object is the text of its machine code."""
    CODE = """\t.target\tsm_90
//--------------------- .nv.info --------------------------
\t.section\t.nv.info,"",@"SHT_CUDA_INFO"
\t.word\t7
//--------------------- .text._Z4kernIfEvi --------------------------
\t.section\t.text._Z4kernIfEvi,"ax",@progbits
\t.align\t128
.text._Z4kernIfEvi:
        .type           _Z4kernIfEvi,@function
_Z4kernIfEvi:
        /*0000*/                   LDC R1, c[0x0][0x28] ;   /* 0x00000a00ff017b82 */
                                                            /* 0x000fe20000000800 */
        /*0010*/              @P0 BRA `(.L_x_7) ;           /* 0x0000000000057919 */
                                                            /* 0x000e6e0000002500 */
.L_x_7:
        /*0020*/                   EXIT ;                   /* 0x0000c200ff027b82 */
                                                            /* 0x000e620000000a00 */
"""

    def setUp(self):
        super().setUp()
        self.copy_tree(parts=("harness/tools/sass.sh", "harness/tools/revision.sh"))
        self.fake("cuobjdump", 'for arch in sm_80 sm_90; do cp "$3" "x.$arch.cubin"; done\n')
        self.fake("nvdisasm", 'cat "$3"\n')
        self.write("optimized/ladder.def", "MLA_KERNEL(07_old, sm_80, nospill)\n")
        self.write("Makefile", "build/obj/%.o: %.cu\n\tmkdir -p $(@D); cp $< $@\n")
        self.write("optimized/07_old.cu", self.CODE)
        self.write("build/obj/optimized/07_new.o", self.CODE)

    def sass(self, *words, arch="", **more):
        return self.run_in_tree("harness/tools/sass.sh", "build/obj/optimized/07_new.o", arch, *words,
                                **{"NVCC": self.path("fakes", "nvcc"), "CC": "cc", "CXX": "c++",
                                   "BUILD": "build", **more})

    def test_code_and_nothing_else(self):
        said = self.sass()
        self.assertRegex(said, r"build/sass/07_new\.sm_90\.sass\n +3 instructions  void kern<float>\(int\)")
        self.assertEqual(self.read("build/sass/07_new.sm_90.sass").split("\n"), [
            "void kern<float>(int):", "        LDC R1, c[0x0][0x28] ;", "        @P0 BRA `(.L_x_7) ;",
            ".L_x_7:", "        EXIT ;", ""])
        self.assertIn("sm_80.sass", self.sass(arch="sm_80"))
        self.assertIn("has no machine code for sm_70", self.sass(arch="sm_70", code=1))

    def test_what_is_missing_is_named(self):
        os.remove(self.path("fakes", "nvdisasm"))
        self.assertIn("make sass needs nvdisasm", self.sass(code=1, PATH=self.path("fakes") + ":/usr/bin:/bin"))

    @unittest.skipUnless(GIT, "SKIPPED, no git")
    def test_against_a_revision(self):
        self.write(".gitignore", "/build/\n")
        self.commit_all()
        self.assertIn("the same code as in HEAD, to the bit", self.sass("HEAD"))
        self.write("build/obj/optimized/07_new.o", self.CODE.replace("_x_7", "_x_8"))
        self.assertIn("the same instructions as in HEAD, in another encoding", self.sass("HEAD"))
        self.write("build/obj/optimized/07_new.o", self.CODE.replace("0x000fe20", "0x000fe40"))
        self.assertIn("the same instructions as in HEAD, in another encoding", self.sass("HEAD"))
        self.write("build/obj/optimized/07_new.o", self.CODE.replace("EXIT", "NOP"))
        said = self.sass("HEAD")
        self.assertIn("\n-        EXIT ;\n+        NOP ;", said)
        self.assertIn("--- 07_old of HEAD\n+++ 07_new\n", said)
        self.assertNotIn("the same", said)
        self.assertIn("git knows no such revision", self.sass("nonsense", code=1))


@unittest.skipUnless(GIT, "SKIPPED, no git")
class Revision(Tree):
    def setUp(self):
        super().setUp()
        self.copy_tree(parts=("harness/tools/revision.sh",))
        self.write(".gitignore", "/build/\n")
        self.write("Makefile", "all:\n\t@mkdir -p $(BUILD); echo '$(BUILD) $(R) $(CC)' >$(BUILD)/what\n"
                   "\t@echo old >>$(BUILD)/what\n")
        self.commit_all()
        self.write("Makefile", self.read("Makefile").replace("old", "new"))

    def revision(self, *words, code=0):
        return self.run_in_tree("harness/tools/revision.sh", *words, code=code, BUILD="build", NVCC="",
                                CC="gcc", CXX="g++", R="07", MAKEFLAGS="n -- R=07 BUILD=other")

    def test_is_built_beside_and_kept(self):
        said = self.revision("HEAD", "all")
        tree = said.splitlines()[-1]
        self.assertRegex(tree, "^build/revisions/[0-9a-f]{12}$")
        self.assertEqual(self.read(f"{tree}/build/what"), "build  gcc\nold\n")
        self.write(f"{tree}/build/kept", "")
        self.assertEqual(self.revision("HEAD").splitlines()[-1], tree)
        self.assertEqual(self.read(f"{tree}/build/kept"), "")
        shutil.rmtree(os.path.join(self.tree, "build"))  # make clean
        self.assertEqual(self.revision("HEAD", "all").splitlines()[-1], tree)
        self.assertIn("AGAINST=nonsense: git knows no such revision, and no bundle lies there",
                      self.revision("nonsense", code=1))
        self.assertIn("git knows no such", self.revision("--help", code=1))


class Against(Tree):
    def against(self, *words, code=0, **environment):
        return self.run_in_tree(os.path.join(ROOT, "harness/tools/against.sh"), *words, code=code,
                                OMP_NUM_THREADS="1", **environment)

    def test_in_turns_then_compared(self):
        out = self.path("out")
        said = self.against(MLA, MLA, "-k", "online", "--cells", "b1_70_h2", "--samples", "9", code=None,
                            OUT=out)
        self.assertEqual(re.findall("== (.*)", said), ["A1.json", "B1.json", "A2.json", "B2.json",
                                                       "A against B"])
        self.assertEqual(sorted(os.listdir(out)), ["A1.json", "A2.json", "B1.json", "B2.json"])
        self.assertRegex(said, r"b1_70_h2 +online +host +hot .* (FASTER|SAME|SLOWER|UNSURE)\n")
        self.assertRegex(said, r"\n\d FASTER, \d SAME, \d SLOWER, \d UNSURE, 0 WRONG; threshold 3%")

    def test_slower_is_said_and_what_could_not_run(self):
        slow = self.fake("slow", f"""
[ "$1" = bench ] || exec {shlex.quote(MLA)} "$@"
{shlex.quote(MLA)} "$@" || exit
for last; do :; done
sed -i 's/"samples_us": \\[/&{"900000, " * 40}/' "$last"
""", "slow")
        words = ("-k", "online", "--cells", "b1_70_h2", "--samples", "9")
        self.assertIn(" 1 SLOWER", self.against(MLA, slow, *words, code=1))
        for status in (3, 77):
            broken = self.fake("broken", f'[ "$1" = bench ] && exit {status}; echo 0\n', "broken")
            self.assertNotIn("A against B", self.against(MLA, broken, *words, code=status))
        said = self.against(self.path("nowhere"), MLA, *words, code=1)
        self.assertNotIn("A1.json", said)
        self.assertIn("Usage: against.sh A/bin/mla B/bin/mla", self.against(MLA, MLA, code=2))


class CompileCommands(Tree):
    def setUp(self):
        super().setUp()
        self.copy_tree()

    def commands(self, **environment):
        said = self.make("compile_commands", **environment)
        with open(os.path.join(self.tree, "build/compile_commands.json"), encoding="utf-8") as file:
            commands = json.load(file)
        self.assertIn(f"build/compile_commands.json: {len(commands)} files", said)
        return {entry["file"]: entry for entry in commands}

    def sources(self, *endings):
        found = set()
        for folder, _, names in os.walk(self.tree):
            found |= {os.path.relpath(os.path.join(folder, name), self.tree) for name in names
                      if name.endswith(endings)}
        return found

    def test_every_source_has_its_command(self):
        self.write(".commit", "abc1234\n")
        commands = self.commands(NVCC=self.play_toolkit())
        self.assertEqual(set(commands), self.sources(".c", ".cu"))
        entry = commands["harness/lib/version.c"]
        self.assertEqual(entry["directory"], self.tree)
        self.assertIn("""-DMLA_COMMIT='"abc1234"' """, entry["command"])
        entry = commands["optimized/02_splitk.cu"]
        self.assertTrue(entry["command"].endswith(" -c optimized/02_splitk.cu -o "
                                                  "build/obj/optimized/02_splitk.o"), entry)
        without = self.commands(NVCC="")
        self.assertEqual({name for name in without if name.endswith(".cu")}, set())
        self.assertIn("harness/device/gpu_none.c", without)

    @unittest.skipUnless(shutil.which("clangd"), "SKIPPED, no clangd")
    def test_clangd_reads_c_and_cuda(self):
        files = ["harness/lib/run.c"]
        if shutil.which("nvcc"):
            files += ["optimized/02_splitk.cu", "harness/device/peak.cu"]
        self.commands()
        for file in files:
            said = self.run_in_tree("clangd", f"--check={file}", code=None)
            self.assertIn("Compile command from CDB is", said)
            self.assertEqual(re.findall(r"^E\[.*\] \[\w+\] Line .*", said, re.MULTILINE), [])
            self.assertIn("All checks completed", said)


@unittest.skipUnless(GIT, "SKIPPED, no git")
class Hook(Tree):
    def setUp(self):
        super().setUp()
        self.copy_tree(parts=("harness/tools/pre-commit.sh", "harness/tools/ladder.sh", "tests/layers.awk",
                              ".clang-format"))
        self.write("harness/layers.def", "reference\noptimized\nbase\ntools\n")
        self.write("optimized/ladder.def", "/* none */\n")
        self.write("reference/a.c", "int a;\n")
        self.write("harness/base/b.c", "int b;\n")
        self.write("Makefile", "".join(re.findall(r"^hooks:\n\t.*\n", self.makefile(), re.MULTILINE)))
        self.commit_all()
        self.fake("clang-format-14", 'status=0\nshift 2\nfor f; do grep -q "  " "$f" || continue\n'
                  'echo "$f:1:1: error: code should be clang-formatted"; status=1; done\nexit $status\n')

    @staticmethod
    def makefile():
        with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
            return file.read()

    def committed(self, *words, code=0):
        self.git("add", "-A")
        return self.git("commit", "-q", "-m", "x", *words, code=code)

    def test_holds_what_is_staged(self):
        self.assertIn(".git/hooks/pre-commit looks at format, rooms and ladder", self.make("hooks"))
        self.make("hooks")
        self.write("reference/a.c", "int  a;\n")
        begin = time.monotonic()
        said = self.committed(code=1)
        self.assertLess(time.monotonic() - begin, 3)
        self.assertIn("reference/a.c differs from clang-format 14: make format, then git add", said)
        self.write("reference/a.c", "int a2;\n")  # mended, but not staged
        self.assertIn("reference/a.c differs", self.git("commit", "-q", "-m", "x", code=1))
        self.write("harness/base/b.c", '#include "tools/c.h"\n')
        self.assertIn("harness/base/b.c:1: base may not include tools", self.committed(code=1))
        self.write("harness/base/b.c", "int b2;\n")
        self.write("optimized/ladder.def", "MLA_KERNEL(01_x, sm_80, nospill)\n")
        self.assertIn("there is no optimized/01_x.cu", self.committed(code=1))
        self.write("optimized/ladder.def", "/* none */\n")
        self.write("reference/z.c", "int  z;\n")  # neither staged nor looked at
        self.git("add", "reference/a.c", "harness", "optimized")
        self.git("commit", "-q", "-m", "x")
        self.committed("--no-verify")

    def test_another_hook_stays(self):
        self.write(".git/hooks/pre-commit", "#!/bin/sh\n", executable=True)
        self.assertIn("is there already", self.make("hooks", code=2))
        self.assertEqual(self.read(".git/hooks/pre-commit"), "#!/bin/sh\n")


# ---- set-up, version, continuous integration ---------------------------------------------------------


class Setup(Tree):
    """Nothing is installed here, and the package manager only notes what it is asked for."""

    def setUp(self):
        super().setUp()
        self.copy_tree()
        self.fake("dpkg-query", "exit 1\n")
        self.fake("id", "echo 0\n")
        self.fake("apt-get", f'echo "$@" >>{self.path("asked")}\n')

    def asked(self, function):
        """The packages that were asked for while the function ran."""
        self.write(self.path("asked"), "")
        function()
        words = re.findall(r"--no-install-recommends (.*)", self.read(self.path("asked")))
        return set(" ".join(words).split())

    def group(self, *groups, code=None, **environment):
        return self.asked(lambda: self.run_in_tree("harness/tools/setup.sh", *groups, code=code,
                                                   **{"NVCC": "", **environment}))

    def test_a_group_asks_for_its_own(self):
        build = self.group("build")
        self.assertTrue({"gcc", "make", "libhdf5-dev"} <= build)
        self.assertFalse(build & {"g++", "python3", "libcriterion-dev", "clang"})
        self.assertEqual(self.group("build", NVCC=self.play_toolkit()) - build, {"g++"})
        self.assertEqual(self.group("format"), {"clang-format-14"})
        self.assertEqual(self.group("suites"), {"libcriterion-dev"})
        self.assertEqual(self.group("lint"), {"clang-format-14", "cppcheck", "shellcheck", "codespell",
                                               "python3"})
        self.assertTrue({"python3-nbclient"} <= self.group("notebooks"))
        self.assertEqual(self.group("clang", CC="clang", CXX="clang++"),
                         {"clang", "libomp-dev", "libclang-rt-dev"})
        self.assertEqual(self.group("clang", CC="clang-15", CXX="clang++-15"),
                         {"clang-15", "libomp-15-dev", "libclang-rt-15-dev"})
        self.assertEqual(self.group("test"), self.group("suites", "lint", "python", "notebooks"))
        for group in ("test", "notebooks", "python"):
            self.assertFalse([name for name in self.group(group) if "torch" in name or "pip" in name])

    def test_a_target_asks_for_what_it_needs(self):
        def target(*words):
            return self.asked(lambda: self.make("-n", *words, code=None, SETUP="", NVCC=""))
        build = target("demo")
        self.assertIn("libhdf5-dev", build)
        self.assertFalse(build & {"libcriterion-dev", "python3", "cppcheck", "clang", "python3-pip"})
        self.assertEqual(target("asan") - build, {"libcriterion-dev"})
        self.assertEqual(target("build/tests/test_plan") - build, {"libcriterion-dev"})
        self.assertIn("cppcheck", target("lint"))
        self.assertEqual(target("CC=clang", "CXX=clang++", "all") - build,
                         {"clang", "libomp-dev", "libclang-rt-dev"})
        self.assertTrue({"libcriterion-dev", "cppcheck", "python3-h5py", "python3-nbclient"} <=
                        target("test"))

    def test_what_pypi_has_is_pinned_in_one_file(self):
        self.fake("pip", "")
        lines = [line for line in self.read("harness/tools/requirements.txt").splitlines()
                 if not line.startswith("#")]
        for line in lines:
            self.assertRegex(line, r"^[a-z0-9-]+==[0-9.]+ # [a-z]+$")
        self.assertEqual({line.split("==")[0] for line in lines if line.endswith("# sass")},
                         {"nvidia-cuda-cuobjdump", "nvidia-cuda-nvdisasm"})

    def test_a_toolkit_with_a_disassembler_needs_none(self):
        self.play_toolkit()
        path = f"{self.path('fakes')}:/usr/bin:/bin"
        nvcc = self.path("cuda", "bin", "nvcc")
        self.assertIn("python3-pip", self.group("sass", NVCC=nvcc, PATH=path, BUILD="none"))
        for tool in ("nvdisasm", "cuobjdump"):
            self.fake(tool, "", os.path.join("cuda", "bin"))
        self.assertEqual(self.group("sass", code=0, NVCC=nvcc, PATH=path, BUILD="none"), set())


@unittest.skipUnless(GIT, "SKIPPED, no git")
class Version(Tree):
    def commit_said(self):
        return self.make("--eval", "say: ; @echo commit=$(COMMIT)", "say", NVCC="").splitlines()[-1]

    def test_of_this_folder_and_no_other(self):
        self.write("other.c", "")
        self.commit_all()  # a repository around the copy
        self.copy_tree()
        self.write(".commit", "$Format:%h$\n")
        self.assertEqual(self.commit_said(), "commit=unknown")
        self.write(".commit", "abc1234\n")  # as git archive writes it
        self.assertEqual(self.commit_said(), "commit=abc1234")
        self.write(".gitignore", "/build/\n")
        self.commit_all()
        self.assertEqual(self.commit_said(), "commit=" + self.git("rev-parse", "--short", "HEAD").strip())
        self.write("Makefile", "#\n", mode="a")
        self.assertTrue(self.commit_said().endswith("-dirty"))

    def test_an_archive_knows_its_commit(self):
        self.copy_tree(parts=(".gitattributes",))
        self.write(".commit", "$Format:%h$\n")
        self.commit_all()
        self.git("archive", "-o", self.path("archive.tar"), "HEAD")
        self.run_in_tree("tar", "-xf", self.path("archive.tar"))
        self.assertEqual(self.read(".commit"), self.git("rev-parse", "--short", "HEAD"))

    def test_an_unchanged_tree_is_up_to_date(self):
        """make -q, which watching is made of, must not find the commit's file out of date for ever."""
        self.copy_tree()
        self.make("build/commit", NVCC="")
        self.make("-q", "build/commit", NVCC="")


class Integration(Tree):
    """.ci/run over a Makefile whose two targets say what they are told to."""

    def ci(self, test, suites, code):
        self.copy_tree(where="ci", parts=(".ci/run",))
        self.write("Makefile", f"test:\n\t@{test}\nsuites:\n\t@test '$(CC) $(CXX)' = 'clang clang++'\n"
                               f"\t@test $(BUILD) != build\n\t@{suites}\n")
        return self.run_in_tree(".ci/run", code=code)

    def test_one_line_sums_up_both(self):
        good = "echo '7 passed, 0 failed, 2 skipped'"
        for test, suites, last, code in (
                (good, "echo '5 passed, 0 failed, 1 skipped'", "12 passed, 0 failed, 3 skipped", 0),
                (good, "echo '5 passed, 2 failed, 1 skipped'; false", "12 passed, 2 failed, 3 skipped", 1),
                (good, "echo broken; false", "7 passed, 1 failed, 2 skipped", 1),
                (good, "echo nothing", "7 passed, 1 failed, 2 skipped", 1),
                (good + "; false", good, "14 passed, 1 failed, 4 skipped", 1)):
            said = self.ci(test, suites, code)
            self.assertEqual(re.findall(r"^\d+ passed.*", said, re.MULTILINE), [last])
            self.assertTrue(said.endswith(last + "\n"), said)


if __name__ == "__main__":
    unittest.main()
