"""test_misuse.py - what the emulator says of memory that a kernel must not touch and of order by fences, and
that it says nothing of what is right.

    build/venv/bin/python tests/test_misuse.py

Needs what "make emulated" built (in $MLA_BUILD, default build) and a C++ compiler, for kernels of its own.
"""
import os
import re
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
CORE = os.path.join(BUILD, "emulated", "core")
CXX = next(filter(shutil.which, (os.environ.get("CXX", "g++"), "c++", "clang++")), None)

# name: (blocks, statements, what is said; "" of a right one). g: 2,048 ints, 0; m: shared memory; t: the thread.
KERNELS = {
    "aligned": (1, "if (!t) *(float4 *)(g + 2) = make_float4(1, 2, 3, 4);", "type that is aligned to 16 bytes"),
    "aligned_shared": (1, "m.a[t] = t; __syncthreads(); if (!t) g[0] = ((uint4 *)(m.a + 2))->x;",
                       "type that is aligned to 16 bytes"),
    "aligned_copy": (1, "if (!t) { cp_async_16(shared_address(m.a), g + 1, 16); cp_async_commit(); "
                        "cp_async_wait<0>(); }", "cp.async at global memory 0x[0-9a-f]+: not a multiple of 16"),
    "half_a_warp": (1, "if (t < 16) barrier_sync<16>(1);", "barrier of 16 threads, not a multiple of 32"),
    "null": (1, "if (!t) ((volatile int *)(g - g[0]))[-(intptr_t)g / 4] = 1;", "neither device nor shared memory"),
    "another_threads": (1, "int mine = t; if (!t) m.at = &mine; __syncthreads(); if (t == 1) g[0] = *m.at; "
                           "__syncthreads();", "reads 4 bytes at .* another thread's variable"),
    "stack": (1, "g[t] = deep(1000);", "needs more than the 262144 bytes of its stack"),
    "division": (1, "volatile int zero = 0; g[t] = 7 / zero;", "divides by zero"),
    "spin": (1, "while (atomicAdd(&g[9], 0) != 1) ;", "poll for a change of global memory"),
    "flag": (2, "volatile int *f = g + 9; if (!t && !blockIdx.x) { g[0] = 5; *f = 1; } "
                "if (!t && blockIdx.x) { while (!*f) ; __threadfence(); g[1] = g[0]; }", "nothing orders"),
    "flag_of_the_block": (2, "if (!t && !blockIdx.x) { g[0] = 5; __threadfence_block(); atomicExch(&g[9], 1); } if (!t "
                             "&& blockIdx.x) { while (!atomicAdd(&g[9], 0)) ; __threadfence_block(); g[1] = g[0]; }",
                          "nothing orders"),
    "same_word": (2, "g[0] = 7;", r"overwrites global memory, byte 0 .* wrote; nothing orders the two$"),
    "waived": (2, "/* waived: all write the same word */ g[0] = 7;",
               r"\A(emulator: seed \d+: .*; nothing orders the two \[waived\]\n"
               r"emulator:     waived: all write the same word \n)+\Z"),
    "right_flag": (2, "volatile int *f = g + 999; if (!blockIdx.x) { g[t] = 5; __syncthreads(); if (!t) { "
                      "__threadfence(); *f = 1; } } else { if (!t) { while (!*f) ; __threadfence(); } "
                      "__syncthreads(); g[99 + t] = g[t]; }", ""),
    "right_spin": (2, "if (!t && !blockIdx.x) { g[0] = 5; __threadfence(); atomicExch(&g[9], 1); } if (!t && blockIdx.x) "
                      "{ while (!atomicAdd(&g[9], 0)) ; __threadfence(); g[1] = g[0]; }", ""),
    "right_last": (1, "if (!t) m.a[99] = 0; __syncthreads(); m.a[t] = t; __threadfence_block(); if (atomicAdd(&m.a[99], 1) "
                      "== 63) { __threadfence_block(); for (int i = 0; i < 64; i++) g[i] = m.a[i]; }", ""),
    "right_shared": (1, "volatile int *f = m.a; if (!t) *f = 0; __syncthreads(); if (t == 40) { m.a[9] = 3; "
                        "__threadfence_block(); *f = 1; } if (!t) { while (!*f) ; __threadfence_block(); "
                        "g[0] = m.a[9]; }", ""),
}
HEAD = r"""
#include <cuda_runtime_api.h>
#include "parts/launch.cuh"
#include "parts/ptx_sm80.cuh"
struct memory { int a[256]; int *at; };
[[gnu::noinline]] static int deep(int n)
{
	volatile char much[4096];
	much[0] = (char)n;
	return n ? deep(n - 1) + much[0] : 0;
}
"""


@unittest.skipUnless(os.path.isdir(CORE), "there is no emulator: make emulated")
class Misuse(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="mla-misuse-")
        cls.addClassCleanup(folder.cleanup)
        cls.program = os.path.join(folder.name, "misuse")
        with open(cls.program + ".cu", "w", encoding="utf-8") as file:
            file.write(HEAD)
            for name, (_, text, _) in KERNELS.items():
                file.write(f"static __global__ void k_{name}(int *g)\n{{\n\tmemory &m = dynamic_shared<memory>();\n"
                           f"\tconst int t = (int)threadIdx.x;\n\t{text}\n}}\n")
            file.write("int main(int, char **argv)\n{\n\tint *g;\n\tcudaMalloc((void **)&g, 8192);\n"
                       "\tcudaMemset(g, 0, 8192);\n")
            for name, (blocks, _, _) in KERNELS.items():
                file.write(f'\tif (!strcmp(argv[1], "{name}"))\n\t\tlaunch_kernel({{{blocks}, 64, '
                           f'sizeof(memory)}}, 0, k_{name}, g);\n')
            # more shared memory than a kernel has without allow_shared; no blocks
            file.write("\tif (!strcmp(argv[1], \"launches\"))\n\t\tfor (launch_shape s : {launch_shape{1, 64, 50000}, "
                       "{0, 64}, {-1, 64}})\n\t\t\tprintf(\"%d\\n\", launch_kernel(s, 0, k_null, g));\n"
                       "\treturn cudaDeviceSynchronize() != cudaSuccess;\n}\n")
        with open(os.path.join(ROOT, "Makefile"), encoding="utf-8") as file:
            flags = re.search(r"^EMU_HOOKS := (-[^$]*)", file.read(), re.M)[1].split()
        if "clang" not in CXX:
            flags += ["--param", "tsan-distinguish-volatile=1", "--param", "tsan-instrument-func-entry-exit=0"]
        else:
            flags += ["-mllvm", "-tsan-distinguish-volatile=1", "-mllvm", "-tsan-instrument-func-entry-exit=0"]
        subprocess.run([CXX, "-std=c++17", "-g", "-O1", "-fno-pie", "-w", "-DMLA_EMULATED", "-Ioptimized/emulator",
                        "-I.", "-Iharness", "-Ioptimized", *flags, "-x", "c++", "-c", cls.program + ".cu", "-o",
                        cls.program + ".o"], cwd=ROOT, check=True)
        subprocess.run([CXX, "-no-pie", cls.program + ".o", *(os.path.join(CORE, name) for name in os.listdir(CORE)
                                                              if name.endswith(".o")), "-o", cls.program], check=True)

    def run_it(self, name, seed):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("EMULATE_")}
        return subprocess.run([self.program, name], env={**clean, "EMULATE_SEED": str(seed)}, text=True,
                              capture_output=True, timeout=300, check=False)

    def test_what_is_said(self):
        for name, (_, _, sentence) in KERNELS.items():
            for seed in (1, 2, 3, 5, 6, 7):
                with self.subTest(kernel=name, seed=seed):
                    done = self.run_it(name, seed)
                    said = sentence and name != "waived"
                    self.assertEqual(done.returncode, 70 if said else 0, done.stderr)
                    self.assertRegex(done.stderr, re.compile(sentence or r"\A\Z", re.M))
                    self.assertNotIn("?:", done.stderr)

    def test_launches(self):
        done = self.run_it("launches", 1)
        self.assertEqual(done.stdout, "1\n1\n1\n")
        self.assertIn("at most 49152 bytes are possible; allow_shared permits more", done.stderr)


if __name__ == "__main__":
    unittest.main()
