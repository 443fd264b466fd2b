"""test_build.py - what a build is told and where it puts things: folders of any name, flags, what make
install, uninstall and clean leave, the log of set-up.

    build/venv/bin/python tests/test_build.py

Works in copies of the tree. What is installed is played: nothing is built but a probe of a few lines.
Needs gcc; looks at clang, too, where it is.
"""
import os
import re
import shutil
import stat
import subprocess
import unittest

from test_loop import GIT, ROOT, Tree

WITHOUT = ("NVCC=",)
# What make needs to say what it would do, and what is installed.
FEW = ("Makefile", ".commit", "optimized/ladder.def", "harness/tools", "harness/mla.h", "harness/python")


def tree_of(folder):
    """Every file with its content, every folder, every link: what must be the same afterwards."""
    found = {}
    for where, folders, names in os.walk(folder):
        for name in folders + names:
            path = os.path.join(where, name)
            relative = os.path.relpath(path, folder)
            if os.path.islink(path):
                found[relative] = os.readlink(path)
            elif os.path.isdir(path):
                found[relative] = stat.S_IMODE(os.stat(path).st_mode)
            else:
                with open(path, "rb") as file:
                    found[relative] = file.read()
    return found


class Build(Tree):
    def copy_few(self):
        """A ladder without a rung."""
        self.copy_tree(parts=FEW)
        self.write("optimized/ladder.def", "/* none */\n")

    def refused(self, *words, sentence, **environment):
        """One line, at once: make's status for a bad call, and what the line says."""
        said = self.make(*words, *WITHOUT, code=2, **environment)
        self.assertRegex(said, r"\AMakefile:\d+: \*\*\* .*\.  Stop\.\n\Z")
        self.assertIn(sentence, said)


# ---- folders ----------------------------------------------------------------------------------------


class Folders(Build):
    def setUp(self):
        super().setUp()
        self.copy_few()

    def test_a_name_that_make_cannot_take(self):
        before = tree_of(self.folder)
        for name, expected in (("b d", "a path without spaces"), ("/tmp/b d", "a path without spaces"),
                               ("", "a path"), ("a'b", "a path without '"),
                               ('a"b', 'a path without "'), ("a`b", "a path without `"),
                               ("a$b", 'a path without "$"'), ("a$$b", 'a path without "$"'),
                               ("$(HOME)/b", 'a path without "$"'), ("a%", "a path without %"),
                               ("a:b", "a path without :"), ("a,b", "a path without ,"),
                               ("a;b", "a path without ;"), ("a=b", "a path without ="),
                               ("a#b", "a path without #"), ("a\\b", "a path without \\"),
                               ("(a", "a path without ("), ("a*", "a path without *"),
                               ("a&b", "a path without &"), ("~/b", "a path without ~"),
                               ("-b", "a path that begins otherwise"), ("@b", "a path that begins")):
            self.refused("all", "clean", f"BUILD={name}", sentence=f'BUILD is "{name}", expected {expected}')
        self.refused("clean", BUILD="b d", sentence='BUILD is "b d"')  # from the environment, too
        self.assertIn("a path in one line", self.make("all", "BUILD=a\nb", code=2))
        self.assertTrue(tree_of(self.folder) == before)

    def test_many_ways_to_write_one_folder(self):
        for name in ("b/c", "./b/c", "b//c/", "x/../b/c", os.path.join(self.tree, "b/c")):
            self.make("b/c/commit", f"BUILD={name}", *WITHOUT)
            self.assertIn("program b/c/bin/mla", self.make("help", f"BUILD={name}"))
        self.assertFalse(os.path.exists(os.path.join(self.tree, "build")))
        for name in ("-b", "+b@1"):
            self.make(f"{self.folder}/{name}/commit", f"BUILD=../{name}", *WITHOUT)

    def test_what_a_shell_says_besides_is_no_complaint(self):
        """A locale that is not there, as ssh brings them along, and a trace."""
        for words in ({"LC_ALL": "xx_XX.UTF-8"}, {"SHELLOPTS": "xtrace"}):
            self.make("build/commit", *WITHOUT, **words)

    def test_a_makefile_of_another_folder(self):
        self.assertIn("in its own folder: make -C", self.make("-C", "/", "-f", f"{self.tree}/Makefile", code=2))
        self.make("-C", "/", "-C", self.tree, "build/commit", *WITHOUT)

    def test_a_folder_of_something_else_is_neither_built_in_nor_removed(self):
        self.write("mine/letter", "dear\n")
        self.write(self.path("outside", "letter"), "dear\n")
        self.write("thing", "")
        before = tree_of(self.folder)
        for name, sentence in (("mine", "has files that no build"), ("../outside", "has files that no build"),
                               (".", "holds the project itself"), ("..", "holds the project itself"),
                               ("/", "holds the project itself"), ("harness", "lies among the sources"),
                               ("optimized/new", "lies among the sources"), ("thing", "is no folder")):
            self.refused("all", f"BUILD={name}", sentence=sentence)
            self.refused("clean", f"BUILD={name}", sentence=sentence)
        for tool in (("build_folder.sh", "remove", "mine"), ("setup.sh", "build")):
            self.assertIn("has files that no build", self.run_in_tree(
                f"harness/tools/{tool[0]}", *tool[1:], code=1, BUILD="mine", SETUP="no", NVCC=""))
        self.assertTrue(tree_of(self.folder) == before)

    def test_clean_removes_what_was_made(self):
        before = tree_of(self.folder)
        os.mkdir(os.path.join(self.tree, "empty"))
        for name in ("build", "up/and/down", "empty", "../beside"):
            self.make(f"{os.path.normpath(os.path.join(self.tree, name))}/commit"
                      if name.startswith("..") else f"{name}/commit", f"BUILD={name}", *WITHOUT)
            self.write(f"{name}/obj/x.o", "")
            self.make("clean", f"BUILD={name}")
        self.make("clean", "BUILD=up")  # was made on the way
        self.write("old/config.mk", "# written by harness/tools/setup.sh; remade when it changes\n")
        self.make("clean", "BUILD=old")  # of before builds had a mark
        self.assertTrue(tree_of(self.folder) == before)
        os.mkdir(os.path.join(self.tree, "empty"))
        self.make("clean", "BUILD=empty")  # nobody's
        self.assertTrue(os.path.isdir(os.path.join(self.tree, "empty")))

    @unittest.skipUnless(GIT, "SKIPPED, no git")
    def test_git_does_not_see_a_build_wherever_it_lies(self):
        self.commit_all()
        self.make("elsewhere/commit", "BUILD=elsewhere", *WITHOUT)
        self.assertEqual(self.git("status", "--short"), "")


class Checkout(Build):
    def test_may_be_called_anything(self):
        """Nothing but relative paths, and what is not relative is one word."""
        for name in ("my mla", "it's \"$HOME\" #1", "-x%"):
            with self.subTest(name):
                self.copy_tree(name)
                self.make("build/commit", "build/obj/harness/base/stats.o", "build/share/mla/python",
                          "build/libmla.map", *WITHOUT)
                self.assertEqual(os.readlink(os.path.join(self.tree, "build/share/mla/python")),
                                 os.path.join(self.tree, "harness/python"))
                said = self.make("-n", "V=1", "all", "suites", "bundle", "install", "demo", *WITHOUT)
                self.assertNotIn(self.folder, said)
                said = self.make("-n", "V=1", "rung", "R=02", f"NVCC={self.play_toolkit()}")
                self.assertEqual(set(re.findall(rf"{self.folder}[^\s\"']*", said)),
                                 {self.path("cuda", part) for part in
                                  ("bin/nvcc", "include", "lib64/libcudart_static.a")})

    def test_whatever_builds_the_program_puts_its_scripts_beside_it(self):
        self.copy_tree()
        for goal in ("all", "demo", "results", "check-gpu"):
            said = self.make("-n", goal, "GPU=h200", *WITHOUT)
            self.assertIn('ln -sfn "$PWD/harness/python" build/share/mla/python', said, goal)

    def test_so_may_a_toolkit(self):
        self.copy_tree()
        nvcc = self.play_toolkit()
        os.rename(self.path("cuda"), self.path("my cuda"))
        nvcc = nvcc.replace("/cuda/", "/my cuda/")
        said = self.make("-n", "V=1", "rung", "R=02", f"NVCC={nvcc}")
        self.assertIn(f'"{nvcc}" -ccbin', said)
        self.assertIn(f"-isystem '{self.path('my cuda/include')}'", said)
        self.assertIn(f"'{self.path('my cuda/lib64/libcudart_static.a')}'", said)

    def test_quotes_in_flags(self):
        """What goes into results is a string of C, whatever is in it."""
        self.copy_tree()
        flags = "-O1 -DA='\"x y\"' -DB=\\\"z\\\""
        said = self.make("-n", "V=1", "build/obj/harness/report/results.o", f"CFLAGS={flags}", *WITHOUT)
        line = re.search(r".* -c harness/report/results.c.*", said)[0]
        define = subprocess.run(["bash", "-c", 'for w in "$@"; do [[ $w != -DMLA_FLAGS=* ]] || echo "$w"; done; '
                                 + "set -- " + line + '; for w in "$@"; do [[ $w != -DMLA_FLAGS=* ]] || '
                                 'printf %s "${w#*=}"; done'], capture_output=True, text=True, check=True).stdout
        self.write("x.c", f"#include <stdio.h>\nint main(void) {{ return puts({define}) < 0; }}\n")
        self.run_in_tree("gcc", "x.c", "-o", "x")
        self.assertEqual(self.run_in_tree("./x"), flags + " / -O3 -lineinfo\n")


# ---- install and uninstall --------------------------------------------------------------------------


class Install(Build):
    def setUp(self):
        super().setUp()
        self.copy_few()
        for name in ("FORMAT.md", "captures/tiny.h5"):
            self.write(f"data/{name}", name)
        self.make("build/commit", *WITHOUT)
        self.write("build/bin/mla", "program")
        self.write("build/lib/libmla.so", "library")

    def install(self, *words, goal="install", code=0, **more):
        # -o: neither is built for this
        return self.make("-o", "build/bin/mla", "-o", "build/lib/libmla.so", goal, *WITHOUT, *words, code=code,
                         **more)

    def test_uninstall_leaves_what_was_there(self):
        """By whatever name, and beside whatever else."""
        self.write(self.path("dest", "precious"), "")
        self.write(self.path("dest dir", "usr", "share", "mla", "mine", "notes"), "mine")
        self.write(self.path("dest dir", "usr", "bin", "other"), "other")
        os.makedirs(self.path("dest dir", "usr", "lib"))
        for name in (self.path("dest dir"), self.path("new one/below"), self.path("it's"), self.path('a"b'),
                     self.path("a#b;c&d"), self.path("back\\slash\\"), "-dash", "relative to this", ".."):
            for prefix in ("/usr", "") if name == ".." or "dest" in name else ("/opt/my mla",):
                with self.subTest(destdir=name, prefix=prefix):
                    before = tree_of(self.folder)
                    words = (f"DESTDIR={name}", f"PREFIX={prefix}")
                    self.install(*words)
                    program = os.path.join(self.tree, name + prefix, "bin", "mla")
                    self.assertEqual(self.read(program), "program")
                    self.assertTrue(os.access(program, os.X_OK))
                    if not prefix:
                        self.install(*words)  # again
                    self.install(*words, goal="uninstall")
                    self.assertTrue(tree_of(self.folder) == before)
        self.assertIn("nothing to uninstall: there is no ", self.install(
            f"DESTDIR={self.path('dest dir')}", goal="uninstall"))
        self.assertTrue(tree_of(self.folder) == before)

    def test_prefix_alone_may_be_relative(self):
        before = tree_of(self.folder)
        for prefix in ("out here", "-p", self.path("abs")):
            self.install(f"PREFIX={prefix}")
            self.assertTrue(os.path.exists(os.path.join(self.tree, prefix, "include", "mla.h")))
            self.install(f"PREFIX={prefix}", goal="uninstall")
            self.assertTrue(tree_of(self.folder) == before)

    def test_what_was_there_stays_as_it_is(self):
        library = self.path("p", "lib")
        os.makedirs(library)
        os.chmod(library, 0o2775)
        self.run_in_tree("bash", "-c", 'umask 077; exec "$@"', "-", "harness/tools/install.sh", "install",
                         self.path("p"), "build")
        self.assertEqual(stat.S_IMODE(os.stat(library).st_mode), 0o2775)
        for name, mode in (("bin", 0o755), ("share/mla/python", 0o755), ("bin/mla", 0o755),
                           ("include/mla.h", 0o644), ("share/mla/manifest", 0o644)):
            self.assertEqual(stat.S_IMODE(os.stat(self.path("p", name)).st_mode), mode, name)

    def test_what_came_later_stays_and_what_python_made_goes(self):
        words = f"DESTDIR={self.path('d')}", "PREFIX=/usr"
        self.install(*words)
        at = self.path("d", "usr", "share", "mla")
        self.write(os.path.join(at, "python/mla/__pycache__/plot.cpython-311.pyc"), "")
        self.write(os.path.join(at, "captures/own.h5"), "own")
        said = self.install(*words, goal="uninstall")
        self.assertEqual([name for name, content in tree_of(self.path("d")).items() if content == b"own"],
                         ["usr/share/mla/captures/own.h5"])
        self.assertEqual(sorted(tree_of(at)), ["captures", "captures/own.h5"])
        self.assertEqual(said, f"left, since it is not empty: {at}/captures\n")

    def test_a_newer_version_takes_the_older_ones_files_away_in_the_end(self):
        words = f"DESTDIR={self.path('d')}", "PREFIX=/usr"
        self.write("harness/python/mla/gone.py", "")
        self.install(*words)
        os.remove(os.path.join(self.tree, "harness/python/mla/gone.py"))
        shutil.rmtree(self.path("d/usr/include"))
        self.install(*words)
        self.assertTrue(os.path.exists(self.path("d/usr/share/mla/python/mla/gone.py")))
        self.install(*words, goal="uninstall")
        self.assertFalse(os.path.exists(self.path("d")))

    def test_nothing_outside_is_removed_whatever_the_manifest_says(self):
        words = f"DESTDIR={self.path('d')}", "PREFIX=/usr"
        self.write(self.path("victim"), "")
        self.install(*words)
        for line in ("../../victim", self.path("victim"), "bin/../../../victim", ""):
            with self.subTest(line):
                manifest = self.path("d/usr/share/mla/manifest")
                good = self.read(manifest)
                self.write(manifest, line + "\n", mode="a")
                before = tree_of(self.folder)
                self.assertIn(f'has the line "{line}", which is no path below',
                              self.install(*words, goal="uninstall", code=2))
                self.assertTrue(tree_of(self.folder) == before)
                self.write(manifest, good)

    def test_a_folder_where_a_file_belongs(self):
        os.makedirs(self.path("d/bin/mla/kept"))
        said = self.install(f"DESTDIR={self.path('d')}", "PREFIX=", code=2)
        self.assertIn("cannot overwrite directory", said)
        self.install(f"DESTDIR={self.path('d')}", "PREFIX=", goal="uninstall")
        self.assertEqual(sorted(tree_of(self.path("d"))), ["bin", "bin/mla", "bin/mla/kept"])

    def test_bad_names_are_told_so(self):
        before = tree_of(self.folder)
        for goal in ("install", "uninstall"):
            for words, sentence in (
                    (("DESTDIR=/x", "PREFIX=usr"), 'PREFIX is "usr", expected a path from / on'),
                    (("DESTDIR=$(HOME)/x",), 'DESTDIR is "$(HOME)/x", expected a path without "$"'),
                    (("PREFIX=/a$b",), 'PREFIX is "/a$b", expected a path without "$"'),
                    (("PREFIX=",), 'PREFIX is "", expected a path'),
                    (("PREFIX=~/mla",), 'PREFIX is "~/mla", expected a path without ~')):
                self.refused(goal, *words, sentence=sentence)
        self.assertTrue(tree_of(self.folder) == before)
        for name in ("$odd", "it's"):  # nobody asked for it
            self.assertIn("make clean", self.make("help", PREFIX=name))


# ---- flags ------------------------------------------------------------------------------------------

FAST = ("-ffast-math", "-Ofast", "-ffinite-math-only", "-funsafe-math-optimizations", "-fno-signed-zeros",
        "-freciprocal-math", "-fassociative-math -fno-signed-zeros -fno-trapping-math")


class Arithmetic(Build):
    def setUp(self):
        super().setUp()
        self.copy_few()

    def test_flags_that_break_it(self):
        for compiler in ("gcc", "clang"):
            if not shutil.which(compiler):
                continue
            for flags in FAST if compiler == "gcc" else FAST[:2]:
                with self.subTest(compiler=compiler, flags=flags):
                    said = self.run_in_tree("harness/tools/arithmetic.sh", f"{compiler} -O2 {flags}", compiler,
                                            code=1)
                    self.assertRegex(said, r"\A(NaN|-0|quotients|the order|infinity) .*: take -ffast-math, or "
                                           rf'what is like it, out of "{compiler} -O2 {flags}" ')
            for flags in ("", "-O3 -march=native -ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"):
                self.assertEqual(self.run_in_tree("harness/tools/arithmetic.sh",
                                                  f"{compiler} -O2 {flags}", compiler), "", flags)
        os.mkdir(self.path("a b"))
        self.assertEqual(self.run_in_tree("harness/tools/arithmetic.sh", "gcc", "gcc", TMPDIR=self.path("a b")), "")
        self.assertIn("mktemp: ", self.run_in_tree("harness/tools/arithmetic.sh", "gcc", "gcc", code=1,
                                                   TMPDIR=self.path("none")))
        self.assertIn("gcc -fbogus does not build a program: gcc: error: unrecognized",
                      self.run_in_tree("harness/tools/arithmetic.sh", "gcc -fbogus", "gcc", code=1))

    def test_contraction_and_denormals(self):
        if " fma " in self.run_in_tree("cat", "/proc/cpuinfo"):
            self.assertIn("products are not rounded", self.run_in_tree(
                "harness/tools/arithmetic.sh", "gcc -O2 -mfma -ffp-contract=fast", "gcc", code=1))
        if os.uname().machine == "x86_64":  # gcc links what sets the processor so
            self.assertIn("denormals become 0", self.run_in_tree(
                "harness/tools/arithmetic.sh", "gcc -O2", "gcc -ffast-math", code=1))

    def test_make_refuses_them_wherever_they_stand(self):
        self.fake("wrapper", 'exec gcc "$@" -ffinite-math-only\n')
        for words in (("CFLAGS=-O2 -ffinite-math-only",), ("CC=gcc -funsafe-math-optimizations",),
                      ("CPPFLAGS=-fno-signed-zeros",), ("LDFLAGS=-ffast-math",), ("CC=wrapper",)):
            with self.subTest(words):
                said = self.make("all", *words, *WITHOUT, code=2)
                self.assertRegex(said, r"\Asetup: .* with these CC, CPPFLAGS, CFLAGS and LDFLAGS, and the "
                                       r"truth relies on IEEE's arithmetic: take -ffast-math")
                self.assertNotIn("CC ", said)
        self.make("build/commit", *WITHOUT)
        for _ in range(2):  # what was good before is asked again, and is no better the second time
            self.make("build/commit", "CFLAGS=-Ofast", *WITHOUT, code=2)

    def test_what_is_not_to_be_overridden_stands_last(self):
        self.copy_tree("whole")
        self.make("build/commit", "CFLAGS=-O2 -march=native -ffp-contract=fast -std=gnu17", *WITHOUT)
        said = self.make("-n", "V=1", "all", "build/asan/bin/mla", "CFLAGS=-ffp-contract=fast -std=gnu17",
                         "CPPFLAGS=-DX", *WITHOUT)
        lines = re.findall(r"^(?:gcc|cc) .* -c .*$", said.replace("\\\n", " "), re.MULTILINE)
        self.assertGreater(len(lines), 100)
        for line in lines:
            self.assertRegex(line, r"(-DX -ffp-contract=fast -std=gnu17|-Werror) -std=c11 -ffp-contract=off ")
            self.assertNotRegex(line, r"-ffp-contract=off (?!-DMLA_FLAGS).* -(ffp-contract=fast|std=)")

    def test_a_gpu_is_not_asked(self):
        for flag in ("--use_fast_math", "-ftz=true", "--prec-div=false", "-Xcompiler=-ffast-math"):
            self.refused("all", f"CUFLAGS=-O3 {flag}", sentence=f'CUFLAGS is "-O3 {flag}", expected no ')
        self.refused("all", NVCC_APPEND_FLAGS="-use_fast_math", sentence="NVCC_APPEND_FLAGS is ")
        self.make("build/commit", "CUFLAGS=-O3 -fmad=false", *WITHOUT)

    def test_the_reference_alone_refuses_what_the_compiler_tells(self):
        self.copy_tree("alone", parts=("reference", "harness/mla.h"))
        for flag in FAST:
            said = self.run_in_tree("gcc", "-std=c11", "-I.", "-Iharness", *flag.split(), "-fsyntax-only",
                                    "reference/tile.c", code=1)
            self.assertIn("the truth relies on NaN, infinities", said)


# ---- complaints come before work --------------------------------------------------------------------


class AtOnce(Build):
    def setUp(self):
        super().setUp()
        self.copy_tree()
        self.nvcc = self.play_toolkit()

    @unittest.skipUnless(GIT, "SKIPPED, no git")
    def test_nothing_to_compare_with(self):
        for goal in ("bench", "sass"):
            for against in ("nonsense", "--help", "it's", "optimized"):
                said = self.make(goal, "R=02", f"AGAINST={against}", NVCC=self.nvcc, code=2)
                self.assertIn(f"AGAINST={against}: git knows no such revision, and no bundle lies there\n", said)
                self.assertNotIn("CC ", said)

    def test_results_of_no_gpu(self):
        for name in ("", "a b", "a/b", "..", "it's", "a#b"):
            self.refused("results", f"GPU={name}", sentence=f'make results: GPU is "{name}", expected the name')

    def test_a_rung_is_one_word(self):
        for rung in ("01 nothing", "01%", "%", "01 02"):
            self.assertIn(f'make rung R=NAME: "{rung}" is not one of 01_naive',
                          self.make("rung", f"R={rung}", NVCC=self.nvcc, code=2))

    def test_words_of_the_environment_that_mean_something_else(self):
        said = self.make("-n", "V=1", "all", *WITHOUT, DEBUG="*", ARCH="arm64", DEFINES="-DMINE")
        self.assertNotRegex(said, " -O0 | -DMINE ")

    def test_an_earlier_build_without_nvcc_is_no_reason(self):
        self.make("build/commit", *WITHOUT)
        os.symlink(self.nvcc, self.path("fakes", "nvcc"))
        self.assertIn("-c optimized/02_splitk.cu", self.make("-n", "V=1", "rung", "R=02"))


# ---- set-up's log, version --------------------------------------------------------------------------


class Log(Build):
    def setUp(self):
        super().setUp()
        self.copy_tree(parts=("harness/tools",))
        self.fake("id", "echo 0\n")
        self.versions("1.0-1")

    def versions(self, version):
        """Every package is there, in that version."""
        self.fake("dpkg-query", f'[ "$2" = -f ] || exit 2\nformat=$3; shift 3\nfor p; do printf "%b" "$(printf %s '
                  f'"$format" | sed "s/\\${{Package}}/$p/; s/\\${{Version}}/{version}/; '
                  's/\\${Status}/install ok installed/")"; done\n')

    def setup(self, *groups, **more):
        return self.run_in_tree("harness/tools/setup.sh", *groups, NVCC="", **more)

    def test_versions_stand_in_it(self):
        self.setup("suites")
        log = self.read("build/setup.log")
        self.assertRegex(log, r"\A# \d{4}-\d\d-\d\dT[\d:]+Z what is there now\nversion libcriterion-dev 1\.0-1\n\Z")
        self.setup("suites")
        self.assertEqual(self.read("build/setup.log"), log)
        self.versions("1.0-2")
        self.setup("suites", "format")
        self.assertEqual(re.findall(r"version (.*)", self.read("build/setup.log")), [
            "libcriterion-dev 1.0-1", "clang-format-14 1.0-2", "libcriterion-dev 1.0-2"])
        self.versions("1.0-1")
        self.setup("suites")
        self.assertTrue(self.read("build/setup.log").endswith("version libcriterion-dev 1.0-1\n"))
        self.setup("build")
        self.assertRegex(self.read("build/setup.log"), r"version libhdf5-dev 1\.0-1\n(.*\n)*# \S+ gcc \(")

    def test_what_the_package_manager_said_stands_in_it(self):
        self.fake("dpkg-query", "exit 1\n")
        self.fake("apt-get", 'echo "apt said $*"\n')
        self.setup("format")
        log = self.read("build/setup.log")
        self.assertIn(" apt-get install clang-format-14\napt said -qq ", log)
        self.fake("apt-get", "echo no room on the disk; exit 100\n")
        said = self.setup("format", code=1)
        self.assertIn("no room on the disk\nsetup: apt-get could not install what is missing: clang-format-14 "
                      "(build/setup.log has all that it said)\n", said)


@unittest.skipUnless(GIT, "SKIPPED, no git")
class Commit(Build):
    def test_another_repository_by_the_environment(self):
        """A hook of git's runs with GIT_DIR set, and that is taken for the folder's own."""
        self.write("other.c", "")
        self.commit_all()
        other = os.path.join(self.tree, ".git")
        self.copy_tree()
        self.write(".commit", "$Format:%h$\n")
        said = self.make("--eval", "say: ; @echo commit=$(COMMIT)", "say", *WITHOUT, GIT_DIR=other)
        self.assertEqual(said.splitlines()[-1], "commit=unknown")


if __name__ == "__main__":
    unittest.main()
