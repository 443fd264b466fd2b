"""test_words.py - what comes from outside, in Python: names, words and files of JSON, as the program has
them.

    build/venv/bin/python tests/test_words.py

Needs numpy, a built mla and libmla.so (in $MLA_BUILD, default build). Pictures are drawn where
matplotlib is.
"""
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
os.environ.setdefault("MLA_LIBRARY", os.path.join(BUILD, "lib", "libmla.so"))
os.environ.setdefault("MLA_PROGRAM", os.path.join(BUILD, "bin", "mla"))
sys.path.insert(0, os.path.join(ROOT, "harness", "python"))

import mla  # noqa: E402
from mla import inputs, results  # noqa: E402

PLOT = os.path.join(ROOT, "harness", "python", "mla", "plot.py")
HOSTILE = "x\033[31m\x9b31m\nplot: fine\u202e"
H200 = mla.Device(arch=90, sm_count=132, smem_per_block=232448)
CONFIG = mla.config(16, sm_scale=0.1, page_size=64)


def of_library(text):
    """The text as a sentence of the library has it: that of a kernel which is not there."""
    try:
        mla.refusal(text, CONFIG, H200)
    except mla.MlaError as error:
        return str(error).split('"')[1]
    raise AssertionError(f"there is a kernel {text!r}")


def times(name):
    return {"schema": "mla-results", "schema_version": 1, "environment": {"gpu": name},
            "ceilings": {"read_gbs": 1000.0, "tensor_tflops": 100.0},
            "measurements": [
                {"case": {"name": name + "$x_{$", "flop": 1e9, "bytes": 1e6, "kv_tokens": length,
                          "batch_size": 1, "num_heads": 16, "total_q": 1, "bound_us": 1.0,
                          "bound_by": "bytes"},
                 "implementation": "01_" + name, "status": "PASS",
                 "timings": [{"mode": "graph", "cache": "cold", "median_us": 3.0, "q1_us": 2.9,
                              "q3_us": 3.1, "min_us": 2.0,
                              "samples_us": [2.0, 2.9, 3.0, 3.0, 3.1, 4.0]}]}
                for length in (64, 128)]}


class Shown(unittest.TestCase):
    def test_as_the_library_shows(self):
        edges = {code for first, last in inputs.STEERING for code in (first - 1, first, last, last + 1)}
        codes = edges | set(range(1, 0x300)) | set(range(0x2000, 0x2100)) | {
            0x4e2d, 0x1f600, 0xfffd, 0xfffe, 0xffff, 0x1fffe, 0x1ffff, 0x10fffe, 0x10ffff}
        codes = sorted(code for code in codes
                       if 0 < code < 0x110000 and code != ord('"') and not 0xd800 <= code < 0xe000)
        for begin in range(0, len(codes), 20):
            text = "".join(map(chr, codes[begin:begin + 20]))
            self.assertEqual(inputs.shown(text), of_library(text))

    def test_bytes_that_are_no_utf8(self):
        self.assertEqual(inputs.shown(os.fsdecode(b"a\xff\x9b\xc3\xa9")), "a\\xff\\x9b\u00e9")
        self.assertEqual(inputs.shown("\ud800"), "\\ud800")

    def test_what_is_shown_stays(self):
        once = inputs.shown(HOSTILE)
        self.assertEqual(once, "x\\x1b[31m\\u009b31m\\x0aplot: fine\\u202e")
        self.assertEqual(inputs.shown(once), once)


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def path(self, name, text=None):
        path = os.path.join(self.folder, name)
        if text is not None:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        return path


class Files(Folder):
    def test_what_is_no_regular_file(self):
        os.mkfifo(self.path("pipe"))
        os.symlink("loop", self.path("loop"))
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(self.path("socket"))
        with open(self.path("huge"), "w", encoding="utf-8") as file:
            file.truncate(1 << 40)
        for path, words in ((self.path("pipe"), "it is a pipe"), (self.folder, "it is a folder"),
                            (self.path("socket"), "it is a socket"), ("/dev/zero", "it is a device"),
                            (self.path("loop"), "levels of symbolic links"),
                            (self.path("absent"), "No such file"), ("a\0b", "null"),
                            (self.path("huge"), "bytes, expected at most")):
            with self.subTest(path=path), self.assertRaisesRegex(results.ResultError, words):
                results.load(path)

    def test_json_is_strict_and_bounded(self):
        for text, words in (("", "file is empty"), ("{", "is no JSON"),
                            ('{"a": 1, "a": 2}', 'duplicate key "a"'), ('{"a": NaN}', "NaN"),
                            ('{"a": -Infinity}', "Infinity"), ('{"a": 1e999}', "beyond a double"),
                            ('{"a": 99999999999999999999}', "beyond 64 bits"),
                            ("[" * 100000, "is no JSON: too deep"),
                            ("[" + "{}," * inputs.JSON_VALUES, "values, expected at most"),
                            ('{"schema": "\\u001b\\u009b"}', r"schema is .*u001b")):
            with self.subTest(text=text[:30]), \
                    self.assertRaisesRegex(results.ResultError, words) as caught:
                results.load(self.path("a.json", text))
            self.assertEqual(str(caught.exception), inputs.shown(str(caught.exception)))

    def test_names_are_shown_from_here_on(self):
        root = results.load(self.path("a.json", json.dumps(times(HOSTILE))))
        self.assertEqual(results.gpu_name(root), inputs.shown(HOSTILE))
        for measurement in root["measurements"]:
            for name in (measurement["case"]["name"], measurement["implementation"]):
                self.assertEqual(name, inputs.shown(name))


@unittest.skipUnless(importlib.util.find_spec("matplotlib"), "no matplotlib")
class Pictures(Folder):
    def plot(self, *words):
        done = subprocess.run([sys.executable, "-B", PLOT, *words], capture_output=True, check=False,
                              timeout=100)
        for line in (done.stdout + done.stderr).decode().splitlines():
            self.assertEqual(line, inputs.shown(line))
        self.assertNotIn(b"\nplot: fine", done.stderr)
        self.assertNotIn(b"Traceback", done.stderr)
        return done.returncode

    def test_hostile_names_are_drawn_as_text(self):
        picture = self.path(HOSTILE + ".svg")
        source = self.path("a.json", json.dumps(times(HOSTILE)))
        self.assertEqual(self.plot(source, "-o", picture), 0)
        with open(picture, "rb") as file:
            self.assertEqual(file.read().count(b"\x1b"), 0)

    def test_hostile_words_are_shown(self):
        source = self.path("a.json", json.dumps(times("c")))
        self.assertEqual(self.plot(source, "-o", self.path(HOSTILE)), 2)
        self.assertEqual(self.plot(source, "-o", "a.svg", "--" + HOSTILE), 2)
        self.assertEqual(self.plot(source, "-o", "a.svg", "--case", HOSTILE), 3)
        self.assertEqual(self.plot(self.path(HOSTILE), "-o", "a.svg"), 3)


if __name__ == "__main__":
    unittest.main()
