"""test_tools.py - what is made of result files: mla compare, plot, profile; pages; peers.

    build/venv/bin/python tests/test_tools.py

Needs numpy, a built mla and libmla.so (in $MLA_BUILD, default build), and h5py for captures.
Pictures are drawn where matplotlib is. Peers are played by modules that this file makes of libmla.
"""
import contextlib
import copy
import io
import json
import math
import os
import random
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import types
import unittest
from unittest import mock

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
MLA = os.path.join(BUILD, "bin", "mla")
os.environ.setdefault("MLA_LIBRARY", os.path.join(BUILD, "lib", "libmla.so"))
sys.path[:0] = [os.path.join(ROOT, "harness", folder) for folder in ("python", "tools")]

import docs  # noqa: E402
import flashinfer_mla  # noqa: E402
import mla  # noqa: E402
from mla import nvml, peers, peers_case, plot, program, results  # noqa: E402

GPU = "NVIDIA Test GPU"
CEILINGS = {"read_gbs": 4000, "copy_gbs": 3900, "mma_tflops": 800, "wgmma_tflops": None,
            "gemm_tflops": 700}


def ceilings_file(gpu=GPU, **rates):
    """What mla ceilings keeps: CEILINGS, or others, of one GPU."""
    entry = {"date": "2025-01-02T03:04:05Z"}
    for key, rate in {**CEILINGS, **rates}.items():
        entry[key] = {"why": "not here"} if rate is None else {
            "n": 20, **dict.fromkeys(("min", "q1", "median", "q3", "max"), rate)}
    return {"schema": "mla-ceilings", "schema_version": 1, "gpus": {gpu: entry}}


# ---- result files -------------------------------------------------------------------------------


def timing(us, mode="graph", cache="cold", n=40, spread=0.001):
    """n samples around us, the same each time."""
    rng = random.Random(f"{us} {mode} {cache} {n}")
    samples = [us * (1 + spread * rng.uniform(-1, 1)) for _ in range(n)]
    ordered = sorted(samples)
    return {"mode": mode, "cache": cache, "samples_us": samples,
            "median_us": statistics.median(samples), "q1_us": ordered[n // 4], "q3_us": ordered[3 * n // 4], "min_us": ordered[0]}


def measurement(name, implementation, us, batch=4, heads=16, keys=1024, sha256="00", **changes):
    case = {"name": name, "sha256": sha256, "batch_size": batch, "num_heads": heads,
            "total_q": batch, "kv_tokens": batch * keys, "kv_len_min": keys, "kv_len_max": keys,
            "page_size": 64, "causal": False, "dtype": "bf16",
            "flop": 2 * batch * heads * keys * 1088,
            "bytes": batch * keys * 1152 + batch * heads * (1152 + 1024 + 4)}
    return {"case": case, "implementation": implementation, "status": "PASS", "why": "",
            "errors": {"element": 0.5, "rms": 0.4, "lse": 0.1}, "plan_us": None,
            "timings": [timing(us)], **changes}


def failed(name, implementation, status, why):
    return measurement(name, implementation, 1, status=status, why=why, timings=[], errors=None)


def result(*measurements, gpu=GPU, ceilings=None, **environment):
    return {"schema": "mla-results", "schema_version": 1, "command": "mla bench ...",
            "environment": {"gpu": gpu, "arch": 90, "commit": "abc1234", "driver": "1.2.3",
                            "date_utc": "2025-01-02T03:04:05Z",
                            "clocks": {"sm_mhz": [1700, 1720], "power_w": [500, 510]},
                            **environment},
            "ceilings": ceilings, "measurements": list(measurements)}


class Folder(unittest.TestCase):
    """A folder of its own for each test."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="mla-tools-")
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def write(self, name, content):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(content if isinstance(content, str) else json.dumps(content))
        return self.path(name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def mla(self, *words, code=0, program=MLA, **environment):
        """Runs the program; its output after its exit code was the one expected."""
        done = subprocess.run([program, *words], capture_output=True, text=True, timeout=120,
                              cwd=self.folder, env={**os.environ, **environment}, check=False)
        said = done.stdout, done.stderr
        self.assertEqual(done.returncode, code, f"mla {' '.join(words)}\n{''.join(said)}")
        return said

    def quietly(self, function, *arguments):
        """(result, standard output, standard error) of a function."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            value = function(*arguments)
        return value, out.getvalue(), err.getvalue()


class ResultFiles(Folder):
    def test_what_is_good_is_loaded(self):
        good = result(measurement("c", "02_splitk", 10), failed("c", "x:y", "SKIP", "not here"))
        self.assertEqual(results.load(self.write("good.json", good)), good)

    def test_what_is_bad_is_refused_in_words(self):
        def broken(change):
            root = result(measurement("c", "02_splitk", 10), ceilings=dict(CEILINGS))
            change(root, root["measurements"][0])
            return root
        cases = {
            "is no JSON": "{",
            "it is [], expected an object": "[]",
            'schema is "mla-check"': broken(lambda r, m: r.update(schema="mla-check")),
            "schema_version is 2": broken(lambda r, m: r.update(schema_version=2)),
            "measurements is {}": broken(lambda r, m: r.update(measurements={})),
            "environment is 3": broken(lambda r, m: r.update(environment=3)),
            "ceilings.read_gbs is 0": broken(lambda r, m: r["ceilings"].update(read_gbs=0)),
            "measurements[0] is 7": broken(lambda r, m: r.update(measurements=[7])),
            "measurements[0].case is null": broken(lambda r, m: m.update(case=None)),
            "case.name is 3": broken(lambda r, m: m["case"].update(name=3)),
            "case.flop is -1": broken(lambda r, m: m["case"].update(flop=-1)),
            "case.bound_us is 0": broken(lambda r, m: m["case"].update(bound_us=0)),
            'case.bound_by is "luck"': broken(
                lambda r, m: m["case"].update(bound_us=1, bound_by="luck")),
            "case.bytes is true": broken(lambda r, m: m["case"].update(bytes=True)),
            "implementation is null": broken(lambda r, m: m.update(implementation=None)),
            "timings is []": broken(lambda r, m: m.update(timings=[])),
            "median_us is 0": broken(lambda r, m: m["timings"][0].update(median_us=0)),
            "cache is null": broken(lambda r, m: m["timings"][0].update(cache=None)),
        }
        for sentence, content in cases.items():
            with self.subTest(sentence):
                path = self.write("bad.json", content)
                with self.assertRaises(results.ResultError) as caught:
                    results.load(path)
                self.assertIn(sentence, str(caught.exception))
                self.assertIn(path, str(caught.exception))
        with self.assertRaises(results.ResultError):
            results.load(self.path("missing.json"))

    def test_kinds_and_order(self):
        names = ["flashmla:dense", "10_seesaw", "online", "02_splitk", "flashinfer:fa2"]
        self.assertEqual(sorted(names, key=results.implementation_key),
                         ["online", "02_splitk", "10_seesaw", "flashinfer:fa2", "flashmla:dense"])

    def test_which_timing_speaks(self):
        m = measurement("c", "x:y", 1, timings=[
            timing(3, "launch", "hot"), timing(2, "graph", "hot"), timing(1, "launch", "cold")])
        self.assertEqual(results.timing_of(m)["cache"], "cold")
        self.assertEqual(results.timing_of(m, cache="hot")["mode"], "graph")
        self.assertIsNone(results.timing_of(m, "graph", "cold"))
        self.assertIsNone(results.timing_of(failed("c", "x:y", "FAIL", "")))

    def test_signs(self):
        calm, noisy, few = timing(10), timing(10, spread=0.1), timing(10, n=5)
        self.assertEqual([results.sign_of(t) for t in (calm, noisy, few)], ["", "!", "?"])
        self.assertEqual(results.sign_of({**noisy, "settled": True}), "")
        self.assertEqual(results.sign_of({**few, "settled": False}), "!?")
        self.assertEqual(results.sign_of({k: v for k, v in few.items() if k != "samples_us"}), "")
        with open(os.path.join(ROOT, "harness", "base", "stats.h"), encoding="utf-8") as file:
            self.assertIn(f"STATS_LEAST = {results.LEAST_SAMPLES} ", file.read())

    def test_bounds_of_a_file_that_has_them(self):
        m = measurement("c", "02_splitk", 10)
        m["case"].update(bound_us=7, bound_by="flop")
        root = result(m, ceilings={**CEILINGS, "tensor_tflops": 900})
        with mock.patch.dict(os.environ, MLA_PROGRAM="/nowhere"):  # nobody is asked
            self.assertEqual(program.load_results(self.write("r.json", root)), root)
        self.assertEqual(results.bound_of(m["case"]), (7, "tensor"))
        m["case"].update(bound_us=None, bound_by=None)
        self.assertIsNone(results.bound_of(m["case"]))

    def test_bounds_of_an_older_file(self):
        """8e6 bytes take 2 us, 1.6e9 FLOP 2 us; each case counts for itself, whatever its name."""
        cases = [measurement("c", "02_splitk", 10, sha256=f"{i}") for i in range(3)]
        for m, (size, flop) in zip(cases, ((16e6, 1.6e9), (8e6, 4.8e9), (8e6, 0))):
            m["case"].update(bytes=size, flop=flop)
        cases.append({**copy.deepcopy(cases[1]), "implementation": "03_vector"})
        path = self.write("r.json", result(*cases, ceilings=CEILINGS))
        root = program.load_results(path)
        found = [results.bound_of(m["case"]) for m in root["measurements"]]
        self.assertEqual([word for _, word in found], ["memory", "tensor", "memory", "tensor"])
        for (us, _), expected in zip(found, (4, 6, 2, 6)):
            self.assertAlmostEqual(us, expected)
        self.assertEqual(root["ceilings"]["tensor_tflops"], 800)
        self.assertIn('"bound_us"', self.mla("cases", "--json", path)[0])
        with mock.patch.dict(os.environ, MLA_PROGRAM="/nowhere/mla"):
            with self.assertRaisesRegex(results.ResultError, "/nowhere/mla cannot be run"):
                program.load_results(path)
        path = self.write("r.json", result(*cases))
        self.assertNotIn("bound_us", program.load_results(path)["measurements"][0]["case"])


# ---- mla compare --------------------------------------------------------------------------------


class Compare(Folder):
    def pair(self, a, b, *words, code=0):
        return self.mla("compare", self.write("a.json", a), self.write("b.json", b), *words,
                        code=code)

    def test_verdicts_and_exit_codes(self):
        a = result(measurement("c", "02_splitk", 100))
        for us, verdict, code in ((100, "SAME", 0), (102, "SAME", 0), (110, "SLOWER", 1),
                                  (90, "FASTER", 0)):
            out, err = self.pair(a, result(measurement("c", "02_splitk", us)), code=code)
            self.assertRegex(out, rf"graph +cold .* {verdict}[\n]")
            self.assertIn(f"1 {verdict}", out)
            self.assertEqual(err, "")

    def test_the_threshold_decides(self):
        a, b = result(measurement("c", "x", 100)), result(measurement("c", "x", 102))
        self.assertIn("SLOWER\n", self.pair(a, b, "--threshold", "1%", code=1)[0])
        self.assertIn("SLOWER\n", self.pair(a, b, "--threshold", "0.5", code=1)[0])
        self.assertIn("SAME\n", self.pair(a, b, "--threshold", "5%")[0])

    def test_too_few_samples_are_unsure(self):
        few = measurement("c", "x", 150, timings=[timing(150, n=5)])
        out, _ = self.pair(result(measurement("c", "x", 100)), result(few))
        self.assertIn("UNSURE\n    40 and 5 samples, at least 6 are needed: no ratio\n", out)
        self.assertRegex(out, r"100 us +150 us\? +- +- +UNSURE")
        self.assertIn("\n?       fewer than 6 samples", out)
        self.assertNotIn("geometric mean", out)
        self.mla("compare", "a.json", "b.json", "--json", "c.json")
        (pair,) = json.loads(self.read("c.json"))["pairs"]
        self.assertEqual([pair[key] for key in ("ratio", "ratio_low", "ratio_high",
                                                "enough_samples")], [None, None, None, False])

    def test_signs_and_verdicts_are_explained(self):
        noisy = timing(200)
        noisy["settled"] = False
        a = result(measurement("c", "x", 100), measurement("d", "x", 100))
        b = result(measurement("c", "x", 100), measurement("d", "x", 200, timings=[noisy]))
        out, _ = self.pair(a, b, code=1)
        self.assertRegex(out, r"100 us +200 us! +0\.500 ")
        for sentence in ("\nSAME    the whole interval", "\nSLOWER  the medians' intervals are",
                         "\n!       noisier than was asked"):
            self.assertIn(sentence, out)
        for word in ("\nFASTER ", "\nUNSURE ", "\nWRONG ", "\n? "):
            self.assertNotIn(word, out)

    def test_clocks_are_those_of_the_samples(self):
        """Whatever the file says of its beginning and end."""
        def at(mhz):
            own = {**timing(100), "clocks": {"sm_mhz": {"min": 1, "median": mhz, "max": 2000}}}
            return measurement("c", "x", 100, timings=[own])
        self.assertEqual(self.pair(result(at(1900)), result(
            at(1900), clocks={"sm_mhz": [1400, 1400]}))[1], "")
        err = self.pair(result(at(1900)), result(at(1500)))[1]
        self.assertRegex(err, r"clocks differ .* in 1 of 1 pairs: case c, x: 1900 MHz in .*, 1500 MHz")

    def test_different_cpus(self):
        def on(cpu):
            return result(measurement("c", "online", 100, timings=[timing(100, "host", "hot")]),
                          gpu=None, cpu=cpu)
        self.assertIn("1 SAME", self.pair(on("A"), on("A"))[0])
        self.assertIn("1 SAME", self.pair(on("A"), on(None))[0])
        err = self.pair(on("A"), on("B"), code=2)[1]
        self.assertIn("ran on A, ", err)
        self.assertIn("times of different CPUs", err)
        self.assertIn("1 SAME", self.pair(on("A"), on("B"), "--force")[0])

        def with_threads(n):
            return result(measurement("c", "online", 100, timings=[timing(100, "host", "hot")]),
                          gpu=None, cpu="A", threads=n)
        err = self.pair(with_threads(1), with_threads(64), code=2)[1]
        self.assertIn("ran on 1 thread, ", err)
        self.assertIn("on 64 threads: times of different numbers of threads", err)
        for other in 1, None, 1e300, "1":
            self.assertIn("1 SAME", self.pair(with_threads(1), with_threads(other))[0])
        kernels = result(measurement("c", "x", 100), cpu="A")
        self.assertIn("1 SAME", self.pair(kernels, {**kernels, "environment": {
            **kernels["environment"], "cpu": "B"}})[0])

    def test_times_have_limits(self):
        for wrong in 1e308, 1e-320, 0, -1:
            of_one = measurement("c", "x", 100)
            of_one["timings"][0].update(samples_us=[wrong] * 8, median_us=wrong, q1_us=wrong,
                                        q3_us=wrong, min_us=wrong)
            err = self.pair(result(measurement("c", "x", 100)), result(of_one), code=3)[1]
            self.assertIn(f"samples_us[0] is {wrong:g}, expected a time from 1e-06 to 1e+15 us",
                          err)
            path = self.write("wrong.json", result(of_one))
            with self.assertRaisesRegex(results.ResultError, "expected a time from 1e-6 to 1e15"):
                results.load(path)

    def test_a_median_is_that_of_its_samples(self):
        of_one = measurement("c", "x", 100)
        results.load(self.write("right.json", result(of_one)))
        of_one["timings"][0]["median_us"] *= 2
        with self.assertRaisesRegex(results.ResultError, r"median_us is .*, expected the median of"):
            results.load(self.write("wrong.json", result(of_one)))

    def test_a_missing_partner_is_one_line(self):
        a = result(*(measurement(f"c{i}", "x", 100) for i in range(30)))
        b = result(measurement("c0", "x", 100), measurement("z", "x", 1), measurement("z", "y", 1))
        err = self.pair(a, b, "--json", self.path("c.json"))[1]
        self.assertEqual(len(err.splitlines()), 1)
        self.assertRegex(err, r"29 of A's times have no partner: case c1, x graph cold is not in .*; "
                         r"and 26 more; 2 of B's times have none in ")
        root = json.loads(self.read("c.json"))
        self.assertEqual((root["unmatched"], root["unmatched_b"], len(root["missing"])), (29, 2, 29))
        self.assertEqual(len(self.pair(a, result(measurement("z", "x", 1)), code=3)[1]
                             .splitlines()), 1)

    def test_what_is_wrong_now_fails(self):
        out, _ = self.pair(result(measurement("c", "x", 100)),
                           result(failed("c", "x", "FAIL", "rows are off")), code=1)
        self.assertRegex(out, r"WRONG\n +FAIL: rows are off\n")

    def test_two_implementations_of_one_file(self):
        path = self.write("r.json", result(measurement("c", "flashinfer:fa3", 100),
                                           measurement("c", "08_tall", 80),
                                           measurement("d", "flashinfer:fa3", 100),
                                           measurement("d", "08_tall", 125)))
        out, _ = self.mla("compare", path, "--implementation", "flashinfer:fa3=08_tall", code=1)
        self.assertRegex(out, r"c +flashinfer:fa3, 08_tall .* 1\.25\d .*FASTER\n")
        self.assertRegex(out, r"d +flashinfer:fa3, 08_tall .* 0\.80\d .*SLOWER\n")
        self.assertIn("threshold 1%; A/B 1.00", out)

    def test_different_gpus(self):
        a, b = result(measurement("c", "x", 100)), result(measurement("c", "x", 100), gpu="Other")
        out, err = self.pair(a, b, code=2)
        self.assertEqual(out, "")
        self.assertIn(f"ran on {GPU}", err)
        self.assertIn("--force", err)
        self.assertIn("SAME\n", self.pair(a, b, "--force")[0])

    def test_different_clocks_are_said(self):
        a = result(measurement("c", "x", 100))
        b = result(measurement("c", "x", 100), clocks={"sm_mhz": [1400, 1400]})
        self.assertIn("clocks differ", self.pair(a, b)[1])

    def test_what_has_no_partner_is_said(self):
        a = result(measurement("c", "x", 100), measurement("d", "x", 100),
                   measurement("e", "x", 100), measurement("f", "x", 100))
        b = result(measurement("c", "x", 100), measurement("d", "x", 100, sha256="ff"),
                   failed("e", "x", "SKIP", "no such GPU"))
        out, err = self.pair(a, b)
        self.assertIn("1 SAME", out)
        self.assertRegex(err, r"case d, x graph cold has other contents \(sha256\) in")
        self.assertRegex(err, r"case e, x graph cold was skipped in .*: no such GPU")
        self.assertRegex(err, r"case f, x graph cold is not in")

    def test_nothing_in_common_is_no_success(self):
        err = self.pair(result(measurement("c", "x", 1)), result(measurement("c", "y", 1)),
                        code=3)[1]
        self.assertIn("have no time in common", err)

    def test_usage(self):
        path = self.write("r.json", result(measurement("c", "x", 1)))
        for words, sentence in (
                ((), "A.json is missing"), ((path,), "B.json is missing"),
                ((path, path, path), "3 files: those of A and B come in turns, the last B is missing"),
                ((path, "--implementation", "x"), "B.json is missing"),
                ((path, path, "--implementation", "=x"), 'found "=x", expected X=Y'),
                ((path, path, "--threshold", "0"), "--threshold"),
                ((path, path, "--threshold", "fast"), "--threshold"),
                ((path, "--implementation", "x=z"), 'no implementation "z"; it has x\n')):
            self.assertIn(sentence, self.mla("compare", *words, code=2)[1])
        self.assertIn("missing.json", self.mla("compare", path, "missing.json", code=3)[1])

    def test_json(self):
        self.pair(result(measurement("c", "x", 100)), result(measurement("c", "x", 90)), "--json",
                  self.path("out.json"))
        root = json.loads(self.read("out.json"))
        self.assertEqual(root["schema"], "mla-compare")
        self.assertEqual(root["counts"], {"FASTER": 1, "SAME": 0, "SLOWER": 0, "UNSURE": 0,
                                          "WRONG": 0})
        (pair,) = root["pairs"]
        self.assertEqual(pair["verdict"], "FASTER")
        self.assertAlmostEqual(pair["ratio"], pair["a_us"]["median"] / pair["b_us"]["median"])
        self.assertLess(pair["ratio_low"], pair["ratio"])


# ---- pictures -----------------------------------------------------------------------------------


def sweep():
    return result(*(measurement(f"b{batch}_{keys}_h{heads}", name, factor * keys * batch / 1000,
                                batch=batch, heads=heads, keys=keys)
                    for batch, heads in ((1, 16), (64, 128)) for keys in (1024, 4096, 16384)
                    for name, factor in (("01_naive", 60), ("08_tall", 2), ("flashmla:dense", 1))),
                  ceilings=CEILINGS)


class Plot(Folder):
    def setUp(self):
        super().setUp()
        if plot.matplotlib is None:
            self.skipTest("SKIPPED, no matplotlib")

    def draw(self, root, *words, code=0, name="p.svg"):
        arguments = [self.write("r.json", root), "-o", self.path(name), *words]
        got, _, err = self.quietly(plot.main, arguments)
        self.assertEqual(got, code, err)
        return err

    def test_every_kind(self):
        words = {"roofline": ["Roofline", GPU, "read stream 4,000 GB/s", "08_tall", "TFLOP/s",
                              "FLOP/B"],
                 "rungs": ["01_naive", "flashmla:dense", "time per call, us", "bound"],
                 "kvlen": ["keys per request", "16,384", "64, 128 heads"]}
        for kind, texts in words.items():
            self.draw(sweep(), "--kind", kind)
            picture = self.read("p.svg")  # text is drawn as outlines, with itself as a comment
            comments = "".join(re.findall("<!--(.*?)-->", picture))
            for text in texts:
                self.assertIn(text, comments, kind)
            self.draw(sweep(), "--kind", kind, name="p.png")
            with open(self.path("p.png"), "rb") as file:
                self.assertEqual(file.read(8), b"\x89PNG\r\n\x1a\n")
        self.assertEqual(sorted(os.listdir(self.folder)), ["p.png", "p.svg", "r.json"])

    def figure(self, root, kind, *words):
        """(figure laid out as it is saved, standard error)"""
        from matplotlib import pyplot
        options = plot.parse([self.write("r.json", root), "-o", "p.svg", "--kind", kind, *words])
        root = program.load_results(options.file)
        with plot.matplotlib.rc_context(plot.STYLE):
            fig, _, err = self.quietly(plot.KINDS[kind], pyplot, root, plot.samples(root, options))
            fig.canvas.draw()
        self.addCleanup(pyplot.close, fig)
        return fig, err

    def marks_of(self, fig):
        """Places in pixels of all marks of the panels, (panel, x, y)."""
        marks = []
        for panel in fig.axes:
            for line in panel.lines:
                if line.get_marker() not in (None, "None", "", "_"):
                    marks += [(panel, x, y) for x, y in
                              line.get_transform().transform(line.get_xydata())]
        return marks

    def check_nothing_is_hidden(self, fig, what):
        """Texts cover neither each other nor a mark, and so does a legend; all lie in the figure's
        panels that are shown."""
        renderer = fig.canvas.get_renderer()
        texts = [text for text in fig.findobj(plot.matplotlib.text.Text)
                 if text.get_text() and text.get_visible()
                 and (text.axes is None or text.axes.get_visible())]
        ticks = {id(tick.label2) for panel in fig.axes for axis in (panel.xaxis, panel.yaxis)
                 for tick in axis.get_major_ticks() + axis.get_minor_ticks()}
        outside = set()
        for panel in fig.axes:
            for axis, (low, high) in ((panel.xaxis, panel.get_xlim()),
                                      (panel.yaxis, sorted(panel.get_ylim()))):
                outside |= {id(tick.label1) for tick in axis.get_major_ticks()
                            if not low <= tick.get_loc() <= high}
        boxes = [(text.get_text(), plot.matplotlib.text.Text.get_window_extent(text, renderer))
                 for text in texts if id(text) not in ticks | outside
                 and text.get_rotation() not in (45, 90)]
        for i, (name, box) in enumerate(boxes):
            for other, second in boxes[:i]:
                self.assertFalse(box.padded(-0.5).overlaps(second.padded(-0.5)),
                                 f"{what}: {name!r} lies on {other!r}")
        marks = self.marks_of(fig)
        self.assertGreater(len(marks), 0, what)
        for name, box in boxes + [("legend", legend.get_window_extent(renderer))
                                  for legend in fig.legends]:
            for _, x, y in marks:
                self.assertFalse(box.contains(x, y), f"{what}: {name!r} lies on a mark")

    def test_nothing_is_hidden(self):
        """Of the results that are shipped, of the CPU's, of one cell, of one time."""
        shipped = {name: results.load(os.path.join(ROOT, "data", "results", "h200", name + ".json"))
                   for name in ("peers_ladder", "peers_libraries", "sweep")}
        for name, kind, words in (("peers_libraries", "roofline", []),
                                  ("peers_ladder", "roofline", []), ("sweep", "roofline", []),
                                  ("peers_ladder", "rungs", []), ("sweep", "kvlen", []),
                                  ("peers_libraries", "kvlen", []),
                                  ("peers_libraries", "rungs", ["--case", "b1_*"])):
            fig, _ = self.figure(shipped[name], kind, *words)
            self.check_nothing_is_hidden(fig, f"{name} {kind}")
        few = {"cpu": result(*(measurement("c", name, us, timings=[timing(us, "host", "hot")])
                               for name, us in (("absorbed", 1230), ("online", 1231))), gpu=None),
               "cell": result(*(measurement("c", f"{i:02}_x", 100 + i) for i in range(9)),
                              ceilings=CEILINGS),
               "time": result(measurement("c", "02_splitk", 10), ceilings=CEILINGS)}
        for name, root in few.items():
            for kind in plot.KINDS:
                fig, _ = self.figure(root, kind)
                self.check_nothing_is_hidden(fig, f"{name} {kind}")

    def test_roofline_marks_stand_apart_and_all_are_named(self):
        root = results.load(os.path.join(ROOT, "data", "results", "h200", "peers_libraries.json"))
        fig, err = self.figure(root, "roofline")
        self.assertEqual(err, "")
        self.assertEqual(len(fig.axes[:5]), 5)  # a panel for each implementation
        for panel in fig.axes[:5]:
            marks = [(x, y) for axes, x, y in self.marks_of(fig) if axes is panel]
            self.assertEqual(len(marks), 20)
            names = {text.get_text() for text in panel.texts}
            self.assertLessEqual({m["case"]["name"] for m in root["measurements"]}, names)
            for i, a in enumerate(marks):
                for b in marks[:i]:
                    self.assertGreater(math.dist(a, b), plot.MARK * fig.dpi / 72, (a, b))

    def test_no_panel_of_one_point(self):
        """One length is no line, and what one implementation alone has is a row, not a panel."""
        fig, err = self.figure(sweep(), "kvlen", "--case", "*_1024_*")
        self.assertIn("no shape in it has two lengths", err)
        self.assertIn("Time per call", fig.texts[0].get_text())
        root = sweep()
        root["measurements"].append(measurement("b9_1024_h16", "08_tall", 10, batch=9))
        fig, err = self.figure(root, "kvlen")
        self.assertIn("1 shape has one length alone", err)
        self.assertEqual(len(fig.axes), 2)
        for panel in fig.axes:
            self.assertTrue(all(len(line.get_xdata()) > 1 for line in panel.lines))
        root = result(*(measurement(f"c{i}", "08_tall", 10 + i) for i in range(4)))
        fig, _ = self.figure(root, "rungs")
        self.assertEqual([label.get_text() for label in fig.axes[0].get_yticklabels()],
                         ["c0", "c1", "c2", "c3"])

    def test_what_has_no_work_has_no_mark(self):
        root = sweep()
        for m in root["measurements"]:
            m["case"]["flop"] *= m["implementation"] != "01_naive"
        root["measurements"] += [{**m, "case": {**m["case"], "name": f"{i}_{m['case']['name']}"}}
                                 for i in range(2) for m in root["measurements"]]
        fig, _ = self.figure(root, "roofline")
        self.assertEqual([panel.get_title(loc="left") for panel in fig.axes],
                         ["08_tall", "flashmla:dense"])
        for m in root["measurements"]:
            m["case"]["flop"] = 0
        self.assertIn("no case has work", self.draw(root, code=3))

    def test_legends_have_units(self):
        for kind, unit in (("roofline", "TFLOP/s"), ("kvlen", "us")):
            fig, _ = self.figure(sweep(), kind)
            self.assertIn(unit, fig.legends[0].get_title().get_text())

    def test_signs_and_clocks_stand_in_pictures(self):
        noisy = timing(10)
        noisy.update(settled=False, clocks={"sm_mhz": {"min": 1500, "median": 1700, "max": 1980}})
        root = result(measurement("c", "02_splitk", 10, timings=[noisy]),
                      measurement("c", "03_vector", 20, timings=[timing(20, n=5)]))
        for kind in plot.KINDS:
            fig, _ = self.figure(root, kind)
            words = "\n".join(text.get_text() for text in fig.findobj(plot.matplotlib.text.Text))
            for sentence in ("! noise", "? fewer than 6 samples",
                             "SM clock 1,700 MHz while the samples were taken"):
                self.assertIn(sentence, words, kind)
        self.assertRegex(words, r"10 us!\n")
        self.assertRegex(words, r"20 us\?\n")

    def test_the_cpu_is_drawn(self):
        root = result(*(measurement("c", name, us, timings=[timing(us, "host", "hot")])
                        for name, us in (("absorbed", 1230), ("online", 900))),
                      gpu=None, cpu="Some CPU")
        for kind in plot.KINDS:
            for words in ([], ["--mode", "host"]):
                fig, _ = self.figure(root, kind, *words)
                self.assertRegex(fig.texts[0].get_text(), r"Some CPU \(host\)")
        self.assertIn("mode graph", self.draw(root, "--mode", "graph", code=3))

    def test_the_same_results_give_the_same_file(self):
        self.draw(sweep())
        first = self.read("p.svg")
        self.draw(sweep())
        self.assertEqual(self.read("p.svg"), first)

    def test_ticks_say_where_they_are(self):
        """Labels are plain numbers, and no two ticks have the same."""
        from matplotlib import pyplot
        for low, high in ((5.9, 8.1), (2.4, 3.3), (0.02, 3), (20, 700), (90, 300000), (1e-3, 4e6)):
            figure, axes = pyplot.subplots()
            axes.set_xlim(low, high)
            plot.log_scale(axes.xaxis)
            figure.canvas.draw()
            ticks = [tick for tick in axes.xaxis.get_major_ticks() if low <= tick.get_loc() <= high]
            words = [tick.label1.get_text() for tick in ticks]
            pyplot.close(figure)
            self.assertGreater(len(words), 1, (low, high))
            for tick, word in zip(ticks, words):
                self.assertRegex(word, r"^[0-9,]+(\.[0-9]+)?$")
                self.assertAlmostEqual(float(word.replace(",", "")) / tick.get_loc(), 1)

    def test_without_ceilings(self):
        root = result(measurement("c", "02_splitk", 10))
        for kind in plot.KINDS:
            self.draw(root, "--kind", kind)
        self.draw(root)
        self.assertIn("no measured ceilings", self.read("p.svg"))

    def test_what_is_chosen(self):
        self.draw(sweep(), "--kind", "rungs", "--case", "b64_*")
        self.assertNotIn("b1_1024", self.read("p.svg"))
        self.assertIn("b64_1024", self.read("p.svg"))
        self.assertIn("no time in it that passed and has case nosuch",
                      self.draw(sweep(), "--case", "nosuch", code=3))
        self.assertIn("cache hot", self.draw(sweep(), "--cache", "hot", code=3))
        many = result(*(measurement(f"c{i}", "x", 1) for i in range(9)))
        self.assertEqual(self.draw(many, "--kind", "rungs"), "")  # one panel, a row per case
        many = result(*(measurement(f"c{i}", name, 1) for i in range(9) for name in "xy"))
        self.assertIn("9 cases, the first 6 are drawn", self.draw(many, "--kind", "rungs"))

    def test_many_implementations_are_told_apart(self):
        looks = plot.look([f"{i:02}_rung" for i in range(40)])
        self.assertEqual(len({tuple(sorted(one.items())) for one in looks.values()}), 40)

    def test_wrong_usage(self):
        path = self.write("r.json", sweep())
        for words in ([path], [path, "-o", "p.pdf"], [path, "-o", "p.svg", "--kind", "pie"]):
            with self.assertRaises(SystemExit) as caught:
                self.quietly(plot.main, words)
            self.assertEqual(caught.exception.code, 2)
        _, _, err = self.quietly(plot.main, [path, "-o", self.path("no", "such", "p.svg")])
        self.assertIn("cannot be written", err)

    def test_shapes_of_many_lengths_come_first(self):
        root = sweep()
        lone = json.loads(json.dumps(root["measurements"][0]))
        lone["case"].update(name="lone", batch_size=1, num_heads=1, total_q=1, kv_tokens=5)
        root["measurements"].insert(0, lone)
        chosen = [(m, m["timings"][0]) for m in root["measurements"]]
        shapes = list(plot.by_shape(chosen))
        self.assertEqual(shapes[-1], (1, 1, 1, False))
        self.assertGreater(len(shapes), 1)

    def test_through_the_program(self):
        self.write("r.json", sweep())
        out, err = self.mla("plot", "r.json", "-o", "p.svg", "--kind", "kvlen",
                            MLA_PYTHON=sys.executable)
        self.assertEqual((out, err), ("", ""))
        self.assertIn("keys per request", self.read("p.svg"))
        self.assertIn(".svg or .png", self.mla("plot", "r.json", "-o", "p.pdf", code=2,
                                               MLA_PYTHON=sys.executable)[1])
        self.mla("bench", "-k", "absorbed,online", "--heads", "2", "--kv-len", "30", "--samples", "6",
                 "--mode", "host", "--json", "cpu.json")
        self.mla("plot", "cpu.json", "-o", "cpu.svg", "--mode", "host", MLA_PYTHON=sys.executable)
        self.assertIn("online", self.read("cpu.svg"))
        os.rename(self.path("r.json"), self.path("-r.json"))
        self.mla("plot", "-o", "-p.svg", "--", "-r.json", MLA_PYTHON=sys.executable)
        self.assertIn("Roofline", self.read("-p.svg"))


class Programs(Folder):
    """Files of the package run as programs, whatever else is called mla."""
    PACKAGE = os.path.join(ROOT, "harness", "python", "mla")

    def run_python(self, *words, **environment):
        done = subprocess.run([sys.executable, "-B", *words], capture_output=True, text=True,
                              cwd=self.folder, env={**os.environ, **environment}, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_by_their_path_others_of_the_name_are_not_taken(self):
        for name in ("mla", "results", "structs", "peers_case"):
            self.write(f"{name}.py", "raise ImportError('not this one')\n")
        for program, sentence in (("plot.py", "Draws a result file"),
                                  ("peers.py", "Times other libraries")):
            self.assertIn(sentence, self.run_python(os.path.join(self.PACKAGE, program), "--help",
                                                    PYTHONPATH=self.folder))
        capture = os.path.join(ROOT, "data", "captures", "tiny_decode.h5")
        self.assertEqual(self.run_python(os.path.join(self.PACKAGE, "h5.py"), capture,
                                         PYTHONPATH=self.folder), f"{capture}: ok\n")

    def test_as_modules(self):
        out = self.run_python("-m", "mla.plot", "--help", PYTHONPATH=os.path.dirname(self.PACKAGE))
        self.assertIn("Draws a result file", out)

    def test_the_library_of_a_bundle_is_its_own(self):
        shutil.copytree(self.PACKAGE, self.path("share", "mla", "python", "mla"))
        self.write("lib/libmla.so", "")
        code = "import mla; print(mla.library_path())"
        out = self.run_python("-c", code, PYTHONPATH=self.path("share", "mla", "python"),
                              MLA_LIBRARY="")
        self.assertEqual(out.strip(), self.path("lib", "libmla.so"))


class PlotWithout(Folder):
    def test_without_matplotlib(self):
        path = self.write("r.json", sweep())
        fake = self.write("python3", "#!/bin/sh\nexit 1\n")
        os.chmod(fake, 0o755)
        _, err = self.mla("plot", path, "-o", "p.svg", code=77, MLA_PYTHON=fake)
        self.assertIn(f"{fake} has no matplotlib", err)
        with mock.patch.object(plot, "matplotlib", None):
            code, _, err = self.quietly(plot.main, [path, "-o", self.path("p.svg")])
        self.assertEqual(code, 77)
        self.assertIn("has no matplotlib", err)

    def test_the_script_is_found_beside_the_program(self):
        """As a bundle or an installation has it; elsewhere a sentence says what is missing."""
        os.makedirs(self.path("bin"))
        os.makedirs(self.path("share", "mla"))
        program = shutil.copy(MLA, self.path("bin", "mla"))
        path = self.write("r.json", sweep())
        true = shutil.which("true")
        err = self.mla("plot", path, "-o", "p.svg", code=3, program=program, MLA_PYTHON=true)[1]
        self.assertIn("share/mla/python/mla/plot.py beside the program", err)
        shutil.copytree(os.path.join(ROOT, "harness", "python"),
                        self.path("share", "mla", "python"))
        self.mla("plot", path, "-o", "p.svg", program=program, MLA_PYTHON=true)

    def test_usage(self):
        for words, sentence in (((), "RESULT.json or a trace is missing"), (("r.json",), "-o FILE is missing"),
                                (("r.json", "-o", "p.svg", "--kind", "pie"), "expected one of"),
                                (("r.json", "s.json", "-o", "p.svg"), "one file is enough")):
            self.assertIn(sentence, self.mla("plot", *words, code=2)[1])


# ---- mla profile --------------------------------------------------------------------------------


class Profile(Folder):
    CAPTURE = os.path.join(ROOT, "data", "captures", "tiny_decode.h5")

    def test_the_command_for_ncu(self):
        try:
            mla.device_query()
            self.skipTest("SKIPPED, there is a GPU")
        except mla.MlaError:
            pass
        out, _ = self.mla("profile", "-k", "02", "-c", "000/001", self.CAPTURE, code=77)
        self.assertTrue(out.startswith("ncu --nvtx --nvtx-include 'mla profile/' --clock-control "
                                       "none "), out)
        self.assertIn(f"{shlex.quote(MLA)} profile --once -k 02 -c 000/001 {shlex.quote(self.CAPTURE)}\n", out)
        # without nvcc no kernel is there to say what it shows
        self.assertEqual("sm__cycles_active.max" in out, mla.kernels()[1].built, out)
        self.assertIn("\nSKIPPED, ", out)

    def test_usage(self):
        for words, sentence in (((), "-k NAME is missing"),
                                (("-k", "02"), "a FILE or the flags of a shape"),
                                (("-k", "02", "--heads", "4", self.CAPTURE), "exclude each other"),
                                (("-k", "02", "--heads", "4", "-c", "0/0"), "which is missing"),
                                (("-k", "gpu,cpu", self.CAPTURE), "is not one kernel"),
                                (("-k", "online", self.CAPTURE), "is not one kernel"),
                                (("-k", "99", self.CAPTURE), "unknown implementation"),
                                (("-k", "02", "-c", "7/7", self.CAPTURE), "no case")):
            self.assertIn(sentence, self.mla("profile", *words, code=2)[1])
        self.assertIn("missing.h5", self.mla("profile", "-k", "02", "missing.h5", code=3)[1])


# ---- pages --------------------------------------------------------------------------------------

README = "# Top\n<!-- results:begin -->\nold\n<!-- results:end -->\nbottom\n"
LESSON = "# Lesson\n<!-- measured:begin -->\n<!-- measured:end -->\nbottom\n"
REGISTERS = {"schema": "mla-registers", "schema_version": 1, "toolkit": "13.0", "kernels": {
    "02_splitk": [{"function": "splitk", "arch": "sm_80", "registers": 48, "smem": 2592,
                   "spill": 0}]}}


class Docs(Folder):
    def setUp(self):
        super().setUp()
        self.write("README.md", README)
        for name in ("01_naive", "02_splitk"):
            self.write(f"optimized/{name}.md", LESSON)
        self.write("optimized/README.md", "<!-- ladder:begin -->\n<!-- ladder:end -->\n")

    def docs(self, *words, code=0):
        got, out, err = self.quietly(docs.main, ["--root", self.folder, *words])
        self.assertEqual(got, code, out + err)
        return err

    def give_results(self):
        self.write("data/results/h200/peers.json", result(
            measurement("b4_1K_h16", "01_naive", 400), measurement("b4_1K_h16", "02_splitk", 20),
            measurement("b4_1K_h16", "flashmla:dense", 25),
            measurement("b4_1K_h16", "flashinfer:fa2", 30),
            failed("b4_1K_h16", "flashinfer:fa3", "SKIP", "not here"), ceilings=CEILINGS))
        self.write("data/results/h200/ceilings.json", ceilings_file())

    def test_without_results(self):
        self.docs()
        self.assertIn("begin -->\nnot measured yet\n<!-- results:end", self.read("README.md"))
        self.assertIn("begin -->\nnot measured yet\n<!-- measured:end",
                      self.read("optimized/02_splitk.md"))
        self.docs("--check")

    def test_the_table(self):
        self.give_results()
        self.docs()
        page = self.read("README.md")
        self.assertIn(f"### {GPU}", page)
        self.assertIn("| case | bound | flashinfer:fa2 | flashmla:dense | ours | rung |", page)
        row = next(line for line in page.splitlines() if line.startswith("| b4_1K_h16"))
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        bytes_bound = (4 * 1024 * 1152 + 4 * 16 * 2180) / 4000e3
        self.assertEqual(cells[1], f"{bytes_bound:.1f}")
        self.assertEqual(cells[5:7], ["`02_splitk`", f"{100 * bytes_bound / 20:.0f} %"])
        self.assertEqual(cells[7], "1.25")
        self.assertIn("geometric mean: `flashinfer:fa2` 1.50 (ours is faster in 1 of 1), "
                      "`flashmla:dense` 1.25 (ours is faster in 1 of 1), the best peer 1.25", page)
        self.assertIn("(data/results/h200/peers.json) (commit abc1234, 2025-01-02, driver 1.2.3, "
                      "SM clock 1,700 and 1,720 MHz beside the first and the last case, that of the "
                      "samples is not known)", page)
        self.assertTrue(page.startswith("# Top\n") and page.endswith("\nbottom\n"))

    def test_a_lesson(self):
        self.give_results()
        self.write("data/results/registers.json", REGISTERS)
        self.docs()
        page = self.read("optimized/02_splitk.md")
        self.assertIn("| `splitk` | sm_80 | 48 | 2,592 | 0 |", page)
        self.assertRegex(page, r"\| b4_1K_h16 \| 20\.0 \| 1\.2 \(memory\) \| 6\.1 % \|")
        self.assertIn("(../data/results/h200/peers.json)", page)
        self.assertNotIn("splitk", self.read("optimized/01_naive.md"))
        self.assertRegex(self.read("optimized/01_naive.md"), r"\| b4_1K_h16 \| 400 \|")

    def test_the_ladder(self):
        """A line is from the file with the most rungs, not from the newest."""
        self.give_results()
        self.write("data/results/h200/peers-ours.json",
                   result(measurement("b4_1K_h16", "02_splitk", 10),
                          measurement("b1_2K_h16", "03_vector", 40, batch=1, keys=2048),
                          ceilings=CEILINGS, date_utc="2026-01-01T00:00:00Z"))
        self.docs()
        page = self.read("optimized/README.md")
        self.assertIn("| case | bound | 01_naive | 02_splitk | 03_vector |", page)
        self.assertIn("| b4_1K_h16 | 1.2 (memory) | 400 (0.3 %) | 20.0 (6 %) | - |", page)
        self.assertRegex(page, r"\| b1_2K_h16 \| .* \| - \| - \| 40\.0 \(\d+ %\) \|")
        self.assertIn("[peers-ours.json](../data/results/h200/peers-ours.json)", page)

    def test_what_was_expected(self):
        self.give_results()
        self.write("optimized/02_splitk.md", "<!-- expected b4_1K_h16: 7-9 % -->\n" + LESSON)
        self.docs()
        self.assertIn("| of bound | expected |", self.read("optimized/02_splitk.md"))
        self.assertRegex(self.read("optimized/02_splitk.md"), r"\| 6\.1 % \| 7-9 % \|")
        self.assertNotIn("expected", self.read("optimized/01_naive.md"))
        self.write("optimized/01_naive.md", "<!-- expected b4_1K_h61: 7 % -->\n" + LESSON)
        self.assertIn("expected b4_1K_h61: no result has a case of that name", self.docs(code=3))

    def test_the_profilers_figures(self):
        self.give_results()
        for heads in (16, 128):
            self.write(f"data/results/h200/profile_02_splitk_h{heads}.txt", f"""\
ncu --nvtx-include 'mla profile/' --metrics x mla profile --once -k 02_splitk --heads {heads} -B 4
kernel          figure       value  unit  what it says
void splitk<4>  time.sum  1,2{heads}  ns    time under the profiler
void splitk<4>  conflicts.sum   7         bank conflicts
merge_partials  time.sum     9,999  ns    time under the profiler
""")
        self.docs()
        page = self.read("optimized/02_splitk.md")
        self.assertIn("(`mla profile -k 02_splitk -B 4`, [16 heads](../data/results/h200/"
                      "profile_02_splitk_h16.txt), [128 heads](", page)
        self.assertIn("| `time.sum` | 1,216 ns | 1,2128 ns | time under the profiler |", page)
        self.assertIn("| `conflicts.sum` | 7 | 7 | bank conflicts |", page)
        self.assertNotIn("9,999", page)
        self.assertNotIn("profiler", self.read("optimized/01_naive.md"))
        path = "data/results/h200/profile_02_splitk_h16.txt"
        self.write("data/results/h200/profile_02_splitk_half.txt", "not one of them\n")
        self.write(path, self.read(path).replace("conflicts", "replays")
                   + "mla 0.1.0 (commit 1a2b3c4)\n")
        self.docs()
        page = self.read("optimized/02_splitk.md")
        self.assertIn("profile_02_splitk_h16.txt), commit 1a2b3c4, [128 heads](", page)
        self.assertIn("| `replays.sum` | 7 | - | bank replays |", page)
        self.assertIn("| `conflicts.sum` | - | 7 | bank conflicts |", page)
        self.write(path, self.read(path).replace("-B 4", "-B 5"))
        self.assertIn("one table is of one case", self.docs(code=3))
        for text in ("ncu is not on PATH\n", "", "mla profile -k 02\nSKIPPED, no\n"):
            self.write(path, text)
            self.assertIn(f"{path}: is not what mla profile prints", self.docs(code=3))

    def test_check_finds_what_is_stale(self):
        self.docs()
        self.docs("--check")
        self.give_results()
        before = self.read("README.md")
        err = self.docs("--check", code=1)
        for page in ("README.md", "optimized/01_naive.md", "optimized/02_splitk.md"):
            self.assertIn(f"{page}: what stands between its", err)
        self.assertEqual(self.read("README.md"), before, "--check wrote")
        self.docs()
        self.docs("--check")
        edited = self.read("README.md").replace("1.25", "1.75")
        self.write("README.md", edited)
        self.assertIn("README.md", self.docs("--check", code=1))

    def test_marks_that_are_missing(self):
        for text in ("# no marks\n", LESSON + LESSON,
                     "<!-- measured:end -->\n<!-- measured:begin -->\n"):
            self.write("optimized/01_naive.md", text)
            self.assertIn("optimized/01_naive.md: expected one line <!-- measured:begin -->",
                          self.docs(code=1))
            self.assertEqual(self.read("optimized/01_naive.md"), text)

    def test_a_ratio_never_mixes_two_runs(self):
        """Ours alone, in a newer file, must not stand beside a peer's older time."""
        self.give_results()
        self.write("data/results/h200/peers-ours.json",
                   result(measurement("b4_1K_h16", "02_splitk", 1.5),
                          date_utc="2026-01-01T00:00:00Z"))
        self.docs()
        page = self.read("README.md")
        self.assertIn("| 1.25 |", page)
        self.assertNotIn("peers-ours.json", page)

    def test_the_newest_of_equals_is_quoted(self):
        self.give_results()
        newer = result(measurement("b4_1K_h16", "02_splitk", 10),
                       measurement("b4_1K_h16", "flashmla:dense", 25),
                       measurement("b4_1K_h16", "flashinfer:fa2", 30),
                       date_utc="2026-01-01T00:00:00Z")
        self.write("data/results/h200/peers-again.json", newer)
        self.docs()
        page = self.read("README.md")
        self.assertIn("| 2.50 |", page)
        self.assertRegex(page, r"\| 12 % \|", "the ceilings of the older file were not used")

    def test_a_cell_has_one_bound(self):
        """Whatever lengths and ceilings a file had; shares are those of what was measured."""
        self.give_results()
        other = [measurement("b4_1Kv_h16", "02_splitk", 20, keys=900),
                 measurement("b4_1Kv_h16", "flashmla:dense", 25, keys=900)]
        ours = [measurement("b4_1Kv_h16", name, us) for name, us in
                (("01_naive", 40), ("02_splitk", 20))]
        said = program.cases("--cells=b4_1Kv_h16")["cases"][0]
        for m in ours:
            m["case"].update(said)
        self.write("data/results/h200/peers-libraries.json",
                   result(*other, ceilings={**CEILINGS, "read_gbs": 1}))
        self.write("data/results/h200/peers-ours.json", result(*ours, ceilings=CEILINGS))
        self.docs()
        bound, own = said["bytes"] / 4000e3, other[0]["case"]["bytes"] / 4000e3
        page = self.read("README.md")
        self.assertIn(f"| b4_1Kv_h16 \\* | {bound:.1f} |", page)
        self.assertRegex(page, f"b4_1Kv_h16 .* {100 * own / 20:.0f} % ")
        most = 100 * abs(3600 / said["kv_tokens"] - 1)
        self.assertIn("\n\\* [peers-libraries.json](data/results/h200/peers-libraries.json) drew lengths "
                      f"of its own for these cells: up to {most:.1f} %", page)
        page = self.read("optimized/README.md")
        self.assertIn(f"| b4_1Kv_h16 | {bound:.1f} (memory) | 40.0 ({100 * bound / 40:.0f} %) |",
                      page)
        self.assertNotIn("lengths of its own", page)
        os.remove(self.path("data/results/h200/ceilings.json"))
        self.docs()
        page = self.read("README.md")
        self.assertIn("| b4_1Kv_h16 | - |", page)
        self.assertIn("Ceilings were not measured.", page)

    def test_cases_that_are_no_cells(self):
        self.give_results()
        m = measurement("x.h5:001/005", "02_splitk", 20)
        self.write("data/results/h200/peers-x.json", result(m))
        self.docs()
        self.assertIn(f"| x.h5:001/005 | {m['case']['bytes'] / 4000e3:.1f} (memory) | - |",
                      self.read("optimized/README.md"))

    def test_bad_files(self):
        self.write("data/results/h200/peers.json", "{")
        self.assertIn("is no JSON", self.docs(code=3))
        self.give_results()
        self.write("data/results/h200/peers-b.json", result(gpu="Other"))
        self.assertIn("one folder is one GPU", self.docs(code=3))
        os.remove(self.path("data/results/h200/peers-b.json"))
        for bad in ("[]", "{}", {**REGISTERS, "kernels": {"02_splitk": [{"registers": "many"}]}}):
            self.write("data/results/registers.json", bad)
            self.assertIn("registers.json", self.docs(code=3))

    def test_registers_from_the_compiler(self):
        log = self.write("02_splitk.ptxas", """\
ptxas info    : Compiling entry function '_Z6splitk10mla_params' for 'sm_80'
ptxas info    : Function properties for _Z6splitk10mla_params
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 48 registers, used 1 barriers, 2592 bytes smem
""")
        other = self.write("merge.ptxas", self.read("02_splitk.ptxas"))
        nvcc = self.write("nvcc", "#!/bin/sh\necho Cuda compilation tools, release 13.0, V13\n")
        os.chmod(nvcc, 0o755)
        os.makedirs(self.path("data", "results"))
        self.docs("--nvcc", nvcc, "--ptxas", log, other)
        self.assertEqual(json.loads(self.read("data/results/registers.json")), REGISTERS)
        self.assertIn("| `splitk` | sm_80 | 48 |", self.read("optimized/02_splitk.md"))

    def test_a_page_states_the_clocks_of_what_it_quotes(self):
        """Of its own samples, where the file has them; of no other times in the file."""
        def clocked(name, us, mhz):
            clocks = {"sm_mhz": {"min": mhz - 9, "median": mhz, "max": mhz + 9}}
            return measurement("b4_1K_h16", name, us, timings=[{**timing(us), "clocks": clocks}])
        root = result(clocked("01_naive", 400, 1500), clocked("02_splitk", 20, 1900),
                      clocked("flashmla:dense", 25, 1700))
        self.write("data/results/h200/peers.json", root)
        self.docs()
        for page, words in (("README.md", "1,700 to 1,900"), ("optimized/README.md",
                            "1,500 to 1,900"), ("optimized/01_naive.md", "1,500"),
                            ("optimized/02_splitk.md", "1,900")):
            self.assertIn(f"SM clock {words} MHz while the samples were taken", self.read(page))
        for m in root["measurements"]:  # as older files have it
            m["timings"][0].update(clocks=None, sm_mhz=1800)
        self.write("data/results/h200/peers.json", root)
        self.docs()
        self.assertIn("SM clock 1,800 MHz just before the samples", self.read("README.md"))

    def test_signs_stand_beside_times(self):
        noisy, few = timing(20), timing(400, n=5)
        noisy["settled"] = False
        self.write("data/results/h200/peers.json", result(
            measurement("b4_1K_h16", "01_naive", 400, timings=[few]),
            measurement("b4_1K_h16", "02_splitk", 20, timings=[noisy])))
        self.docs()
        page = self.read("optimized/README.md")
        self.assertRegex(page, r"\| 4\d\d\? \| 20\.0! \|")
        self.assertIn("\n! noise (quartile distance", page)
        self.assertIn("\n? fewer than 6 samples", page)
        self.assertNotIn("fewer than 6", self.read("optimized/02_splitk.md"))
        self.assertNotIn("noise", self.read("optimized/01_naive.md"))

    def two_runs(self):
        """02_splitk took 20 us beside a library, 25 us among rungs."""
        self.write("data/results/h200/peers_libraries.json", result(
            measurement("b4_1K_h16", "02_splitk", 20),
            measurement("b4_1K_h16", "flashmla:dense", 30)))
        self.write("data/results/h200/peers.json", result(
            measurement("b4_1K_h16", "01_naive", 400), measurement("b4_1K_h16", "02_splitk", 25)))
        self.docs()

    def test_two_times_of_a_cell_are_explained(self):
        self.two_runs()
        self.assertIn("[The ladder](optimized/README.md) and its lessons quote another run, "
                      "[peers.json](data/results/h200/peers.json), timed among rungs alone: there "
                      "it took 1.25 times as long (SM clock", self.read("README.md"))
        for page in ("optimized/README.md", "optimized/02_splitk.md"):
            self.assertIn("| 25.0 |", self.read(page))
            self.assertIn("quote another run, [peers_libraries.json](../data/results/h200/"
                          "peers_libraries.json), timed beside other libraries: there it took "
                          "0.80 times as long", self.read(page))
        self.assertNotIn("another run", self.read("optimized/01_naive.md"))
        self.docs("--check")

    def test_a_new_second_time_is_found(self):
        """Whoever writes it: in a table, or in prose."""
        self.two_runs()
        table = "# Page\n\n| case | 02_splitk |\n|---|---|\n| b4_1K_h16_q1 | {} |\n"
        for text, sentence in (
                (table.format("20.0"), "takes 20.0 us here and 25.0 us in optimized/02_splitk.md, "
                                       "optimized/README.md: say so and name peers.json"),
                (table.format("21.0"), "02_splitk on b4_1K_h16: 21.0 us is in no result file"),
                ("It takes 21 us on b4_1K_h16.\n", "page.md: 21 us of b4_1K_h16 is in no result"),
                ("b4_1K_h16: 1.2 ms\n", "1.2 ms of b4_1K_h16 is in no result file")):
            self.write("page.md", text)
            self.assertIn(sentence, self.docs("--check", code=1))
        for text in (table.format("20.0") + "\npeers.json has another run of it\n",
                     table.format("25.0") + "\nSee peers_libraries.json as well.\n",
                     "Both ways in one\nrun: b4_1K_h16 took 33 us before.\n",
                     "It takes 25 us on b4_1K_h16. Another 33 us are for lunch.\n",
                     "    b4_1K_h16  33 us\n"):
            self.write("page.md", text)
            self.docs("--check")

    def test_pictures_that_are_there_are_drawn_anew(self):
        if plot.matplotlib is None:
            self.skipTest("SKIPPED, no matplotlib")
        self.give_results()
        self.docs()
        self.assertNotIn("roofline.svg", os.listdir(self.path("data", "results", "h200")))
        self.write("data/results/h200/roofline.svg", "<svg/>")
        self.docs("--check")
        self.assertEqual(self.read("data/results/h200/roofline.svg"), "<svg/>")
        self.docs()
        self.assertIn("Roofline", self.read("data/results/h200/roofline.svg"))

    def test_the_projects_own_pages_are_fresh(self):
        code, _, err = self.quietly(docs.main, ["--check"])
        self.assertEqual(code, 0, err)


# ---- measure.sh ---------------------------------------------------------------------------------


class Measure(Folder):
    """With stand-ins for the program, the sanitizer, the profiler and Python."""

    def stand_in(self, name, text):
        path = self.write(f"bin/{name}", f"#!/bin/bash\n{text}\n")
        os.chmod(path, 0o755)
        return path

    # Milliseconds of the ladder's cases; 09_hopper refuses. More columns, as the program has them.
    LADDER = """case,implementation,status,mode,cache,median_us,q1_us,samples,why
a,01_naive,PASS,graph,cold,194000,193000,4,
a,03_vector,PASS,graph,cold,10234,10200,4,
a,08_tall,PASS,graph,cold,519,510,4,
a,09_hopper,SKIP,,,,,,"needs sm_90, really"
b,01_naive,PASS,graph,cold,500,499,4,
b,03_vector,PASS,graph,cold,900,899,4,
b,08_tall,PASS,graph,cold,1600,1599,4,
"""

    def measure(self, mla_says, python_says="exit 77", code=0, tools=(), ladder=LADDER):
        program = self.stand_in("mla", f"""\
echo "$@" >>{self.path("commands")}
while [ $# -gt 0 ]; do
	case $1 in
	--version) echo "mla 0.1.0 (commit 1a2b3c4)" && exit ;;
	--csv) cp {self.write("ladder.csv", ladder)} "$2" ;;
	--json | --ceilings) echo "{{\\"command\\": \\"{self.folder}/bin/mla bench\\"}}" >"$2" ;;
	-o) echo "of ${{@: -1}}" >"$2" ;;
	{mla_says}
	esac
	shift
done
echo "7 passed, 0 failed, 0 skipped" """)
        for tool in tools:
            self.stand_in(tool, "exec true")
        python = self.stand_in("python", python_says)
        done = subprocess.run([os.path.join(ROOT, "harness", "tools", "measure.sh"), program,
                               self.path("out"), "a.h5"], stdout=subprocess.PIPE, text=True,
                              env={"PATH": f"{self.path('bin')}:/usr/bin:/bin", "PYTHON": python})
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def test_what_is_missing_is_named(self):
        out = self.measure("")
        for line in ("SKIPPED sanitizers: no compute-sanitizer", "SKIPPED libraries",
                     "SKIPPED profiles: no ncu", "ok suite_gpu, 0 s: 7 passed"):
            self.assertIn(line, out)
        self.assertIn("peers.json", self.read("out/roofline.svg"))
        self.assertEqual(self.read("out/peers.json"), '{"command": "mla bench"}\n')

    def test_a_failure_is_seen_and_keeps_what_was_there(self):
        self.write("out/profile_03_vector_h16.txt", "earlier\n")
        self.write("out/peers_libraries.json", "earlier\n")
        out = self.measure("profile) echo ERR_NVGPUCTRPERM && exit 9 ;;", code=1, tools=["ncu"])
        self.assertIn("FAILED profile_03_vector_h128, 0 s: ERR_NVGPUCTRPERM", out)
        self.assertEqual(self.read("out/profile_03_vector_h16.txt"), "earlier\n")
        self.assertIn("peers.json", self.read("out/roofline.svg"))

    def test_all_there(self):
        out = self.measure("", "exit 0", tools=["ncu", "compute-sanitizer"])
        self.assertNotIn("SKIPPED", out)
        self.assertIn("ok racecheck", out)
        self.assertIn("mla 0.1.0 (commit 1a2b3c4)\n", self.read("out/profile_03_vector_h128.txt"))
        self.assertIn("peers_libraries.json", self.read("out/roofline.svg"))
        self.assertFalse(os.path.exists(self.path("out", "profile_01_naive_h16.txt")))

    def test_slow_rungs_are_left_out_aloud(self):
        """By the slowest of their cases, and what was not timed at all."""
        out = self.measure("")
        for line in ("peers: 01_naive, a call takes 194 ms, more than 20",
                     "peers: 09_hopper, it was not timed",
                     "sweep: 03_vector, a call takes 10.234 ms, more than 2",
                     "libraries: 08_tall, a call takes 1.6 ms, more than 1.5"):
            self.assertIn(f"LEFT OUT of {line}\n", out)
        self.assertIn("libraries: no rung was so fast, the one that auto chooses", out)
        commands = self.read("commands")
        self.assertRegex(commands, "--suite peers -k 03_vector,08_tall --time")
        self.assertRegex(commands, "--suite sweep -k 08_tall --time")
        self.assertNotRegex(out, "LEFT OUT of peers: 0[38]")

    def test_without_the_ladder_auto_stands_in(self):
        self.measure("", ladder="")
        self.assertRegex(self.read("commands"), "--suite peers -k auto --time")

    def test_usage(self):
        done = subprocess.run([os.path.join(ROOT, "harness", "tools", "measure.sh")], text=True,
                              stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr[:7]), (2, "Usage: "))


# ---- peers --------------------------------------------------------------------------------------


def from_rows(q, cache, table, lengths, scale, causal):
    """What flash_mla and flash_attn_interface compute, by the reference: fused q and cache."""
    batch, queries, heads, _ = q.shape
    page_size = cache.shape[1]
    config = mla.config(heads, scale, page_size=page_size, causal=causal,
                        q_dtype="bf16" if q.dtype == np.uint16 else "fp16")
    used = -(-lengths // page_size)
    indices = np.concatenate([row[:count] for row, count in zip(table, used)]).astype(np.int32)
    problem = mla.batch(queries * np.arange(batch + 1), np.concatenate([[0], np.cumsum(used)]),
                        lengths)
    q = q.reshape(batch * queries, heads, 576)
    out, lse = mla.reference(config, problem, q[..., :512], q[..., 512:], cache[:, :, 0, :512],
                             cache[:, :, 0, 512:], indices)
    return (out.reshape(batch, queries, heads, 512),
            lse.reshape(batch, queries, heads).swapaxes(1, 2))


def flash_mla_with_kvcache(q, k_cache, block_table, cache_seqlens, head_dim_v,
                           tile_scheduler_metadata, num_splits=None, softmax_scale=None,
                           causal=False):
    assert head_dim_v == 512 and (tile_scheduler_metadata, num_splits) == ("schedule", None)
    out, lse = from_rows(q, k_cache, block_table, cache_seqlens, softmax_scale, causal)
    return out, np.where(lse == -np.inf, np.inf, lse)


def flash_attn_with_kvcache(q, k_cache, v_cache, *, qv, cache_seqlens, page_table, softmax_scale,
                            causal, return_softmax_lse):
    assert return_softmax_lse and q.shape[-1] == 64 and v_cache.shape[-1] == 512
    return *from_rows(np.concatenate([qv, q], axis=3), np.concatenate([v_cache, k_cache], axis=3),
                      page_table, cache_seqlens, softmax_scale, causal), "more"


def fake_peers(wrapper=flashinfer_mla.BatchMLAPagedAttentionWrapper,
               flash_mla=flash_mla_with_kvcache):
    """sys.modules with peers in it; None for an argument: that one is not installed."""
    def module(**names):
        made = types.ModuleType("fake")
        made.__dict__.update(names)
        return made
    return {"flashinfer": module(__version__="0.0.test"),
            "flashinfer.mla": wrapper and module(BatchMLAPagedAttentionWrapper=wrapper),
            "flash_mla": flash_mla and module(get_mla_metadata=lambda *_: ("schedule", None),
                                              flash_mla_with_kvcache=flash_mla),
            "flash_attn_interface": module(flash_attn_with_kvcache=flash_attn_with_kvcache)}


class Peers(Folder):
    def run_peers(self, *words, code=0, modules=None):
        """name: measurement of the first case."""
        with mock.patch.dict(sys.modules, modules or fake_peers()):
            got, out, err = self.quietly(peers.main, ["--host", "--samples", "6", "-o",
                                                      self.path("p.json"), *words])
        self.assertEqual(got, code, out + err)
        self.out, self.err = out, err
        root = results.load(self.path("p.json"))
        return {m["implementation"]: m for m in root["measurements"]
                if m["case"] == root["measurements"][0]["case"]}

    def test_all_peers_on_a_cell(self):
        found = self.run_peers("--cells", "b3_150v_h4_q2")
        self.assertEqual(list(found), ["reference", "flashinfer:fa2", "flashinfer:fa3",
                                       "flashmla:dense", "flashattention:fa3"])
        for name, m in found.items():
            self.assertEqual((m["status"], m["why"]), ("PASS", ""), name)
            self.assertLessEqual(max(m["errors"].values()), 1, name)
            self.assertGreater(m["errors"]["element"], 0, name)
            self.assertEqual(len(m["timings"][0]["samples_us"]), 6)
        built_from = json.loads(self.read("p.json"))["environment"]["commit"]
        self.assertIn(f"(commit {built_from})", mla.library().mla_version().decode())
        versions = json.loads(self.read("p.json"))["environment"]["peers"]
        self.assertEqual({name: versions[name] for name in versions if name != "torch"},
                         {"flashinfer": "0.0.test", "flash_mla": "unknown",
                          "flash_attn_interface": "unknown"})

    def test_the_file_is_one_that_compare_reads(self):
        self.run_peers("--cells", "b1_70_h2", "--samples", "20")
        out, _ = self.mla("compare", "p.json", "--threshold", "1000", "--implementation",
                          "flashmla:dense=reference")
        self.assertIn("b1_70_h2", out)

    def test_ceilings_go_with_the_results(self):
        self.write("c.json", ceilings_file("the host", read_gbs=12.5, gemm_tflops=None))
        found = self.run_peers("--cells", "b1_70_h2", "--ceilings", self.path("c.json"))
        self.assertEqual(json.loads(self.read("p.json"))["ceilings"],
                         {**CEILINGS, "read_gbs": 12.5, "gemm_tflops": None, "tensor_tflops": 800})
        case = found["reference"]["case"]
        self.assertEqual(results.bound_of(case), (case["bytes"] / 12.5e3, "memory"))
        self.write("c.json", ceilings_file("another"))
        found = self.run_peers("--cells", "b1_70_h2", "--ceilings", self.path("c.json"))
        self.assertIsNone(json.loads(self.read("p.json"))["ceilings"])
        self.assertIsNone(results.bound_of(found["reference"]["case"]))
        self.assertIn("has nothing about the host", self.err)
        for content, sentence in (
                ({"schema": "mla-results", "schema_version": 1}, 'expected schema "mla-ceilings"'),
                (ceilings_file("the host", read_gbs=0), '"read_gbs" of "the host" is no')):
            self.write("c.json", content)
            self.run_peers("--cells", "b1_70_h2", "--ceilings", self.path("c.json"), code=3)
            self.assertIn(sentence, self.err)

    def test_missing_peers_are_named_and_skipped(self):
        found = self.run_peers("--cells", "b1_70_h2", modules={
            "flashinfer": None, "flashinfer.mla": None, "flash_mla": None,
            "flash_attn_interface": None})
        self.assertEqual(found["reference"]["status"], "PASS")
        for name in ("flashinfer:fa2", "flashmla:dense", "flashattention:fa3"):
            self.assertEqual(found[name]["status"], "SKIP")
            self.assertIn("cannot be imported", found[name]["why"])
            self.assertIn(name, self.out)
        self.run_peers("--cells", "b1_70_h2,b2_70_h2,b3_70_h2", modules={"flash_mla": None})
        self.assertEqual(self.out.count("flash_mla cannot be imported"), 1)
        self.assertEqual(self.out.count("PASS"), 3)

    def test_what_a_peer_does_not_take(self):
        found = self.run_peers("--cells", "b2_40_h2_p16")
        self.assertIn("pages of 64 keys, these have 16", found["flashmla:dense"]["why"])
        self.assertEqual(found["flashinfer:fa2"]["status"], "PASS")
        capture = os.path.join(ROOT, "data", "captures", "tiny_prefill.h5")
        found = self.run_peers(capture)
        self.assertEqual(found["flashinfer:fa2"]["status"], "PASS", found)

    def test_captures(self):
        for name, case in (("tiny_decode.h5", "000/001"), ("tiny_shared_fp16.h5", None)):
            path = os.path.join(ROOT, "data", "captures", name)
            found = self.run_peers(path, *(["-c", case] if case else []))
            self.assertEqual({m["status"] for m in found.values()} - {"SKIP"}, {"PASS"}, found)
            self.assertTrue(found["reference"]["case"]["name"].startswith(name + ":"))

    def test_rows_that_see_nothing(self):
        """flash_mla says so by an lse of +inf; of others that would be wrong."""
        class Positive(flashinfer_mla.BatchMLAPagedAttentionWrapper):
            def run(self, *arguments, lse, **more):
                super().run(*arguments, lse=lse, **more)
                lse[lse == -np.inf] = np.inf

        self.mla("make", "--heads", "2", "--kv-len", "2,70,0", "--qo-len", "3,3,3", "--causal",
                 "-o", "unseen.h5")
        found = self.run_peers(self.path("unseen.h5"))
        self.assertEqual({m["status"] for m in found.values()}, {"PASS"}, found)
        found = self.run_peers(self.path("unseen.h5"), code=1,
                               modules=fake_peers(wrapper=Positive))
        self.assertEqual(found["flashinfer:fa2"]["status"], "FAIL")

    def test_wrong_peers_fail(self):
        class NoOp(flashinfer_mla.BatchMLAPagedAttentionWrapper):
            def run(self, *_arguments, **_more):
                """Leaves what another implementation left."""

        class Natural(flashinfer_mla.BatchMLAPagedAttentionWrapper):
            def run(self, *arguments, **more):
                return super().run(*arguments, return_lse_base_on_e=True, **more)

        def wrong_scale(*arguments, softmax_scale, **more):
            return flash_mla_with_kvcache(*arguments, softmax_scale=576**-0.5, **more)

        def no_causal(*arguments, causal, **more):
            return flash_mla_with_kvcache(*arguments, causal=False, **more)

        def last_page_lost(q, cache, table, lengths, *arguments, **more):
            return flash_mla_with_kvcache(q, cache, table, lengths // 64 * 64, *arguments, **more)

        def breaks(*_arguments, **_more):
            raise RuntimeError("no kernel image")

        cell = ("--cells", "b3_150_h4_q2")
        for wrapper in (NoOp, Natural):
            found = self.run_peers(*cell, code=1, modules=fake_peers(wrapper=wrapper))
            self.assertEqual(found["flashinfer:fa2"]["status"], "FAIL", wrapper)
            self.assertEqual(found["flashinfer:fa2"]["timings"], [])
            self.assertEqual(found["flashmla:dense"]["status"], "PASS")
        for function in (wrong_scale, no_causal, last_page_lost, breaks):
            found = self.run_peers(*cell, code=1, modules=fake_peers(flash_mla=function))
            self.assertEqual(found["flashmla:dense"]["status"], "FAIL", function.__name__)
        self.assertEqual(found["flashmla:dense"]["why"], "RuntimeError: no kernel image")

    def test_right_alone_and_wrong_when_timed(self):
        calls = []

        def tires(*arguments, **more):
            calls.append(1)
            out, lse = flash_mla_with_kvcache(*arguments, **more)
            return (out if len(calls) < 4 else out * 0), lse

        found = self.run_peers("--cells", "b1_70_h2", code=1, modules=fake_peers(flash_mla=tires))
        self.assertIn("right alone, wrong when timed", found["flashmla:dense"]["why"])

    def test_a_less_exact_peer_is_timed_and_says_so(self):
        def coarse(*arguments, **more):
            out, lse = flash_mla_with_kvcache(*arguments, **more)
            return mla.to_bf16(mla.from_bf16(out) * 1.015), lse

        found = self.run_peers("--cells", "b1_70_h2", modules=fake_peers(flash_mla=coarse))
        peer = found["flashmla:dense"]
        self.assertEqual(peer["status"], "PASS")
        self.assertIn("less exact than asked of our own", peer["why"])
        self.assertGreater(peer["errors"]["rms"], 1)
        self.assertEqual(len(peer["timings"]), 1)

    def test_how_far_a_peer_s_lse_may_be_off(self):
        for error, status in ((2e-4, "PASS"), (5e-3, "FAIL")):
            def off(*arguments, error=error, **more):
                out, lse = flash_mla_with_kvcache(*arguments, **more)
                return out, lse + error

            found = self.run_peers("--cells", "b1_70_h2", code=0 if status == "PASS" else 1,
                                   modules=fake_peers(flash_mla=off))
            self.assertEqual(found["flashmla:dense"]["status"], status, found)

    def test_signs_of_a_timing(self):
        """As mla bench writes them; on the host nobody tells clocks."""
        found = self.run_peers("--cells", "b1_70_h2")
        for m in found.values():
            own = m["timings"][0]
            self.assertEqual((own["mode"], own["cache"], own["clocks"]), ("host", "hot", None))
            self.assertEqual(own["settled"], (own["q3_us"] - own["q1_us"]) / own["median_us"]
                             < results.NOISE)
            self.assertTrue(own["enough_samples"])

    def test_usage_and_bad_files(self):
        for words, code, sentence in (
                ((), 2, "a FILE.h5 or --cells"), (("x.h5", "--cells"), 2, "not both"),
                (("--cells", "--samples", "3"), 2, "at least 6"),
                (("--cells", "h4_q"), 3, 'found "q"'), (("--cells", "b1_h4"), 3, "too little"),
                (("--cells", "b1_9_h1", "--peers", "nope"), 3, "none is called so"),
                (("missing.h5",), 3, "missing.h5")):
            try:
                got, out, err = self.quietly(peers.main, ["--host", *words])
            except SystemExit as end:
                got, err = end.code, sentence if end.code == 2 else ""
            self.assertEqual(got, code, words)
            self.assertIn(sentence, err)

    def test_cases_are_those_of_the_program(self):
        """A cell's lengths, work and bound as mla bench has them, and all of its suite."""
        self.run_peers("--cells", "b3_150v_h4_q2,b2_40_h2_p16")
        said = program.cases("--cells=b3_150v_h4_q2,b2_40_h2_p16")["cases"]
        ran = [m["case"] for m in json.loads(self.read("p.json"))["measurements"]]
        for known in said:
            case = next(case for case in ran if case["name"] == known["name"])
            for key, value in case.items():
                if key != "sha256":  # values and page order are our own
                    self.assertEqual(value, known[key], key)
            self.assertNotEqual(case["sha256"], known["sha256"])
        options = peers.parse(["--cells"])
        names = [case["name"] for case in peers.describe(options, peers.Host())["cases"]]
        self.assertIn("b128_4Kv_h128_q1", names)
        self.assertEqual(len(names), 20)


class Clocks(Folder):
    """Of a GPU that a stand-in for the driver's library tells about."""
    STAND_IN = r"""
#include <string.h>
static unsigned sm = 1980;
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *id, void **d) { *d = (void *)7; return strcmp(id, "GPU-1"); }
int nvmlDeviceGetClockInfo(void *d, int c, unsigned *v)
{ *v = c == 1 ? (sm -= 10) : 2619; return d != (void *)7; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *v) { *v = 0; return d == (void *)7; }
"""

    def meter(self):
        self.write("fake.c", self.STAND_IN)
        if subprocess.run(["gcc", "-shared", "-fPIC", "-o", self.path("fake.so"),
                           self.path("fake.c")], check=False).returncode:
            self.skipTest("no gcc here")
        return nvml.opened("GPU-1", self.path("fake.so"))

    def test_readings(self):
        meter = self.meter()
        self.assertEqual(meter.read(), {"sm_mhz": 1970, "mem_mhz": 2619})
        load = nvml.load([meter.read() for _ in range(3)])
        self.assertEqual(load["sm_mhz"], {"min": 1940, "median": 1950, "max": 1960, "n": 3})
        self.assertEqual(load["mem_mhz"]["median"], 2619)
        self.assertIsNone(load["power_w"])
        self.assertIsNone(nvml.load([]))
        self.assertIsNone(nvml.opened("GPU-2", self.path("fake.so")))
        self.assertIsNone(nvml.opened("GPU-1", self.path("no.so")))
        self.assertIsNone(nvml.opened("GPU-1", "libm.so.6"))

    def test_a_reading_is_that_of_the_sample_that_runs(self):
        """Two runs in turns, three samples each; time passes with each question. Between 10 n and
        10 n + 10 the n-th sample runs; those of the second run end before they are asked about."""
        now = [0]

        class Event:
            def __init__(self, at):
                self.at = at

            def query(self):
                now[0] += 1
                return now[0] >= self.at
        pairs = [[(Event(10 * n), Event(10 * n + (10 if n % 2 == 0 else 0))) for n in
                  range(run, 6, 2)] for run in range(2)]
        first, second = peers.watch(self.meter(), pairs)
        self.assertEqual(first["sm_mhz"], {"min": 1950, "median": 1960, "max": 1970, "n": 3})
        self.assertIsNone(second)
        self.assertEqual(peers.watch(None, pairs), [None, None])


try:
    import torch
except ImportError:
    torch = None


class TorchOnCpu(peers.Cuda):
    """All that the GPU's place does with tensors, where there is no GPU; no graphs, no clocks."""
    mode, device, on_gpu = "launch", "cpu", False
    name, arch = "torch on the host", 0
    copies, workspace = peers.Host.copies, peers.Host.workspace
    capture, sample = peers.Host.capture, peers.Host.sample

    def __init__(self):
        self.torch = torch


@unittest.skipIf(torch is None, "SKIPPED, no torch")
class PeersOnTorch(unittest.TestCase):
    def contest(self, case):
        def with_numpy(function):
            def call(*arguments, **more):
                place = TorchOnCpu()

                def to_numpy(value):
                    return place.numpy(value, slice(None)) if mla.is_torch(value) else value
                out, lse = function(*map(to_numpy, arguments),
                                    **{key: to_numpy(value) for key, value in more.items()})[:2]
                return place.give(out), place.give(lse)
            return call
        modules = fake_peers(flash_mla=with_numpy(flash_mla_with_kvcache))
        attention = modules["flash_attn_interface"]
        attention.flash_attn_with_kvcache = with_numpy(flash_attn_with_kvcache)
        implementations = [peers.Ours("auto"), *(make() for make in peers.PEERS)]
        with mock.patch.dict(sys.modules, modules):
            return peers.Contest(case, TorchOnCpu(), implementations, 6).run()

    def test_generated_and_captured_cases(self):
        capture = os.path.join(ROOT, "data", "captures", "tiny_shared_fp16.h5")
        for case in (peers_case.make_cell(program.cases("--cells=b3_150v_h4_q2"), 0, TorchOnCpu()),
                     peers_case.load_capture(capture, program.cases(capture))):
            found = self.contest(case)
            self.assertEqual(len(found), 5)
            for m in found:
                if m["status"] != "SKIP":
                    self.assertEqual((m["status"], m["why"]), ("PASS", ""), m["implementation"])
            self.assertGreaterEqual(sum(m["status"] == "PASS" for m in found), 3)


class PeersTruth(unittest.TestCase):
    """The truth on a part of a case, and the bounds, against float64 numpy on all of it."""

    def make(self, cell):
        place = peers.Host()
        case = peers_case.make_cell(program.cases(f"--cells={cell}"), 0, place)
        return case, peers_case.Truth(case, place), place

    def test_values(self):
        case, truth, _ = self.make("b5_90v_h3_q2")
        q, cache = mla.from_bf16(case.q).astype(float), mla.from_bf16(case.cache).astype(float)
        for at, row in enumerate(truth.rows):
            request = int(np.searchsorted(case.qo_indptr, row, "right")) - 1
            keys = cache[case.pages(request)].reshape(-1, 576)
            keys = keys[:case.kv_len[request] - case.qo_indptr[request + 1] + row + 1]
            score = case.sm_scale * q[row] @ keys.T
            p = np.exp(score - score.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            np.testing.assert_allclose(truth.out[at], (p @ keys[:, :512])[truth.heads], atol=1e-6)
            np.testing.assert_allclose(truth.sums[at], (p @ abs(keys[:, :512]))[truth.heads],
                                       rtol=1e-6)

    def test_errors_count(self):
        case, truth, place = self.make("b1_70_h2")
        config, batch = case.config(), case.batch()
        q, cache = case.q, case.cache
        out, lse = mla.reference(config, batch, q[..., :512], q[..., 512:], cache[..., :512],
                                 cache[..., 512:], case.kv_indices)
        self.assertLessEqual(max(truth.judge(out, lse, place).values()), 1)
        one = out.copy()
        one[0, 1, 511] ^= 0x8000
        self.assertGreater(truth.judge(one, lse, place)["element"], 1)
        one[0, 1, 511] = 0x7fc0  # NaN
        self.assertEqual(truth.judge(one, lse, place)["element"], math.inf)
        moved = lse + np.float32(1e-3)
        self.assertGreater(truth.judge(out, moved, place)["lse"], 8)
        self.assertEqual(truth.judge(out, lse * np.nan, place)["lse"], math.inf)

    def test_large_cases_are_sampled(self):
        case, _, place = self.make("b2_70_h8")
        with mock.patch.object(peers_case, "TRUTH_BUDGET", 1e6):
            truth = peers_case.Truth(case, place)
        self.assertEqual((truth.heads[0], truth.heads[-1]), (0, 7))
        self.assertLess(len(truth.heads), 8)

    def test_nothing_to_see(self):
        case, _, place = self.make("b2_3_h2_q2")
        case = copy.copy(case)
        case.kv_len = np.array([1, 0], np.int32)
        truth = peers_case.Truth(case, place)
        self.assertEqual(np.isinf(truth.lse).sum(), 6)
        zeros = np.zeros((4, 2, 512), np.uint16)
        self.assertGreater(truth.judge(zeros, truth.lse, place)["element"], 1)
        out = mla.to_bf16(truth.out)
        self.assertLessEqual(max(truth.judge(out, truth.lse, place).values()), 1)


if __name__ == "__main__":
    unittest.main()
