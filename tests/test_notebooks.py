"""test_notebooks.py - executes the notebooks: no cell raises, committed output is what it gives.

    build/venv/bin/python tests/test_notebooks.py

Needs numpy, h5py, matplotlib, nbclient and ipykernel, and a built libmla.so ($MLA_LIBRARY, or lib/
of $MLA_BUILD, default build).
"""
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.abspath(os.environ.get("MLA_BUILD", os.path.join(ROOT, "build")))
os.environ.setdefault("MLA_LIBRARY", os.path.join(BUILD, "lib", "libmla.so"))
sys.path.insert(0, os.path.join(ROOT, "notebooks"))

try:
    import ipykernel  # noqa: F401
    import matplotlib  # noqa: F401
    import nbformat
    import run
    MISSING = None
except ImportError as error:
    MISSING = f"SKIPPED, {error.name} is not installed"

MOST_CELLS = 15
MOST_BYTES = 100_000


def printed(notebook):
    """What each code cell printed; pictures and numbers of cells are left out."""
    return [[output["text"] for output in cell["outputs"] if output["output_type"] == "stream"]
            for cell in notebook.cells if cell["cell_type"] == "code"]


@unittest.skipIf(MISSING, MISSING)
class Notebooks(unittest.TestCase):
    def check(self, name):
        why = run.why_not(name)
        if why:
            self.skipTest(f"SKIPPED, {why}")
        path = os.path.join(ROOT, "notebooks", name)
        committed = nbformat.read(path, as_version=4)
        code = [cell for cell in committed.cells if cell["cell_type"] == "code"]
        self.assertLessEqual(len(committed.cells), MOST_CELLS)
        self.assertLessEqual(os.path.getsize(path), MOST_BYTES)
        self.assertTrue(any("assert " in cell["source"] for cell in code))
        pictures = sum("image/png" in output.get("data", {})
                       for cell in code for output in cell["outputs"])
        self.assertEqual(pictures, 1)
        self.assertEqual(printed(run.execute(name)), printed(committed),
                         "committed output is stale: run notebooks/run.sh")


def add_tests():
    for name in run.names():
        setattr(Notebooks, f"test_{name.removesuffix('.ipynb')}",
                lambda self, name=name: self.check(name))


if MISSING:
    Notebooks.test_all = lambda self: None  # counted as skipped
else:
    add_tests()

if __name__ == "__main__":
    unittest.main(verbosity=2)
