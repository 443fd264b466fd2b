"""test_layers.py - make lint's check of the rooms finds what it is there to find: a small house, one
fault planted at a time, the sentence that must name it.
"""
import os
import subprocess
import tempfile
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

TABLE = """\
# a comment
reference
optimized/parts
optimized  optimized/parts   # words
lib        reference
base       lib
device     lib base optimized/parts
cli        lib base
"""
HOUSE = {
    "harness/layers.def": TABLE,
    "harness/mla.h": "struct mla;\n",
    "harness/mla_kernel.h": '#include "mla.h"\n',
    "reference/number.c": '#include "internal.h"\n',
    "reference/internal.h": '#include "mla.h"\n',
    "optimized/ladder.def": "MLA_KERNEL(01_naive, sm_80, nospill)\n",
    "optimized/01_naive.cu": '#include "parts/ptx_sm80.cuh"\n#include "mla_kernel.h"\n',
    "optimized/parts/ptx_sm80.cuh": 'asm volatile("nop;");\nkernel<<<1, 1>>>();\n',
    "harness/lib/plan.c": '#include "lib/internal.h"\n#include "mla_kernel.h"\n'
                          '#include "reference/reference.h"\n',
    "harness/lib/internal.h": '#include "mla.h"\n',
    "harness/lib/error.h": '#include "mla.h"\n',
    "harness/base/text.c": '#include "lib/error.h"\n',
    "harness/device/gpu.c": '#include "base/text.h"\n#include "parts/launch.cuh"\n',
    "harness/cli/main.c": '/* says <<< and asm( in a comment\n * asm volatile */\n'
                          '#include "lib/error.h" /* words\n * that say asm( */\n'
                          '#include <stdio.h>\nstatic int verb(const char *name);\n'
                          'int main(int argc,\n\t char **argv)\n{\n\tputs("<<<, asm");\n}\n',
    "tests/test_plan.c": '#include "lib/internal.h"\n',
}


def grown(path, text):
    return {path: HOUSE.get(path, "") + text}


# what is changed, and what must be said of it
FAULTS = {
    "an include that the table does not allow":
        (grown("harness/lib/plan.c", '#include "base/text.h"\n'),
         "harness/lib/plan.c:4: lib may not include base: harness/layers.def says it may include "
         "reference"),
    "upward": (grown("harness/base/text.c", '#include "cli/cli.h"\n'),
               "base may not include cli"),
    "an include without a room":
        (grown("harness/base/text.c", '#include "text.h"\n'), "does not name its room"),
    "a relative include":
        (grown("harness/base/text.c", '#include "../lib/error.h"\n'), "does not name its room"),
    "a room that nobody knows":
        (grown("harness/base/text.c", '#include "attic/box.h"\n'),
         '"attic/box.h" is of no room that harness/layers.def knows'),
    "another room's internals":
        (grown("harness/base/text.c", '#include "lib/internal.h"\n'),
         '"lib/internal.h" belongs to lib alone'),
    "the kernels' contract in a program":
        (grown("harness/cli/main.c", '#include "mla_kernel.h"\n'),
         "mla_kernel.h is for lib and the kernels"),
    "a harness header in a kernel":
        (grown("optimized/01_naive.cu", '#include "lib/error.h"\n'),
         "optimized may not include lib"),
    "a rung in a rung":
        (grown("optimized/01_naive.cu", '#include "02_splitk.cu"\n'), "does not name its room"),
    "PTX in a rung":
        (grown("optimized/01_naive.cu", '\tasm volatile("bar.sync 0;");\n'),
         "optimized/01_naive.cu:3: asm: an instruction is a function of"),
    "a launch in a rung":
        (grown("optimized/01_naive.cu", "\tnaive<<<1, 128>>>(p);\n"), "<<<: kernels are launched by"),
    "a launch in the program's own kernels":
        (grown("harness/device/bulk.cu", "\tfill<<<1, 128>>>(p);\n"), "<<<: kernels are launched by"),
    "an include of ours in angle brackets":
        (grown("harness/base/text.c", "#include <cli/cli.h>\n"), "<cli/cli.h> is of this house"),
    "an include from the top in angle brackets":
        (grown("harness/base/text.c", "# include <harness/cli/cli.h>\n"),
         "<harness/cli/cli.h> is of this house"),
    "an include by a macro":
        (grown("harness/base/text.c", '#define UP "cli/cli.h"\n#include UP\n'),
         "harness/base/text.c:3: an include is #include"),
    "an include behind a comment":
        (grown("harness/base/text.c", '/* up */ #include "cli/cli.h"\n'),
         "harness/base/text.c:2: an include is #include"),
    "an include with a blank":
        (grown("harness/base/text.c", '# include "cli/cli.h"\n'), "an include is #include"),
    "an include that is no header":
        (grown("reference/number.c", '#include "rows.inc"\n'), "does not name its room"),
    "a function of another room without its header":
        (grown("harness/base/text.c", "int cli_main(int argc,\n\t     char **argv);\n"),
         "harness/base/text.c:2: a function declared in a .c file"),
    "a variable of another room without its header":
        (grown("harness/base/text.c", "extern int cli_count;\n"),
         "harness/base/text.c:2: extern: include the header"),
    "PTX in another spelling":
        (grown("optimized/01_naive.cu", '\t__asm volatile\n\t("bar.sync 0;");\n'),
         "optimized/01_naive.cu:3: asm: an instruction"),
    "PTX behind a string that looks like a comment":
        (grown("optimized/01_naive.cu", 'const char *mark = "/*", *host = "//"; asm("nop;");\n'),
         "optimized/01_naive.cu:3: asm: an instruction"),
    "a launch by name":
        (grown("optimized/01_naive.cu", "\tcudaLaunchKernel(naive, 1, 128, args, 0, stream);\n"),
         "optimized/01_naive.cu:3: <<<: kernels are launched by"),
    "a folder without a line":
        (grown("harness/attic/box.c", "int box;\n"),
         "harness/attic/box.c: its room attic has no line in harness/layers.def"),
    "a line without a folder":
        (grown("harness/layers.def", "cellar lib\n"), "cellar has a line, but no file"),
    "a source outside the rooms":
        (grown("harness/box.c", "int box;\n"), "a source outside a room"),
    "a room in a room":
        (grown("harness/lib/deep/box.c", "int box;\n"), "a room is one folder"),
    "two files of one name":
        (grown("harness/cli/plan.c", "int plan;\n"), "has the name of harness/"),
    "a file that is too long":
        (grown("harness/cli/long.c", "int x;\n" * 701), "has more than 700 lines"),
    "a long script":
        (grown("harness/python/long.py", "x = 1\n" * 701), "has more than 700 lines"),
    "a room below that is named before it has a line":
        (grown("harness/layers.def", "attic cellar\n"), "attic names cellar, which has no line above"),
    "two lines for a room":
        (grown("harness/layers.def", "lib reference\n"), "lib has a line already"),
}


class Layers(unittest.TestCase):
    def look(self, changes):
        """Exit code and output of the check on the house with these files changed or added."""
        with tempfile.TemporaryDirectory() as folder:
            files = {**HOUSE, **changes}
            for path, text in files.items():
                os.makedirs(os.path.join(folder, os.path.dirname(path)), exist_ok=True)
                with open(os.path.join(folder, path), "w", encoding="utf-8") as file:
                    file.write(text)
            done = subprocess.run(
                ["awk", "-f", os.path.join(ROOT, "tests", "layers.awk"), "harness/layers.def",
                 *sorted(files)], cwd=folder, text=True, capture_output=True, check=False)
            return done.returncode, done.stdout + done.stderr

    def test_a_good_house(self):
        code, out = self.look({})
        self.assertEqual(code, 0, out)
        self.assertEqual(out, "7 rooms, 6 arrows, upward arrows 0, circles 0\n")

    def test_faults(self):
        for name, (changes, sentence) in FAULTS.items():
            with self.subTest(name):
                code, out = self.look(changes)
                self.assertEqual(code, 1, out)
                self.assertIn(sentence, out)

    def test_circles_and_upward_arrows_are_counted(self):
        out = self.look({"harness/lib/plan.c": '#include "base/text.h"\n'})[1]
        self.assertIn("upward arrows 1, circles 2", out)

    def test_too_many_files_at_the_top(self):
        code, out = self.look({f"harness/page{i}.md": "\n" for i in range(9)})
        self.assertEqual(code, 1, out)
        self.assertIn("harness/ itself holds at most 8 files", out)


if __name__ == "__main__":
    unittest.main()
