#!/usr/bin/env python3
"""plot.py - pictures of a result file, or of a trace of the emulator (trace.py).

    python3 harness/python/mla/plot.py RESULT.json -o FILE.svg --kind roofline|rungs|kvlen
    python3 harness/python/mla/plot.py TRACE -o FILE.svg [--from STEP] [--to STEP]

`mla plot` calls it; it needs matplotlib, which brings numpy, and for files that hold no bounds yet
the program mla. Exit codes: 0 good, 2 wrong usage, 3 the file cannot be used, 77 matplotlib is
missing.
"""
import argparse
import io
import math
import os
import sys

try:
    import matplotlib
    import matplotlib.lines
    import matplotlib.text
    import matplotlib.ticker
except ImportError:
    matplotlib = None

if not __package__:  # run by its path: the package is found where it lies, not in its own folder
    sys.path[:1] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from mla import inputs, output, program, results, trace  # noqa: E402
from mla.style import COLOURS, STYLE, settle  # noqa: E402

MAX_PANELS = 6
MARKS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "*"]


def look(names):
    """A colour and a mark for each implementation; no two share both."""
    return {name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKS[i % len(MARKS)]}
            for i, name in enumerate(names)}


def samples(root, options):
    """(measurement, timing) of everything that the options choose."""
    chosen = []
    for measurement in root["measurements"]:
        timing = results.timing_of(measurement, options.mode, options.cache)
        if timing and results.case_matches(measurement, options.case):
            chosen.append((measurement, timing))
    if not chosen:
        words = [f"{name} {getattr(options, name)}" for name in ("case", "mode", "cache")
                 if getattr(options, name)]
        raise results.ResultError(f"{options.file}: no time in it that passed"
                                  + (f" and has {', '.join(words)}" if words else ""))
    return chosen


def names_of(chosen):
    return sorted({m["implementation"] for m, _ in chosen}, key=results.implementation_key)


def conditions(chosen):
    """"graph, cold L2" of all times in the picture; of the CPU's "host"."""
    return "; ".join(mode if mode == "host" else f"{mode}, {cache} L2"
                     for mode, cache in results.ORDER
                     if any((t["mode"], t["cache"]) == (mode, cache) for _, t in chosen))


def machine(root, chosen):
    """What the times in the picture were taken on: the GPU, the CPU, or both."""
    on_cpu = {t["mode"] == "host" for _, t in chosen}
    return " and ".join(name(root) for host, name in ((False, results.gpu_name),
                                                      (True, results.cpu_name)) if host in on_cpu)


def finish(fig, root, chosen, what, notes=()):
    """Title above; below it what the signs mean, and the clocks of the samples."""
    fig.suptitle(f"{what}, {machine(root, chosen)} ({conditions(chosen)})", x=0.01, ha="left")
    signs = "".join(results.sign_of(timing) for _, timing in chosen)
    lines = [*notes, *(f"{sign} {meaning}" for sign, meaning in results.SIGNS.items()
                       if sign in signs)]
    clocks = results.clocks_text(root, [timing for _, timing in chosen])
    if clocks:
        lines.append(clocks)
    if lines:
        fig.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7, color="#555555")


def figure(plt, panels, width, height):
    columns = min(panels, 2)
    rows = math.ceil(panels / columns)
    fig, axes = plt.subplots(rows, columns, squeeze=False,
                             figsize=(width * columns, height * rows))
    for axis in axes.flat[panels:]:
        axis.set_visible(False)
    return fig, list(axes.flat[:panels])


def log_scale(axis):
    """Logarithmic, with plain numbers: 1, 2, 5, 10, 20."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    many = high > 300 * low
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1,) if many else (1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(
        lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def key(fig, entries, unit):
    """A legend beside the panels, where it hides nothing. entries: (look, name); unit: of what the
    marks show."""
    marks = [matplotlib.lines.Line2D([], [], ls=style.get("ls", "none"), lw=1, ms=MARK,
                                     marker=style["marker"], color=style["color"])
             for style, _ in entries]
    fig.legend(marks, [name for _, name in entries], loc="center left", bbox_to_anchor=(1, 0.5),
               title=unit, title_fontsize=8, alignment="left")


def count(number, one, many):
    return f"{number:g} {one if number == 1 else many}"


def panels_of(groups, what):
    """At most MAX_PANELS of a list of groups; says what it leaves out."""
    if len(groups) > MAX_PANELS:
        print(f"plot: {len(groups)} {what}, the first {MAX_PANELS} are drawn; --case chooses",
              file=sys.stderr)
    return groups[:MAX_PANELS]


# ---- marks and labels that do not hide each other -----------------------------------------------

MARK = 5  # points across
LABEL = {"fontsize": 6.5, "color": "#222222"}
# Where a label may stand, in points from its mark: near ones first, on the right first.
PLACES = [(dx * distance, dy * distance)
          for distance in (7, 12, 18, 26, 36, 48, 62, 78, 96, 116, 140)
          for dx, dy in ((1, 0), (1, 0.5), (1, -0.5), (-1, 0), (-1, 0.5), (-1, -0.5), (0.4, 1),
                         (0.4, -1), (-0.4, 1), (-0.4, -1), (1, 0.25), (1, -0.25), (-1, 0.25),
                         (-1, -0.25))]


def spread(axis, points):
    """Places in pixels of marks at points (x, y) in data, so that none hides another: those that
    would are moved to the right, where a roof is no lower."""
    size = (MARK + 1.5) * axis.figure.dpi / 72
    placed = []
    for x, y in axis.transData.transform(points):
        near = [(px, py) for px, py in placed if abs(py - y) < size]
        while any(math.hypot(px - x, py - y) < size for px, py in near):
            x += size / 4
        placed.append((x, y))
    return placed


def put_labels(axis, labels, taken):
    """Writes labels [((x, y) in pixels, text)] where they cover neither each other nor a box (left,
    bottom, right, top) of taken; thin lines lead to those that stand away. Returns how many found
    no place."""
    renderer, left_out = axis.figure.canvas.get_renderer(), 0
    room, scale = axis.get_window_extent(renderer), axis.figure.dpi / 72
    for (x, y), text in labels:
        note = axis.annotate(text, axis.transData.inverted().transform((x, y)), xytext=(0, 0),
                             textcoords="offset points", va="center", **LABEL)
        size = note.get_window_extent(renderer)
        for dx, dy in PLACES:
            left = x + dx * scale - (size.width if dx < 0 else 0)
            bottom = y + dy * scale - size.height / 2
            right, top = left + size.width, bottom + size.height
            inside = room.x0 <= left and right <= room.x1 and room.y0 <= bottom and top <= room.y1
            if inside and not any(left < x1 and x0 < right and bottom < y1 and y0 < top
                                  for x0, y0, x1, y1 in taken):
                taken.append((left, bottom, right, top))
                note.set(position=(dx, dy), ha="left" if dx > 0 else "right")
                if math.hypot(dx, dy) > 8:  # a thin line leads to it
                    axis.annotate("", note.xy, xytext=(dx, dy), textcoords="offset points",
                                  arrowprops={"arrowstyle": "-", "lw": 0.3, "color": "#888888",
                                              "shrinkA": 0, "shrinkB": 0}, zorder=1)
                break
        else:
            note.remove()
            left_out += 1
    return left_out


# ---- roofline -----------------------------------------------------------------------------------

ONE_PANEL = 24  # marks; of more each implementation has a panel of its own


def draw_roofs(axis, ceilings, low, high, on_gpu):
    """The measured ceilings, named along their lines. low, high: FLOP/byte that are shown."""
    read, tensor = ((ceilings or {}).get(key) for key in ("read_gbs", "tensor_tflops"))
    if not on_gpu or not read or not tensor:
        axis.annotate("no measured ceilings in this file" if on_gpu
                      else "ceilings are measured on GPUs alone", (0, 1),
                      xycoords="axes fraction", xytext=(4, -4), textcoords="offset points",
                      va="top", color="#555555")
        return
    ridge = tensor * 1e3 / read
    axis.plot([low, ridge, high], [low * read * 1e-3, tensor, tensor], color="#555555", lw=1.2,
              zorder=1)
    middle = math.sqrt(low * ridge)
    axis.annotate(f"read stream {read:,.0f} GB/s", (middle, middle * read * 1e-3), xytext=(-8, 2),
                  textcoords="offset points", ha="right", color="#555555", fontsize=8)
    axis.annotate(f"tensor cores {tensor:,.0f} TFLOP/s", (high, tensor), xytext=(0, 4),
                  textcoords="offset points", ha="right", color="#555555", fontsize=8)


def roofline_points(chosen):
    """[(FLOP/byte, TFLOP/s, implementation, case, timing)], the highest first."""
    return sorted(((m["case"]["flop"] / m["case"]["bytes"],
                    m["case"]["flop"] / t["median_us"] * 1e-6, m["implementation"],
                    m["case"]["name"], t) for m, t in chosen
                   if m["case"]["flop"] and m["case"]["bytes"]),
                  key=lambda point: (-point[1], point[0], point[2:4]))


def roofline_limits(axis, points, ceilings):
    """Sets and returns the FLOP/byte that are shown: room for labels, and for both roofs."""
    read, tensor = ((ceilings or {}).get(key) for key in ("read_gbs", "tensor_tflops"))
    xs, ys = [x for x, *_ in points], [y for _, y, *_ in points]
    low, high = min(xs) / 2.5, max(xs) * 3.5
    if read and tensor:
        high = max(high, 2e3 * tensor / read)
        ys = ys + [tensor, min(ys + [low * read * 1e-3])]
    axis.set_xlim(low, high)
    axis.set_ylim(min(ys) / 1.8, max(ys) * 1.5)
    log_scale(axis.xaxis)
    log_scale(axis.yaxis)
    return low, high


def line_boxes(axis):
    """Small boxes along the lines that are drawn already."""
    for line in axis.lines:
        ends = axis.transData.transform(line.get_xydata()) if line.get_ls() != "None" else []
        for (x0, y0), (x1, y1) in zip(ends, ends[1:]):
            steps = int(math.hypot(x1 - x0, y1 - y0) / 3) + 1
            for i in range(steps + 1):
                x, y = x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps
                yield x - 2, y - 2, x + 2, y + 2


def draw_marks(axis, points, looks, label):
    """Marks, then their labels; how many found no place. Hollow marks bear a sign."""
    scale = axis.figure.dpi / 72
    placed = spread(axis, [(x, y) for x, y, *_ in points])
    for place, (_, _, name, _, timing) in zip(placed, points):
        axis.plot(*axis.transData.inverted().transform(place), ls="none", ms=MARK, zorder=2,
                  mfc="white" if results.sign_of(timing) else looks[name]["color"], **looks[name])
    renderer, half = axis.figure.canvas.get_renderer(), (MARK / 2 + 1) * scale
    boxes = [(x - half, y - half, x + half, y + half) for x, y in placed]
    boxes += [tuple(text.get_window_extent(renderer).extents) for text in axis.texts]
    boxes += line_boxes(axis)
    return put_labels(axis, list(zip(placed, map(label, points))), boxes)


def draw_roofline(plt, root, chosen):
    points = roofline_points(chosen)
    if not points:
        raise results.ResultError("roofline: no case has work to do")
    names = sorted({name for _, _, name, _, _ in points}, key=results.implementation_key)
    looks = look(names)
    on_gpu = any(t["mode"] != "host" for _, t in chosen)
    ceilings = root.get("ceilings") if on_gpu else None
    together = len(points) <= ONE_PANEL or len(names) == 1
    groups = [names] if together else [[name] for name in names]
    fig, axes = figure(plt, len(groups), 7.2 if together else 6.2, 4.8)
    for axis, group in zip(axes, groups):
        low, high = roofline_limits(axis, points, ceilings)
        draw_roofs(axis, ceilings, low, high, on_gpu)
        axis.set_title(", ".join(group) if len(groups) > 1 or len(group) == 1 else "")
        axis.set_xlabel("useful work per useful byte, FLOP/B")
        axis.set_ylabel("useful work per second, TFLOP/s")
    if together and len(names) > 1:
        key(fig, [(looks[name], name) for name in names], "median over samples, TFLOP/s")
    cases = {case for _, _, _, case, _ in points}
    notes = ["a mark is a case" + (f", {min(cases)}" if len(cases) == 1 else "")
             + "; marks that would hide one another stand side by side, rightwards of their place"
             + "; hollow ones bear a sign below" * any(results.sign_of(t) for _, t in chosen)]
    finish(fig, root, chosen, "Roofline", notes)
    settle(fig)
    left_out = sum(draw_marks(axis, [point for point in points if point[2] in group], looks,
                              lambda point: point[2] if len(cases) == 1 else point[3])
                   for axis, group in zip(axes, groups))
    if left_out:
        print(f"plot: {left_out} of {len(points)} marks have no room for a label; --case chooses",
              file=sys.stderr)
    return fig


# ---- rungs --------------------------------------------------------------------------------------


def by_case(chosen):
    groups = {}
    for measurement, timing in chosen:
        case = measurement["case"]
        groups.setdefault(results.case_key(case), []).append((measurement, timing))
    return groups


def time_text(us):
    for limit, divisor, unit in ((1e3, 1, "us"), (1e6, 1e3, "ms"), (math.inf, 1e6, "s")):
        if us < limit:
            return f"{us / divisor:.3g} {unit}"
    return "?"


def draw_case(axis, group, rows, heading):
    """A line per time: the quartiles as a bar, the median as a dot. rows: their names."""
    bounds = [results.bound_of(m["case"]) if t["mode"] != "host" else None for m, t in group]
    for row, ((measurement, timing), bound) in enumerate(zip(group, bounds)):
        kind = results.kind_of(measurement["implementation"])
        style = {"rung": COLOURS[0], "peer": COLOURS[1], "cpu": COLOURS[6]}[kind]
        axis.plot([timing["q1_us"], timing["q3_us"]], [row, row], color=style, lw=3, alpha=0.4)
        axis.plot(timing["median_us"], row, color=style, ms=MARK,
                  marker={"rung": "o", "peer": "s", "cpu": "^"}[kind])
        share = ", " + results.percent_text(100 * bound[0] / timing["median_us"]) if bound else ""
        axis.annotate(time_text(timing["median_us"]) + results.sign_of(timing) + share,
                      (max(timing["median_us"], timing["q3_us"]), row),
                      xytext=(7, 0), textcoords="offset points", va="center")
        if bound:
            axis.plot([bound[0]] * 2, [row - 0.5, row + 0.5], color="#555555", lw=1, ls="--")
    known = [bound[0] for bound in bounds if bound]
    left = min([timing["q1_us"] for _, timing in group] + known)
    right = max(max(timing["median_us"], timing["q3_us"]) for _, timing in group)
    room = max(right / left, 2)  # the numbers stand to the right of the dots
    axis.set_xlim(left / room**0.1, right * room**0.5)
    log_scale(axis.xaxis)
    axis.set_ylim(len(group) - 0.5, -0.5)
    axis.set_yticks(range(len(group)), rows)
    axis.set_title(heading)
    axis.set_xlabel("time per call, us" + (", and share of the bound (dashed)" if known else ""))


def heading_of(group):
    """A case and its bound, if that is shown."""
    case = group[0][0]["case"]
    bound = results.bound_of(case)
    return case["name"] + (f", bound {time_text(bound[0])} ({bound[1]})"
                           if bound and any(t["mode"] != "host" for _, t in group) else "")


def rungs_panels(chosen):
    """[(times, names of their rows, title)]: one per case. Cases that one implementation alone
    has share a panel, where a row is a case."""
    groups = [sorted(group, key=lambda pair: results.implementation_key(pair[0]["implementation"]))
              for group in by_case(chosen).values()]
    lone = [group[0] for group in groups if len(group) == 1]
    if len(lone) < 2:
        lone = []
    panels = [(group, [m["implementation"] for m, _ in group], heading_of(group))
              for group in groups if not lone or len(group) > 1]
    names = {m["implementation"] for m, _ in lone}
    if lone:
        panels.append((lone, [m["case"]["name"] + (f", {m['implementation']}" if len(names) > 1
                                                   else "") for m, _ in lone],
                       names.pop() if len(names) == 1 else "one implementation each"))
    return panels


def draw_rungs(plt, root, chosen):
    panels = panels_of(rungs_panels(chosen), "cases")
    tallest = max(len(group) for group, _, _ in panels)
    fig, axes = figure(plt, len(panels), 5.8, 1.1 + 0.28 * max(tallest, 2))
    for axis, panel in zip(axes, panels):
        draw_case(axis, *panel)
    finish(fig, root, [time for group, _, _ in panels for time in group], "Time per call",
           ["dots are medians, bars quartiles"])
    return fig


# ---- kvlen --------------------------------------------------------------------------------------


def by_shape(chosen):
    """Cases that differ in the length of the cache alone; those of the most lengths first."""
    groups = {}
    for measurement, timing in chosen:
        case = measurement["case"]
        if case["batch_size"] > 0 and case["kv_tokens"] > 0:
            shape = (case["batch_size"], case["num_heads"], case["total_q"] / case["batch_size"],
                     case.get("kv_len_min") != case.get("kv_len_max"))
            groups.setdefault(shape, []).append((measurement, timing))

    def rank(entry):
        shape, group = entry
        return -len({mean_length(m["case"]) for m, _ in group}), shape

    return dict(sorted(groups.items(), key=rank))


def mean_length(case):
    return case["kv_tokens"] / case["batch_size"]


def draw_shape(axis, shape, group, looks):
    for name, style in looks.items():
        points = sorted((mean_length(m["case"]), t["median_us"], bool(results.sign_of(t)))
                        for m, t in group if m["implementation"] == name)
        if points:
            axis.plot(*list(zip(*points))[:2], ms=4, lw=1, **style)
        for x, y, sign in points:
            if sign:
                axis.plot(x, y, ls="none", ms=4, mfc="white", **style)
    bounds = bounds_of(group)
    if bounds:
        axis.plot(*zip(*bounds), color="#555555", lw=1, ls="--", marker="_")
    axis.set_xscale("log", base=2)
    log_scale(axis.yaxis)
    lengths = []
    for length in sorted({mean_length(m["case"]) for m, _ in group}):
        if not lengths or length > 1.1 * lengths[-1]:  # labels must not overlap
            lengths.append(length)
    axis.set_xticks(lengths, [f"{length:,.0f}" for length in lengths],
                    rotation=45 if len(lengths) > 5 else 0)
    axis.set_xticks([], minor=True)
    axis.set_title("batch {:g}, {}, {} per request{}".format(
        shape[0], count(shape[1], "head", "heads"), count(shape[2], "query", "queries"),
        ", lengths vary" * shape[3]))
    axis.set_xlabel("keys per request (mean)")
    axis.set_ylabel("time per call, us")


def bounds_of(group):
    """[(length, microseconds)] of the bounds of what a GPU ran."""
    found = {(mean_length(m["case"]), results.bound_of(m["case"])) for m, t in group
             if t["mode"] != "host"}
    return sorted((length, bound[0]) for length, bound in found if bound)


def draw_kvlen(plt, root, chosen):
    shapes = by_shape(chosen)
    if not shapes:
        raise results.ResultError("kvlen: every case has an empty batch or cache")
    lines = [(shape, group) for shape, group in shapes.items()
             if len({mean_length(m["case"]) for m, _ in group}) > 1]
    if not lines:
        print("plot: kvlen: no shape in it has two lengths; drawn case by case, as by --kind rungs",
              file=sys.stderr)
        return draw_rungs(plt, root, chosen)
    if len(lines) < len(shapes):
        print(f"plot: {count(len(shapes) - len(lines), 'shape has', 'shapes have')} one length "
              "alone and no line: left out; --kind rungs shows them", file=sys.stderr)
    lines = panels_of(lines, "shapes")
    drawn = [time for _, group in lines for time in group]
    looks = look(names_of(drawn))
    fig, axes = figure(plt, len(lines), 4.6, 3.4)
    for axis, (shape, group) in zip(axes, lines):
        draw_shape(axis, shape, group, looks)
    entries = [({"ls": "-", **style}, name) for name, style in looks.items()]
    if bounds_of(drawn):
        entries.append(({"ls": "--", "marker": "_", "color": "#555555"}, "bound"))
    key(fig, entries, "time per call, us")
    finish(fig, root, drawn, "Time over the length of the cache",
           ["hollow marks bear a sign below"] * any(results.sign_of(t) for _, t in drawn))
    return fig


KINDS = {"roofline": draw_roofline, "rungs": draw_rungs, "kvlen": draw_kvlen}


# ---- the program --------------------------------------------------------------------------------


def step(word):
    if not word.isascii() or not word.isdecimal() or len(word) > 18:
        raise argparse.ArgumentTypeError(f"found \"{word}\", expected the number of a step")
    return int(word)


def parse(arguments):
    parser = inputs.Parser(description="Draws a result file, or a trace of the emulator.")
    parser.add_argument("file", metavar="FILE")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=".svg or .png")
    parser.add_argument("--kind", choices=KINDS, help="roofline if nothing is said")
    parser.add_argument("--case", help="names of cases, a shell pattern")
    parser.add_argument("--mode", choices=["graph", "launch", "host"])
    parser.add_argument("--cache", choices=["cold", "hot"])
    parser.add_argument("--from", dest="begin", metavar="STEP", type=step, help="of a trace: the first")
    parser.add_argument("--to", dest="end", metavar="STEP", type=step, help="of a trace: the last")
    options = parser.parse_args(arguments)
    if not options.output.endswith((".svg", ".png")):
        parser.error(f"-o {options.output}: expected a name that ends in .svg or .png")
    return options


def expect_no(options, names, what):
    """Of options that say nothing about such a file. ResultError."""
    for name, word in names.items():
        if getattr(options, name) is not None:
            raise results.ResultError(f"{options.file}: --{word} is for {what}")


def draw_trace(plt, options):
    expect_no(options, {name: name for name in ("kind", "case", "mode", "cache")},
              "result files, this is a trace")
    plt.rcParams["svg.fonttype"] = "none"  # names by the dozen: as text they take less room
    fig, events = trace.draw(plt, trace.read(options.file), options.begin, options.end)
    if events > trace.MANY:
        print(f"plot: {events} events, too many to tell apart; --from and --to choose steps", file=sys.stderr)
    return fig


def draw_results(plt, options):
    expect_no(options, {"begin": "from", "end": "to"}, "traces, this is none")
    root = program.load_results(options.file)
    return KINDS[options.kind or "roofline"](plt, root, samples(root, options))


def draw(options):
    """The picture's bytes. InputError."""
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    with matplotlib.rc_context(STYLE):
        fig = (draw_trace if trace.is_trace(options.file) else draw_results)(plt, options)
        # no date: the same results give the same file
        kind = options.output[-3:]
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        picture = io.BytesIO()
        fig.savefig(picture, format=kind, metadata=metadata, dpi=160, bbox_inches="tight")
        plt.close(fig)
    return picture.getvalue()


def main(arguments=None):
    options = parse(arguments)
    if matplotlib is None:
        print(f"plot: {sys.executable} has no matplotlib: install python3-matplotlib, or use a "
              "Python that has it", file=sys.stderr)
        return 77
    try:
        with output.Output(options.output, options.output[-3:], inputs=[options.file]) as out:
            out.write(draw(options))
    except (inputs.InputError, *output.ERRORS) as error:
        print(f"plot: {inputs.shown(error)}", file=sys.stderr)
        return getattr(error, "code", 3)
    return 0


if __name__ == "__main__":
    sys.exit(main())
