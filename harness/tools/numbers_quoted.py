"""numbers_quoted.py - is a time that a page quotes in a result file, and does a cell have one time on
all pages, or a sentence that says why not? docs.py asks, for all pages.

A cell that two runs timed has two times. Where two pages quote different ones, each must name the
file that holds the other's. A time in prose, beside a cell's name, must be in a file too, or stand
in a paragraph that says it is from "one run" of its own (data/results/README.md).
"""
import glob
import os
import re

from mla import results

CELL = re.compile(r"\bb\d+_\d+K?v?_h\d+(?:_q\d+)?(?:_p\d+)?\b")
TIME = re.compile(r"([\d,]*\d(?:\.\d+)?) (us|ms)\b")
GENERATED = re.compile(r"<!-- (\w+):begin -->.*?<!-- \1:end -->", re.DOTALL)


def number(us):
    """A time as pages write it."""
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"


def plain(cell):
    """b4_4K_h16_q1 is b4_4K_h16."""
    return cell.removesuffix("_q1")


class Held:
    """All times of all result files: which files, of which GPUs, hold one?"""

    def __init__(self, root):
        self.times = {}  # (cell, implementation): [(file's name, gpu, microseconds)]
        for path in sorted(glob.glob(os.path.join(root, "data", "results", "*", "*.json"))):
            try:
                file = results.load(path)
            except results.ResultError:
                continue  # of another schema
            for m in file["measurements"]:
                for timing in m["timings"] if m["status"] == "PASS" else []:
                    key = plain(m["case"]["name"]), m["implementation"]
                    self.times.setdefault(key, []).append(
                        (os.path.basename(path), results.gpu_name(file), timing["median_us"]))

    def of(self, cell, implementation, words):
        """{(file's name, gpu)} where this is the time, as pages write it."""
        return {(name, gpu) for name, gpu, us in self.times.get((cell, implementation), [])
                if number(us) == words}

    def has(self, cell, value):
        """Is it a time of the cell, of any implementation, in microseconds?"""
        return any(abs(us / value - 1) < 0.006 for (name, _), all_times in self.times.items()
                   if name == cell for _, _, us in all_times)


def pages(root):
    """{path in the project: text} of all Markdown."""
    found = {}
    for path in sorted(glob.glob(os.path.join(root, "**", "*.md"), recursive=True)):
        page = os.path.relpath(path, root)
        if page.split(os.sep)[0] != "build":
            with open(path, encoding="utf-8") as file:
                found[page] = file.read()
    return found


def in_tables(page, text):
    """(cell, implementation, words) of each time in tables that have a row per cell."""
    titles = []
    for line in text.splitlines():
        row = [word.strip().strip("`") for word in line.strip("|").split("|")]
        cell = CELL.match(row[0])
        if not line.startswith("|"):
            titles = []
        elif not titles:
            titles = row
        elif cell:
            entry = dict(zip(titles, row))
            for title, words in entry.items():
                implementation = {"time, us": os.path.basename(page).removesuffix(".md"),
                                  "ours": entry.get("rung")}.get(title, title)
                if re.match(r"\d+[a-z]?_|\w+:", implementation or "") and words != "-":
                    yield plain(cell[0]), implementation, re.match(r"[\d,.]*", words)[0]


def in_prose(text):
    """(cell, words, microseconds) of each time in a sentence with a cell's name."""
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*[-*] )", GENERATED.sub("", text)):
        if re.match(r"    |\|", paragraph.lstrip("\n")) or "one run" in " ".join(paragraph.split()):
            continue
        for sentence in re.split(r"(?<=[.;]) ", " ".join(paragraph.split())):
            for cell in CELL.findall(sentence):
                for value, unit in TIME.findall(sentence):
                    us = float(value.replace(",", "")) * (1 if unit == "us" else 1000)
                    yield plain(cell), f"{value} {unit}", us


def unexplained(root):
    """A sentence for each time that stands on a page without a file, or beside another page's."""
    held, all_pages, said = Held(root), pages(root), []
    quoted = {}  # (cell, implementation): {words: {page}}
    for page, text in all_pages.items():
        for cell, implementation, words in in_tables(page, text):
            quoted.setdefault((cell, implementation), {}).setdefault(words, set()).add(page)
            if not held.of(cell, implementation, words):
                said.append(f"{page}: {implementation} on {cell}: {words} us is in no result file")
        for cell, words, us in in_prose(text):
            if not held.has(cell, us):
                said.append(f"{page}: {words} of {cell} is in no result file: quote what is in one, "
                            'or say in the paragraph that it is from "one run" of its own')
    for (cell, implementation), found in quoted.items():
        for words, here in found.items():
            said += _missing(held, all_pages, cell, implementation, words, here, found)
    return said


def _missing(held, all_pages, cell, implementation, words, here, found):
    """Sentences about pages that quote words and do not name where another page's time is from."""
    own = {gpu for _, gpu in held.of(cell, implementation, words)}
    for other, there in found.items():
        files = {name for name, gpu in held.of(cell, implementation, other) if gpu in own}
        for page in sorted(here) if other != words and files else []:
            if not any(name in all_pages[page] for name in files):
                yield (f"{page}: {implementation} on {cell} takes {words} us here and {other} us "
                       f"in {', '.join(sorted(there))}: say so and name "
                       f"{' or '.join(sorted(files))}")
