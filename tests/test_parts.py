"""test_parts.py - every function of optimized/parts that runs on the device is among the parts that a
GPU's results were recorded of, and every part has its record.
"""
import os
import re
import unittest

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
HEADERS = ["ptx_sm80.cuh", "ptx_sm90.cuh", "ptx_wgmma.cuh", "descriptors.cuh", "elements.cuh", "reduce.cuh",
           "deepseek.cuh", "shared.cuh"]
RECORDED = os.path.join("tests", "emulated", "recorded")
LIMIT = 300 * 1000  # characters of a record


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as file:
        return file.read()


def functions(header):
    """Names of the functions that a header of parts defines for the device."""
    text = re.sub(r"/\*.*?\*/", "", read("optimized", "parts", header), flags=re.S)
    found = set()
    for match in re.finditer(r"\b__device__\b[^;{()]*?(\w+)(?:<\w+>)?\(", text):
        found.add(match.group(1))
    return found


def parts():
    """The words of every part: its name, then all that it runs."""
    folder = os.path.join(ROOT, "tests", "emulated", "parts")
    found = []
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".cu") or name == "parts.cu":
            continue
        text = read("tests", "emulated", "parts", name)
        entries = text[text.index("static const part parts[]"):]
        for match in re.finditer(r'(?:\{|>\()\s*((?:"[^"]*"\s*)+)', entries):
            found.append("".join(re.findall(r'"([^"]*)"', match.group(1))).split())
    return found


class Parts(unittest.TestCase):
    def test_all_functions(self):
        run = {word for words in parts() for word in words}
        for header in HEADERS:
            names = functions(header)
            self.assertTrue(names, f"no function was found in {header}")
            self.assertFalse(names - run, f"{header}: no part runs these")

    def test_names(self):
        names = [words[0] for words in parts()]
        self.assertGreater(len(names), 60)
        self.assertEqual(len(names), len(set(names)), "two parts of one name")

    def test_records(self):
        files = os.listdir(os.path.join(ROOT, RECORDED))
        self.assertTrue(files)
        for name in files:
            text = read(RECORDED, name)
            recorded = re.findall(r"^part (\S+) \d+$", text, flags=re.M)
            self.assertEqual(sorted(recorded), sorted(words[0] for words in parts()), name)
            self.assertLess(len(text), LIMIT, name)


if __name__ == "__main__":
    unittest.main()
