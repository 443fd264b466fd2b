#!/usr/bin/env python3
"""docs.py - writes what was measured into the pages that quote it.

    harness/tools/docs.py [--check] [--ptxas FILE.ptxas ... --nvcc NVCC]

From data/results/<gpu>/peers*.json comes README.md's table, between <!-- results:begin --> and
<!-- results:end -->, and that of optimized/README.md, all rungs on all cases, between the ladder
marks; from the same files, the profiler's figures beside them (profile_NN_idea_hHEADS.txt) and
data/results/registers.json the section of every optimized/NN_idea.md between its measured marks. A
lesson may say what was expected, in the words of the column "of bound", and the table repeats it:
<!-- expected b64_8K_h16_q1: 25 % -->. Everything else in the pages is left alone. --check writes
nothing and fails if a page is stale. --ptxas rewrites registers.json from the compiler's logs
first. Pictures beside the results are drawn anew, where matplotlib is.

A time has a sign if it is noisy or of few samples, and a sentence says what the clocks were while
the quoted times were taken, as far as the file tells. Where another page quotes another run of the
same cell, both say so; numbers_quoted.py holds all pages against that.

A cell has one bound on all pages: the program's (`mla cases`), by the ceilings.json of the folder.
Needs a built mla, and numpy for its package.

Exit codes: 0 good, 1 a page is stale or lacks its marks, 2 wrong usage, 3 a file cannot be used.
"""
import argparse
import glob
import json
import math
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", ".."))
sys.path.insert(0, os.path.join(HERE, "..", "python"))

from mla import output, plot, program, results  # noqa: E402
import numbers_quoted  # noqa: E402
from numbers_quoted import number  # noqa: E402

NOTHING = "not measured yet"
# As measure.sh draws them.
PICTURES = {"roofline": ["peers_libraries.json", "peers.json"], "rungs": ["peers_ladder.json"],
            "kvlen": ["sweep.json"]}
REGISTERS = os.path.join("data", "results", "registers.json")


# ---- what there is ------------------------------------------------------------------------------


class Cell:
    """One case in one result file: what ran on it there. own: what the program says of this case,
    cell: what it says of the cell of that name, which may have other lengths; or None."""

    def __init__(self, path, root, case):
        self.path, self.root, self.case = path, root, case
        self.timings = {}  # implementation: its timing
        self.own = self.cell = None

    @property
    def times(self):
        """implementation: median in microseconds"""
        return {name: timing["median_us"] for name, timing in self.timings.items()}

    def text(self, name):
        """A time as tables have it, with its sign."""
        timing = self.timings[name]
        return number(timing["median_us"]) + results.sign_of(timing)

    @property
    def bound(self):
        """(microseconds, what bounds), or None: one for all cases of a cell's name."""
        return results.bound_of(self.cell or self.own or {})

    @property
    def is_other(self):
        """Was it measured at other lengths than those of the cell of its name?"""
        return bool(self.cell) and any(self.case[key] != self.cell[key]
                                       for key in ("flop", "bytes"))

    @property
    def label(self):
        return self.case["name"] + (r" \*" if self.is_other else "")

    def percent(self, us):
        """How much of the bound of what was measured a time reached, or None."""
        own = results.bound_of(self.own or {})
        return 100 * own[0] / us if own else None

    @property
    def date(self):
        return (self.root.get("environment") or {}).get("date_utc") or ""

    def peers(self):
        return {name: us for name, us in self.times.items() if results.kind_of(name) == "peer"}

    def rungs(self):
        return {name: us for name, us in self.times.items() if results.kind_of(name) == "rung"}

    def best_rung(self):
        """(name, microseconds) of the fastest rung, or None."""
        return min(self.rungs().items(), key=lambda rung: rung[1], default=None)


class Gpu:
    """The results in one folder: cells in the order in which the files name their cases."""

    def __init__(self, folder, paths):
        self.folder, self.cells, self.ceilings, self.name = folder, [], None, None
        loaded = sorted(((path, results.load(path)) for path in paths), key=_date)
        for path, root in loaded:
            name = results.gpu_name(root)
            if self.name not in (None, name):
                raise results.ResultError(f"{path}: ran on {name}, another file of {folder} on "
                                          f"{self.name}: one folder is one GPU")
            self.name = name
        for path, root in sorted(loaded, key=lambda file: -len(file[1]["measurements"])):
            self._add(path, root)  # the order of lines in tables is that of the largest file
        ceilings = os.path.join(folder, "ceilings.json")
        if self.cells and os.path.exists(ceilings):
            self._ask(paths, [f"--ceilings={ceilings}", f"--gpu={self.name}"])

    def _add(self, path, root):
        cells = {}
        for measurement in root["measurements"]:
            timing = results.timing_of(measurement)
            if timing:
                case = measurement["case"]
                cell = cells.setdefault((case["name"], case.get("sha256")), Cell(path, root, case))
                cell.timings[measurement["implementation"]] = timing
        self.cells += cells.values()

    def _ask(self, paths, words):
        """The program, for the ceilings, the cells of all names, and the cases as measured."""
        names = sorted({cell.case["name"] for cell in self.cells
                        if not re.search("[: ]", cell.case["name"])})  # of captures, and generated
        said = program.cases(*words, f"--cells={','.join(names)}") if names else {"cases": []}
        known = {case["name"]: case for case in said["cases"]}
        for path in paths:
            said = program.cases(*words, "--", path)
            self.ceilings = said["ceilings"]
            own = {results.case_key(case): case for case in said["cases"]}
            for cell in self.cells:
                if cell.path == path:
                    cell.own = own[results.case_key(cell.case)]
                    cell.cell = known.get(cell.case["name"])

    def choose(self, wanted, counted=Cell.peers):
        """One cell per name of a case, among those wanted: with the most of what is counted, then
        the newest."""
        chosen = {}
        for cell in self.cells:
            if wanted(cell):
                best = chosen.get(cell.case["name"])
                if best is None or (len(counted(cell)), cell.date) >= (len(counted(best)),
                                                                       best.date):
                    chosen[cell.case["name"]] = cell
        return list(chosen.values())


def _date(loaded):
    path, root = loaded
    return (root.get("environment") or {}).get("date_utc") or "", path


def find_gpus(root):
    folders = {}
    for path in glob.glob(os.path.join(root, "data", "results", "*", "peers*.json")):
        folders.setdefault(os.path.dirname(path), []).append(path)
    return [Gpu(folder, folders[folder]) for folder in sorted(folders)]


# ---- tables -------------------------------------------------------------------------------------


def table(titles, rows, words=()):
    """Markdown; the first column and those of words to the left, the others to the right."""
    marks = ["---" if title in (titles[0], *words) else "---:" for title in titles]
    lines = ["| " + " | ".join(titles) + " |", "|" + "|".join(marks) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def quoted_timings(cells, quoted):
    """The timings of what quoted(cell) names."""
    return [cell.timings[name] for cell in cells for name in quoted(cell)]


def sources(cells, quoted, root, page):
    """One sentence per file that the numbers came from, with the clocks of those."""
    lines = []
    for path in sorted({cell.path for cell in cells}):
        mine = [cell for cell in cells if cell.path == path]
        environment = mine[0].root.get("environment") or {}
        link = os.path.relpath(path, os.path.join(root, os.path.dirname(page)))
        facts = [f"commit {environment['commit']}" if environment.get("commit") else "",
                 (environment.get("date_utc") or "")[:10],
                 f"driver {environment['driver']}" if environment.get("driver") else "",
                 results.clocks_text(mine[0].root, quoted_timings(mine, quoted))]
        words = ", ".join(fact for fact in facts if fact)
        lines.append(f"[{os.path.basename(path)}]({link})" + (f" ({words})" if words else ""))
    return "From " + "; ".join(lines) + "."


def signs_text(timings):
    """What the signs beside these times mean, a line each."""
    signs = "".join(map(results.sign_of, timings))
    return "".join(f"\n{sign} {meaning}." for sign, meaning in results.SIGNS.items()
                   if sign in signs)


def other_runs(cells, quoted, others, others_quoted, where, root, page):
    """A sentence per file that holds other times of what quoted(cell) names, which the pages of
    `where` quote; "" if none does."""
    known = {cell.case["name"]: cell for cell in others}
    found = {}  # path: [(this cell, the other, name)]
    for cell in cells:
        other = known.get(cell.case["name"])
        if other and other.path != cell.path:
            found.setdefault(other.path, []).extend(
                (cell, other, name) for name in quoted(cell) if name in others_quoted(other))
    lines = []
    for path, pairs in sorted(found.items()):
        ratios = sorted(other.times[name] / cell.times[name] for cell, other, name in pairs)
        if not ratios:
            continue
        link = os.path.relpath(path, os.path.join(root, os.path.dirname(page)))
        clocks = results.clocks_text(pairs[0][1].root,
                                     [other.timings[name] for _, other, name in pairs])
        company = " beside other libraries" if any(other.peers() for _, other, _ in pairs) \
            else " among rungs alone"
        lines.append(f"\n{where} another run, [{os.path.basename(path)}]({link}), timed{company}: "
                     f"there {'a rung' if len(ratios) > 1 else 'it'} took {_times(ratios)} as long"
                     + (f" ({clocks})." if clocks else "."))
    return "".join(lines)


def _times(ratios):
    """"0.95 to 1.10 times", or "0.95 times"."""
    return " to ".join(dict.fromkeys((f"{ratios[0]:.2f}", f"{ratios[-1]:.2f}"))) + " times"


def results_cells(gpu):
    """What README quotes."""
    return gpu.choose(lambda cell: cell.best_rung() or cell.peers())


def results_quoted(cell):
    return [*cell.peers(), *(cell.best_rung() or ())[:1]]


def readme_of(gpu):
    """What other pages say of README's table: its cells, what it quotes of them, and where."""
    return results_cells(gpu), results_quoted, "[The results](../README.md#results) quote"


def ladder_cells(gpu, wanted=Cell.rungs):
    """What the pages of the ladder quote: a line is from one run, the one with the most rungs."""
    return gpu.choose(wanted, Cell.rungs)


def ceilings_text(gpu):
    if not gpu.ceilings:
        return "Ceilings were not measured."
    return (f"Bound: what a read stream of {gpu.ceilings['read_gbs']:,.0f} GB/s and tensor cores "
            f"at {gpu.ceilings['tensor_tflops']:,.0f} TFLOP/s allow, both measured there.")


def lengths_text(cells, root, page):
    """What the marked lines of a table mean, a sentence per file; "" if there are none."""
    lines = []
    for path in sorted({cell.path for cell in cells if cell.is_other}):
        link = os.path.relpath(path, os.path.join(root, os.path.dirname(page)))
        most = max(abs(cell.case["kv_tokens"] / cell.cell["kv_tokens"] - 1) for cell in cells
                   if cell.path == path and cell.is_other)
        lines.append(f"\n\\* [{os.path.basename(path)}]({link}) drew lengths of its own for these "
                     f"cells: up to {100 * most:.1f} % more or fewer keys. Its times are of those "
                     "lengths, shares are of the bound for them; the bound shown is the cell's.")
    return "".join(lines)


def ladder_row(cell, rungs):
    """A case's bound, then each rung's time and share of the bound."""
    bound = cell.bound
    row = [cell.label, f"{number(bound[0])} ({bound[1]})" if bound else "-"]
    for rung in rungs:
        us = cell.times.get(rung)
        share = f" ({results.percent_text(cell.percent(us))})" if us and bound else ""
        row.append(cell.text(rung) + share if us else "-")
    return row


def ladder_section(gpus, root, page):
    """Every rung on every case."""
    parts = []
    for gpu in gpus:
        cells, readme = ladder_cells(gpu), readme_of(gpu)
        if cells:
            rungs = sorted({rung for cell in cells for rung in cell.rungs()})
            rows = [ladder_row(cell, rungs) for cell in cells]
            parts.append(f"On {gpu.name}, median microseconds per call and share of the bound:\n\n"
                         f"{table(['case', 'bound', *rungs], rows)}\n\n{ceilings_text(gpu)}"
                         f"{lengths_text(cells, root, page)}"
                         f"{signs_text(quoted_timings(cells, Cell.rungs))}"
                         f"{other_runs(cells, Cell.rungs, *readme, root, page)}"
                         f"\n{sources(cells, Cell.rungs, root, page)}")
    return "\n\n".join(parts) or NOTHING


def result_row(cell, peers):
    bound, rung, mine = cell.bound, cell.best_rung(), cell.peers()
    best = min(mine.values(), default=None)
    return [cell.label, number(bound[0]) if bound else "-",
            *(cell.text(peer) if peer in mine else "-" for peer in peers),
            cell.text(rung[0]) if rung else "-", f"`{rung[0]}`" if rung else "-",
            results.percent_text(cell.percent(rung[1])) if rung and bound else "-",
            f"{best / rung[1]:.2f}" if rung and best else "-"]


def geometric_means(cells, peers):
    """How much longer each peer takes than our best rung, and in how many cases at all."""
    contests = {f"`{peer}`": [] for peer in peers}
    contests["the best peer"] = []
    for cell in cells:
        ours, times = cell.best_rung(), cell.peers()
        if ours and times:
            for peer, us in times.items():
                contests[f"`{peer}`"].append(us / ours[1])
            contests["the best peer"].append(min(times.values()) / ours[1])
    lines = [f"{title} {math.exp(sum(map(math.log, ratios)) / len(ratios)):.2f} (ours is faster in "
             f"{sum(ratio > 1 for ratio in ratios)} of {len(ratios)})"
             for title, ratios in contests.items() if ratios]
    return (f"\nA peer's time over ours, both of one process, geometric mean: {', '.join(lines)}."
            if lines else "")


def results_section(gpus, root):
    """README's table, one per GPU."""
    parts = []
    for gpu in gpus:
        cells = results_cells(gpu)
        if not cells:
            continue
        ladder = (ladder_cells(gpu), Cell.rungs,
                  "[The ladder](optimized/README.md) and its lessons quote")
        peers = sorted({peer for cell in cells for peer in cell.peers()})
        titles = ["case", "bound", *peers, "ours", "rung", "of bound", "x best peer"]
        rows = [result_row(cell, peers) for cell in cells]
        parts.append(f"### {gpu.name}\n\nMedian microseconds per call; b batch, K keys per request "
                     "(v varied), h heads, q queries per request.\n\n"
                     f"{table(titles, rows)}\n\n"
                     f"{ceilings_text(gpu)}{lengths_text(cells, root, 'README.md')}"
                     f"{signs_text(quoted_timings(cells, results_quoted))}"
                     f"{geometric_means(cells, peers)}"
                     f"{other_runs(cells, results_quoted, *ladder, root, 'README.md')}"
                     f"\n{sources(cells, results_quoted, root, 'README.md')}")
    return "\n\n".join(parts) or NOTHING


def registers_part(kernel, registers):
    functions = registers.get("kernels", {}).get(kernel)
    if not functions:
        return ""
    rows = [[f"`{f['function']}`", f["arch"], str(f["registers"]), f"{f['smem']:,}",
             f"{f['spill']:,}"] for f in functions]
    return (f"Compiled by nvcc {registers['toolkit']}:\n\n"
            + table(["function", "architecture", "registers", "static shared bytes",
                     "spilled bytes"], rows))


def lesson_row(cell, kernel, expected):
    """expected: by name of the case; no column if there is none at all."""
    bound, us = cell.bound, cell.times[kernel]
    return [cell.label, cell.text(kernel), f"{number(bound[0])} ({bound[1]})" if bound else "-",
            f"{cell.percent(us):.1f} %" if bound else "-",
            *([expected.get(cell.case["name"], "")] if expected else []),
            f"{cell.case['bytes'] / us * 1e-3:,.0f}", f"{cell.case['flop'] / us * 1e-6:,.1f}"]


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise results.ResultError(f"{path}: cannot be read: {error}") from None


class Profile:
    """What mla profile printed about the attention kernel, merges apart, for one number of heads.
    figures: {name: (value with unit, what it says)}; commit: None in files that do not say."""

    def __init__(self, path, heads):
        self.path, self.heads = path, heads
        self.figures, self.commit = {}, None
        try:
            command, _, *lines = _read(path).splitlines()
            self._add(command, lines)
        except ValueError:
            self.figures = {}
        if not self.figures:
            raise results.ResultError(f"{path}: is not what mla profile prints")

    def _add(self, command, lines):
        command = command[command.rindex("mla profile "):]
        self.command = re.sub(" --once| --heads [0-9]+", "", command)
        for line in lines:
            version = re.fullmatch(r"mla \S+ \(commit (\S+)\)", line)
            if version:
                self.commit = version[1]
                continue
            kernel, figure, value, *unit, what = re.split(r"\s{2,}", line.strip())
            if not kernel.startswith("merge"):
                self.figures[figure] = " ".join([value, *unit]), what


def profile_part(kernel, gpu, root, page):
    """The profiler's figures of a rung, a column for each number of heads."""
    profiles = []
    for path in glob.glob(os.path.join(gpu.folder, f"profile_{kernel}_h*.txt")):
        heads = re.search(r"_h(\d+)\.txt$", path)
        if heads:
            profiles.append(Profile(path, int(heads[1])))
    profiles.sort(key=lambda profile: profile.heads)
    if not profiles:
        return ""
    for profile in profiles[1:]:
        if profile.command != profiles[0].command:
            raise results.ResultError(f"{profile.path}: ran {profile.command}, {profiles[0].path} "
                                      f"{profiles[0].command}: one table is of one case")
    links = []
    for profile in profiles:
        link = os.path.relpath(profile.path, os.path.join(root, os.path.dirname(page)))
        commit = f", commit {profile.commit}" if profile.commit else ""
        links.append(f"[{profile.heads} heads]({link}){commit}")
    says = {figure: what for profile in profiles for figure, (_, what) in profile.figures.items()}
    rows = [[f"`{figure}`", *(profile.figures.get(figure, ("-",))[0] for profile in profiles), what]
            for figure, what in says.items()]
    return (f"By the profiler, without the merge (`{profiles[0].command}`, {', '.join(links)}):\n\n"
            + table(["figure", *(f"{profile.heads} heads" for profile in profiles),
                     "what it says"], rows, ["what it says"]))


def load_expected(path, gpus):
    """{case: words} of a lesson. ResultError for a case that no result has."""
    expected = dict(re.findall(r"<!-- expected (\S+): (.*?) -->", _read(path)))
    known = {cell.case["name"] for gpu in gpus for cell in gpu.cells}
    for name in expected:
        if known and name not in known:
            raise results.ResultError(f"{path}: expected {name}: no result has a case of that name")
    return expected


def measured_section(kernel, gpus, registers, root, page):
    """A lesson's section: registers, its time on every case, and the profiler's figures."""
    parts = [registers_part(kernel, registers)]
    expected = load_expected(os.path.join(root, page), gpus)

    def quoted(_):
        return [kernel]

    for gpu in gpus:
        cells = ladder_cells(gpu, lambda cell: kernel in cell.times)
        if cells:
            titles = ["case", "time, us", "bound, us", "of bound",
                      *(["expected"] if expected else []), "GB/s", "TFLOP/s"]
            rows = [lesson_row(cell, kernel, expected) for cell in cells]
            parts.append(f"On {gpu.name}:\n\n{table(titles, rows)}\n\n{ceilings_text(gpu)}"
                         f"{lengths_text(cells, root, page)}"
                         f"{signs_text(quoted_timings(cells, quoted))}"
                         f"{other_runs(cells, quoted, *readme_of(gpu), root, page)}"
                         f"\n{sources(cells, quoted, root, page)}")
        parts.append(profile_part(kernel, gpu, root, page))
    return "\n\n".join(part for part in parts if part) or NOTHING


# ---- pages --------------------------------------------------------------------------------------


def replace_section(page, text, word, section):
    """The text with the section between its marks. ResultError without exactly one pair."""
    begin, end = f"<!-- {word}:begin -->", f"<!-- {word}:end -->"
    pattern = re.compile(f"(?<={re.escape(begin)}\n).*?(?={re.escape(end)})", re.DOTALL)
    if text.count(begin) != 1 or text.count(end) != 1 or not pattern.search(text):
        raise results.ResultError(f"{page}: expected one line {begin} and after it one line {end}, "
                                  "where the figures belong")
    return pattern.sub(lambda _: section + "\n", text)


def sections(root):
    """(page, word of its marks, section) of every page."""
    gpus, registers = find_gpus(root), load_registers(root)
    yield "README.md", "results", results_section(gpus, root)
    page = os.path.join("optimized", "README.md")
    yield page, "ladder", ladder_section(gpus, root, page)
    for path in sorted(glob.glob(os.path.join(root, "optimized", "[0-9]*.md"))):
        page, kernel = os.path.relpath(path, root), os.path.basename(path)[:-len(".md")]
        yield page, "measured", measured_section(kernel, gpus, registers, root, page)


def update(root, check):
    """Writes, or checks, every page; returns how many are bad."""
    bad = 0
    for page, word, section in list(sections(root)):
        path = os.path.join(root, page)
        try:
            old = _read(path)
            new = replace_section(page, old, word, section)
        except results.ResultError as error:
            print(f"docs: {error}", file=sys.stderr)
            bad += 1
            continue
        if new == old:
            continue
        if check:
            print(f"docs: {page}: what stands between its {word} marks is stale; run: make docs",
                  file=sys.stderr)
            bad += 1
        else:
            output.write(path, "own", new)
            print(f"docs: {page} written")
    for sentence in numbers_quoted.unexplained(root):
        print(f"docs: {sentence}", file=sys.stderr)
        bad += 1
    return bad


def draw(root):
    """Draws anew the pictures that are there, each from the first of its files."""
    for folder in sorted(glob.glob(os.path.join(root, "data", "results", "*"))):
        for kind, names in PICTURES.items():
            picture = os.path.join(folder, f"{kind}.svg")
            files = [path for path in (os.path.join(folder, name) for name in names)
                     if os.path.exists(path)]
            if os.path.exists(picture) and files:
                output.write(picture, "svg", plot.draw(plot.parse(
                    [files[0], "-o", picture, "--kind", kind])), inputs=files[:1])
                print(f"docs: {os.path.relpath(picture, root)} drawn")


# ---- registers ----------------------------------------------------------------------------------


def load_registers(root):
    path = os.path.join(root, REGISTERS)
    anew = "write it anew: make docs, where nvcc is"
    if not os.path.exists(path):
        return {}
    try:
        registers = results.load_json(path, "mla-registers", 1)
        for functions in registers["kernels"].values():
            for function in functions:
                for key in ("registers", "smem", "spill"):
                    function[key] += 0
                function["function"], function["arch"], registers["toolkit"]
    except results.ResultError as error:
        raise results.ResultError(f"{error}; {anew}") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise results.ResultError(f"{path}: {type(error).__name__}: {error}; {anew}") from None
    return registers


def _short(function):
    """"void (anonymous namespace)::tile<16>(mla_params)": tile<16>"""
    return function.replace("(anonymous namespace)::", "").removeprefix("void ").split("(")[0]


def write_registers(root, logs, nvcc):
    """registers.json, from what harness/tools/registers.sh reads in the compiler's logs."""
    lines = subprocess.run([os.path.join(HERE, "registers.sh"), *logs], check=True, text=True,
                           stdout=subprocess.PIPE).stdout.splitlines()[1:]
    version = subprocess.run([nvcc, "--version"], check=True, text=True,
                             stdout=subprocess.PIPE).stdout
    kernels = {}
    for line in lines:
        kernel, arch, count, smem, spill, function = line.split(None, 5)
        if re.match(r"\d", kernel):  # a rung, not merge.cu
            kernels.setdefault(kernel, []).append(
                {"function": _short(function), "arch": arch, "registers": int(count),
                 "smem": int(smem), "spill": int(spill)})
    for functions in kernels.values():
        functions.sort(key=lambda f: (f["function"], f["arch"]))
    root_object = {"schema": "mla-registers", "schema_version": 1,
                   "toolkit": re.search(r"release ([\d.]+)", version).group(1),
                   "kernels": dict(sorted(kernels.items()))}
    output.write(os.path.join(root, REGISTERS), "json", json.dumps(root_object, indent=1) + "\n",
                 schema=root_object["schema"])


def main(arguments=None):
    parser = argparse.ArgumentParser(description="Writes what was measured into the pages.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if stale")
    parser.add_argument("--ptxas", nargs="+", metavar="FILE", help="logs of the compiler")
    parser.add_argument("--nvcc", default="nvcc", help="the compiler that wrote them")
    parser.add_argument("--root", default=ROOT, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.check and options.ptxas:
        parser.error("--check writes nothing, --ptxas does")
    try:
        if options.ptxas:
            write_registers(options.root, options.ptxas, options.nvcc)
        if not options.check and plot.matplotlib:
            draw(options.root)
        return 1 if update(options.root, options.check) else 0
    except (results.ResultError, *output.ERRORS) as error:
        print(f"docs: {error}", file=sys.stderr)
        return getattr(error, "code", 3)


if __name__ == "__main__":
    sys.exit(main())
