"""checkout.py - makes this checkout's package mla importable. The scripts beside it import it first.

Where data/capture was copied alone, PYTHONPATH says where the package is.
"""
import os
import sys

sys.path.insert(0, os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                                 "..", "..", "harness", "python")))
