#!/usr/bin/env python3
"""plot.py - pictures of a result file.

    python3 harness/python/mla/plot.py RESULT.json -o FILE.svg --kind roofline|rungs|kvlen

`mla plot` calls it; it needs matplotlib, which brings numpy, and for files that hold no bounds yet
the program mla. Exit codes: 0 good, 2 wrong usage, 3 the file cannot be used, 77 matplotlib is
missing.
"""
import argparse
import math
import os
import sys

try:
    import matplotlib
    import matplotlib.ticker
except ImportError:
    matplotlib = None

if not __package__:  # run by its path: the package is found where it lies, not in its own folder
    sys.path[:1] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from mla import program, results  # noqa: E402

MAX_PANELS = 6
# Okabe and Ito's palette without its yellow, which is faint on white; marks differ as well, so that
# no picture depends on colour.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
MARKS = ["o", "s", "^", "D", "v", "P", "X", "<", ">", "*"]
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
         "axes.titlesize": 9, "legend.frameon": False, "svg.hashsalt": "mla",
         "figure.constrained_layout.use": True, "axes.titlelocation": "left"}


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
    """"graph, cold L2" of all times in the picture."""
    return "; ".join(f"{mode}, {cache} L2" for mode, cache in results.ORDER
                     if any((t["mode"], t["cache"]) == (mode, cache) for _, t in chosen))


def title(root, chosen, what):
    return f"{what}, {results.gpu_name(root)} ({conditions(chosen)})"


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


def count(number, one, many):
    return f"{number:g} {one if number == 1 else many}"


def panels_of(groups, what):
    """At most MAX_PANELS of a dict of groups; says what it leaves out."""
    if len(groups) > MAX_PANELS:
        print(f"plot: {len(groups)} {what}, the first {MAX_PANELS} are drawn; --case chooses",
              file=sys.stderr)
    return dict(list(groups.items())[:MAX_PANELS])


# ---- roofline -----------------------------------------------------------------------------------


def draw_roofs(axis, ceilings, low, high):
    """The measured ceilings, named along their lines. low, high: FLOP/byte that are shown."""
    read, tensor = ((ceilings or {}).get(key) for key in ("read_gbs", "tensor_tflops"))
    if not read or not tensor:
        axis.set_title("no measured ceilings in this file", color="#555555")
        return
    ridge = tensor * 1e3 / read
    high = max(high, 2 * ridge)
    axis.plot([low, ridge, high], [low * read * 1e-3, tensor, tensor], color="#555555", lw=1.2,
              zorder=1)
    middle = math.sqrt(low * ridge)
    axis.annotate(f"read stream {read:,.0f} GB/s", (middle, middle * read * 1e-3), xytext=(-8, 2),
                  textcoords="offset points", ha="right", color="#555555")
    axis.annotate(f"tensor cores {tensor:,.0f} TFLOP/s", (high, tensor), xytext=(0, 4),
                  textcoords="offset points", ha="right", color="#555555")


def draw_roofline(plt, root, chosen):
    looks = look(names_of(chosen))
    fig, (axis,) = figure(plt, 1, 7.2, 4.4)
    intensities = []
    for name, style in looks.items():
        points = [(m["case"]["flop"] / m["case"]["bytes"],
                   m["case"]["flop"] / t["median_us"] * 1e-6) for m, t in chosen
                  if m["implementation"] == name and m["case"]["flop"] and m["case"]["bytes"]]
        intensities += [x for x, _ in points]
        axis.plot([x for x, _ in points], [y for _, y in points], ls="none", ms=5, label=name,
                  zorder=2, **style)
    draw_roofs(axis, root.get("ceilings"), min(intensities, default=1) / 2,
               max(intensities, default=1) * 2)
    log_scale(axis.xaxis)
    log_scale(axis.yaxis)
    axis.set_xlabel("useful work per useful byte, FLOP/B")
    axis.set_ylabel("useful work per second, TFLOP/s")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    fig.suptitle(title(root, chosen, "Roofline"), x=0.01, ha="left")
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


def draw_case(axis, group):
    """One line per implementation: the quartiles as a bar, the median as a dot."""
    group = sorted(group, key=lambda pair: results.implementation_key(pair[0]["implementation"]))
    case = group[0][0]["case"]
    bound = results.bound_of(case)
    for row, (measurement, timing) in enumerate(group):
        kind = results.kind_of(measurement["implementation"])
        style = {"rung": COLOURS[0], "peer": COLOURS[1], "cpu": COLOURS[6]}[kind]
        axis.plot([timing["q1_us"], timing["q3_us"]], [row, row], color=style, lw=3, alpha=0.4)
        axis.plot(timing["median_us"], row, color=style, ms=5,
                  marker={"rung": "o", "peer": "s", "cpu": "^"}[kind])
        share = ", " + results.percent_text(100 * bound[0] / timing["median_us"]) if bound else ""
        axis.annotate(time_text(timing["median_us"]) + share, (timing["median_us"], row),
                      xytext=(7, 0), textcoords="offset points", va="center")
    times = [timing["median_us"] for _, timing in group]
    left, right = min(times + [bound[0]] if bound else times), max(times)
    if bound:
        axis.axvline(bound[0], color="#555555", lw=1, ls="--")
    room = max(right / left, 2)  # the numbers stand to the right of the dots
    axis.set_xlim(left / room**0.1, right * room**0.5)
    log_scale(axis.xaxis)
    axis.set_ylim(len(group) - 0.5, -0.5)
    axis.set_yticks(range(len(group)), [m["implementation"] for m, _ in group])
    axis.set_title(case["name"] + (f", bound {time_text(bound[0])} ({bound[1]})" if bound else ""))
    axis.set_xlabel("time per call, us" + (", and share of the bound" if bound else ""))


def draw_rungs(plt, root, chosen):
    groups = panels_of(by_case(chosen), "cases")
    tallest = max(len(group) for group in groups.values())
    fig, axes = figure(plt, len(groups), 5.6, 1.1 + 0.28 * tallest)
    for axis, group in zip(axes, groups.values()):
        draw_case(axis, group)
    fig.suptitle(title(root, chosen, "Time per call"), x=0.01, ha="left")
    return fig


# ---- kvlen --------------------------------------------------------------------------------------


def by_shape(chosen):
    """Cases that differ in the length of the cache alone; those of the most lengths first."""
    groups = {}
    for measurement, timing in chosen:
        case = measurement["case"]
        if case["batch_size"] > 0 and case["kv_tokens"] > 0:
            shape = (case["batch_size"], case["num_heads"], case["total_q"] / case["batch_size"])
            groups.setdefault(shape, []).append((measurement, timing))

    def rank(entry):
        shape, group = entry
        return -len({mean_length(m["case"]) for m, _ in group}), shape

    return dict(sorted(groups.items(), key=rank))


def mean_length(case):
    return case["kv_tokens"] / case["batch_size"]


def draw_shape(axis, shape, group, looks):
    for name, style in looks.items():
        points = sorted((mean_length(m["case"]), t["median_us"]) for m, t in group
                        if m["implementation"] == name)
        if points:
            axis.plot(*zip(*points), ms=4, lw=1, label=name, **style)
    bounds = {(mean_length(m["case"]), results.bound_of(m["case"])) for m, _ in group}
    bounds = sorted((length, bound[0]) for length, bound in bounds if bound)
    if bounds:
        axis.plot(*zip(*bounds), color="#555555", lw=1, ls="--", marker="_", label="bound")
    axis.set_xscale("log", base=2)
    log_scale(axis.yaxis)
    lengths = []
    for length in sorted({mean_length(m["case"]) for m, _ in group}):
        if not lengths or length > 1.1 * lengths[-1]:  # labels must not overlap
            lengths.append(length)
    axis.set_xticks(lengths, [f"{length:,.0f}" for length in lengths],
                    rotation=30 if len(lengths) > 5 else 0)
    axis.set_xticks([], minor=True)
    axis.set_title("batch {:g}, {}, {} per request".format(
        shape[0], count(shape[1], "head", "heads"), count(shape[2], "query", "queries")))
    axis.set_xlabel("keys per request (mean)")
    axis.set_ylabel("time per call, us")


def draw_kvlen(plt, root, chosen):
    groups = panels_of(by_shape(chosen), "shapes")
    if not groups:
        raise results.ResultError("kvlen: every case has an empty batch or cache")
    looks = look(names_of(chosen))
    fig, axes = figure(plt, len(groups), 4.6, 3.4)
    for axis, (shape, group) in zip(axes, groups.items()):
        draw_shape(axis, shape, group, looks)
    legend = dict(entry[::-1] for axis in axes for entry in zip(*axis.get_legend_handles_labels()))
    fig.legend(legend.values(), legend, loc="center left", bbox_to_anchor=(1, 0.5))
    fig.suptitle(title(root, chosen, "Time over the length of the cache"), x=0.01, ha="left")
    return fig


KINDS = {"roofline": draw_roofline, "rungs": draw_rungs, "kvlen": draw_kvlen}


# ---- the program --------------------------------------------------------------------------------


def parse(arguments):
    parser = argparse.ArgumentParser(description="Draws a result file.")
    parser.add_argument("file", metavar="RESULT.json")
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=".svg or .png")
    parser.add_argument("--kind", choices=KINDS, default="roofline")
    parser.add_argument("--case", help="names of cases, a shell pattern")
    parser.add_argument("--mode", choices=["graph", "launch"])
    parser.add_argument("--cache", choices=["cold", "hot"])
    options = parser.parse_args(arguments)
    if not options.output.endswith((".svg", ".png")):
        parser.error(f"-o {options.output}: expected a name that ends in .svg or .png")
    return options


def draw(options):
    """Writes the picture. ResultError."""
    root = program.load_results(options.file)
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    with matplotlib.rc_context(STYLE):
        fig = KINDS[options.kind](plt, root, samples(root, options))
        # no date: the same results give the same file
        metadata = {"Date": None} if options.output.endswith(".svg") else {"Software": None}
        partial = options.output[:-4] + ".partial" + options.output[-4:]
        try:
            fig.savefig(partial, metadata=metadata, dpi=160, bbox_inches="tight")
            os.replace(partial, options.output)
        except OSError as error:
            raise results.ResultError(f"{options.output}: cannot be written: {error.strerror}") \
                from None
        plt.close(fig)


def main(arguments=None):
    options = parse(arguments)
    if matplotlib is None:
        print(f"plot: {sys.executable} has no matplotlib: install python3-matplotlib, or use a "
              "Python that has it", file=sys.stderr)
        return 77
    try:
        draw(options)
    except results.ResultError as error:
        print(f"plot: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
