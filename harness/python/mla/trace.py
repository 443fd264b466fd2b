"""trace.py - a picture of what the emulator's threads waited for (optimized/emulator/trace.cpp): a lane per
warp, bars while it waits, lines from who let it go on.

plot.py draws it for `mla plot` when a file begins as traces do.
"""
import re
import textwrap

try:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path
except ImportError:
    pass  # plot.py says so

from mla import inputs, results
from mla.style import COLOURS, settle

MAGIC = b"mla-trace\t"
COLUMNS = ["begin", "end", "warp", "lanes", "event", "what", "by", "where"]
EVENTS = {"wait", "poll", "arrive", "copy", "mma", "wgmma", "end", "report", "launch"}
FILE_BYTES = 1 << 28
MANY = 2000  # events: of more a picture shows little

# What is waited for, by how it begins: the words of the legend, a colour and a hatch. The last of them: lanes
# that wait for others of their warp, which do something else meanwhile.
WAITS = [("__syncthreads", "waits: __syncthreads", COLOURS[1], ""),
         ("barrier", "waits: named barrier", COLOURS[5], "////"),
         ("mbarrier", "waits: mbarrier", COLOURS[3], "\\\\\\\\"),
         ("the cluster", "waits: barrier of the cluster", COLOURS[2], "xxxx"),
         ("the end of", "waits: the kernel before", COLOURS[6], "...."),
         ("a change of", "waits: global memory", COLOURS[6], ""),
         ("", "waits: lanes of its own warp", "#BBBBBB", "")]


class Row:
    """A line of the file. end: None if it never came."""

    def __init__(self, fields):
        begin, end, warp, lanes, self.event, self.what, self.by, self.where = map(inputs.shown, fields)
        self.begin = int(begin) if begin != "-" else None
        self.end = int(end) if end not in ("-", "never") else None
        self.warp = int(warp) if warp != "-" else None
        self.lanes = lanes
        self.name = self.what.split(":", 1)[0]  # by which others refer to it

    @property
    def waits(self):
        return self.event in ("wait", "poll")

    def last(self, end):
        """Where it ends in a picture that ends there."""
        return end if self.end is None else self.end


class Trace:
    """What a file says. head: of the first line; asides: lines without a step."""

    def __init__(self, head, rows):
        self.head = head
        self.rows = [row for row in rows if row.begin is not None]
        self.asides = [row for row in rows if row.begin is None]

    @property
    def kernel(self):
        number = self.head[1].split(" ", 1)[1]
        return next((row.what.split(": ", 1)[1] for row in self.asides
                     if row.event == "launch" and row.name == number), "no kernel")


def is_trace(path):
    """Does the file begin as traces do? InputError."""
    with inputs.open_regular(path) as file:
        return file.read(len(MAGIC)) == MAGIC


def _bad_field(fields):
    """What is wrong with the fields of a line, or "" if nothing is."""
    number = re.compile(r"[0-9]{1,18}\Z")
    if len(fields) != len(COLUMNS):
        return f"{len(fields)} fields, expected {len(COLUMNS)}"
    begin, end, warp, _, event = fields[:5]
    if event not in EVENTS:
        return f"event \"{event}\", expected one of {', '.join(sorted(EVENTS))}"
    aside = begin == end == "-" and event in ("launch", "report")
    if not aside and not number.match(begin):
        return f"begin \"{begin}\", expected a step"
    if not aside and end != "never" and not (number.match(end) and int(end) >= int(begin)):
        return f"end \"{end}\", expected a step from {begin} on, or never"
    if warp != "-" and not (number.match(warp) and int(warp) < 64):
        return f"warp \"{warp}\", expected 0 to 63 or -"
    return ""


def read(path):
    """A Trace. ResultError."""
    with inputs.open_regular(path) as file:
        data = file.read(FILE_BYTES + 1)
    if len(data) > FILE_BYTES:
        raise results.ResultError(f"{path}: it has more than {FILE_BYTES} bytes, which no trace has that can "
                                  "be drawn")
    lines = data.decode(errors="surrogateescape").split("\n")
    head = lines[0].split("\t")[1:]
    if head[:1] != ["1"] or len(head) != 4:
        raise results.ResultError(f"{path}: its first line is \"{lines[0][:60]}\", expected version 1, seed, "
                                  "launch and block")
    if lines[1:2] != ["\t".join(COLUMNS)]:
        raise results.ResultError(f"{path}: line 2 is not \"{' '.join(COLUMNS)}\"")
    if lines[-1]:
        raise results.ResultError(f"{path}: line {len(lines)} has no end: the file was cut")
    rows = []
    for number, line in enumerate(lines[2:-1], 3):
        fields = line.split("\t")
        bad = _bad_field(fields)
        if bad:
            raise results.ResultError(f"{path}: line {number}: {bad}")
        rows.append(Row(fields))
    trace = Trace([inputs.shown(word) for word in head[1:]], rows)
    if not trace.rows:
        said = "; it says: " + trace.asides[-1].what if trace.asides else ""
        raise results.ResultError(f"{path}: it has no event of the block{said}")
    return trace


# ---- where things stand -------------------------------------------------------------------------


class Set:
    """Copies, or products, that belong together. name: long and short; end: None if some never landed."""

    def __init__(self, event, lane, names):
        self.event, self.lane, self.names, self.rows = event, lane, names, []
        self.y = None

    @property
    def begin(self):
        return min(row.begin for row in self.rows)

    @property
    def end(self):
        ends = [row.end for row in self.rows]
        return None if None in ends else max(ends)


def sets_of(rows):
    """Copies of one group number, of all warps, or for one phase of one mbarrier; products of one group of a
    warpgroup. What is on its way to other blocks is left out."""
    found = {}
    for row in rows:
        if row.event not in ("copy", "wgmma") or " of block " in row.what:
            continue
        label = row.what.split(": ")[1]
        short = label.replace("TMA load for mbarrier ", "").replace("cp.async ", "")
        warpgroup = (row.warp or 0) // 4 * 4
        lane = "copies" if row.event == "copy" else f"wgmma, {warpgroup} to {warpgroup + 3}"
        who = row.warp if "store" in label else None  # groups of these are a thread's own affair
        found.setdefault((lane, label, who), Set(row.event, lane, (label, short))).rows.append(row)
    return sorted(found.values(), key=lambda one: (one.lane, one.begin))


class Lanes:
    """The lanes from top to bottom: warps, copies and products of wgmma as far as there are any, other
    blocks, if one of them let a warp go on."""

    def __init__(self, trace, rows):
        self.names, self.warps, self.bottom = [], {}, 0
        for warp in sorted({row.warp for row in trace.rows if row.warp is not None}):
            self.warps[warp] = self._add(f"warp {warp}", 1)
        self.sets = sets_of(rows)
        self.set_of = {row.name: one for one in self.sets for row in one.rows}
        for lane in dict.fromkeys(one.lane for one in self.sets):
            self._stack(lane, [one for one in self.sets if one.lane == lane])
        others = any(row.by.startswith(("block", "kernel")) for row in rows if row.waits)
        self.others = self._add("other blocks", 1) if others else None

    def _add(self, name, height):
        """Returns its middle."""
        self.bottom += height
        if name:
            self.names.append((self.bottom - height / 2, name))
        return self.bottom - height / 2

    def _stack(self, name, sets):
        """In so many rows that none hides another."""
        ends, places = [], []
        for one in sets:
            row = next((i for i, end in enumerate(ends) if end is not None and end <= one.begin), len(ends))
            if row == len(ends):
                places.append(self._add("" if row else name, 0.8))
            ends[row:row + 1] = [one.end]
            one.y = places[row]


# ---- the picture --------------------------------------------------------------------------------

HALF = 0.36  # of a bar's height


def add_bars(axis, boxes, **style):
    """One shape of boxes (x0, x1, y, half of the height), which keeps files small."""
    corners, codes = [], []
    for x0, x1, y, half in boxes:
        corners += [(x0, y - half), (x1, y - half), (x1, y + half), (x0, y + half), (x0, y - half)]
        codes += [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY]
    if boxes:
        axis.add_patch(PathPatch(Path(corners, codes), **style))


def add_lines(axis, ends, **style):
    """One shape of lines ((x0, y0), (x1, y1))."""
    corners = [corner for pair in ends for corner in pair]
    if corners:
        axis.add_patch(PathPatch(Path(corners, [Path.MOVETO, Path.LINETO] * len(ends)), fill=False, **style))


def add_marks(axis, points, **style):
    if points:
        axis.plot(*zip(*points), ls="none", **style)


class Picture:
    """The steps from begin to end of a trace."""

    def __init__(self, axis, trace, begin, end):
        self.axis, self.begin, self.end = axis, begin, end
        self.rows = [row for row in trace.rows if row.begin <= end and row.last(end) >= begin]
        self.lanes = Lanes(trace, self.rows)
        self.ends = {row.warp: row.begin for row in trace.rows if row.event == "end"}
        self.least = (end - begin) / 500  # of a bar's width, or nobody sees it

    def bar(self, what, y, half):
        """Of a row or a set; as wide as can be seen."""
        end = self.end if what.end is None else what.end
        return min(what.begin, end - self.least), end, y, half

    def warp_bars(self, rows):
        return [self.bar(row, self.lanes.warps[row.warp], HALF) for row in rows]

    def draw_warps(self):
        """Lines while threads of a warp are there, bars while it waits, light ones while it multiplies."""
        add_lines(self.axis, [((0, y), (self.ends.get(warp, self.end), y))
                              for warp, y in self.lanes.warps.items()], color="#999999", lw=0.8, zorder=1)
        add_bars(self.axis, self.warp_bars(row for row in self.rows if row.event == "mma"), facecolor="#DCEAF4",
                 edgecolor=COLOURS[0], lw=0.5, zorder=2, label="mma in the function named")
        waits = [row for row in self.rows if row.waits and row.end != row.begin]
        for i, (begin, label, colour, hatch) in enumerate(WAITS):
            add_bars(self.axis, self.warp_bars(row for row in waits if kind_of(row) == i), facecolor=colour,
                     edgecolor="white", hatch=hatch, lw=0.3, zorder=3 if begin else 1.8, label=label)
        add_marks(self.axis, [(self.end, self.lanes.warps[row.warp]) for row in waits if row.end is None],
                  marker="X", color="black", mec="white", ms=8, clip_on=False, zorder=6, label="never goes on")

    def draw_sets(self):
        for event, label, colour in (("copy", "copies under way", COLOURS[4]),
                                     ("wgmma", "wgmma under way", COLOURS[0])):
            add_bars(self.axis, [self.bar(one, one.y, 0.3) for one in self.lanes.sets if one.event == event],
                     facecolor=colour, edgecolor="white", lw=0.8, alpha=0.5, zorder=2, label=label)

    def draw_who(self):
        """From who let go, lines to who went on."""
        lines, heads, sources, landed, links = [], {"v": [], "^": []}, set(), [], []
        for row in self.rows:
            if not row.waits or row.end is None or not self.begin <= row.end <= self.end:
                continue
            to, source = (row.end, self.lanes.warps[row.warp]), self.source(row.by)
            if isinstance(source, Set):
                landed.append((row.end, to[1] + 0.3))  # below the arrows of barriers
                links.append(((row.end, source.y - 0.3), landed[-1]))
            elif row.begin != row.end and source not in (None, to[1]):
                lines.append(((row.end, source), to))
                sources.add((row.end, source))
                heads["v" if source < to[1] else "^"].append(to)
        add_lines(self.axis, links, color=COLOURS[0], lw=0.5, zorder=1.5)
        add_marks(self.axis, landed, marker="^", color=COLOURS[0], mec="white", mew=0.4, ms=5, zorder=5,
                  label="what it waited for has landed")
        add_lines(self.axis, lines, color="black", lw=0.7, zorder=4)
        for marker, points in heads.items():
            add_marks(self.axis, points, marker=marker, color="black", ms=3.5, zorder=5)
        add_marks(self.axis, sorted(sources), marker="o", color="black", ms=3.5, zorder=5,
                  label="lets others go on, where lines lead")

    def source(self, by):
        """The lane, or the set of copies, of who let a row go on. None: nobody that is shown."""
        words = by.split(" ")
        if words[0] == "warp":
            return self.lanes.warps.get(int(words[1]))
        return self.lanes.set_of.get(by) or (self.lanes.others if words[0] in ("block", "kernel") else None)

    def draw_reports(self):
        """Lines, numbered; the sentences."""
        reports = [row for row in self.rows if row.event == "report"]
        for number, row in enumerate(reports, 1):
            self.axis.axvline(row.begin, color="#C00000", lw=1, ls="--", zorder=5)
            self.axis.annotate(str(number), (row.begin, 0), xytext=(2, 2), textcoords="offset points",
                               color="#C00000", fontsize=8)
        return [f"{number}  {row.what}" for number, row in enumerate(reports, 1)]

    def write_names(self):
        """In the bars that have room for them."""
        renderer = self.axis.figure.canvas.get_renderer()
        places = [(one.begin, one.end, one.y, one.names) for one in self.lanes.sets]
        places += [(row.begin, row.end, self.lanes.warps[row.warp], (row.name[7:],))
                   for row in self.rows if row.event == "mma"]
        for x0, x1, y, names in places:
            x0, x1 = max(x0, self.begin), self.end if x1 is None else min(x1, self.end)
            left, right = (place[0] for place in self.axis.transData.transform([(x0, y), (x1, y)]))
            for name in names:
                text = self.axis.text((x0 + x1) / 2, y, name, ha="center", va="center", fontsize=6.5, zorder=4)
                if text.get_window_extent(renderer).width < right - left - 2:
                    break
                text.remove()

    def draw(self):
        """All but the names; the sentences of reports."""
        self.axis.set_xlim(self.begin, self.end)
        self.axis.set_ylim(self.lanes.bottom, 0)
        self.axis.set_yticks(*zip(*self.lanes.names))
        self.draw_warps()
        self.draw_sets()
        self.draw_who()
        return self.draw_reports()


def kind_of(row):
    return next(i for i, (begin, *_) in enumerate(WAITS) if row.what.startswith(begin))


def interval(trace, begin, end):
    """The steps that are shown. ResultError."""
    last = max(row.last(row.begin) for row in trace.rows)
    if any(row.end is None for row in trace.rows):
        last += last // 25 + 1  # room for what never ends
    begin, end = begin or 0, last if end is None else min(end, last)
    if begin >= end:
        raise results.ResultError(f"--from {begin}: expected a step before {end}, where the picture ends")
    return begin, end


def draw(plt, trace, begin, end):
    """A figure of the steps from begin to end (None: all); what there is to say about it. ResultError."""
    begin, end = interval(trace, begin, end)
    fig, axis = plt.subplots()
    picture = Picture(axis, trace, begin, end)
    fig.set_size_inches(11, picture.lanes.bottom * 0.3 + 1)
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    notes = picture.draw()
    axis.set_xlabel("steps of the block: accesses to memory and instructions of a warp, of each thread; not time, "
                    "and who goes first is the emulator's choice", fontsize=7.5, loc="left", color="#555555")
    fig.suptitle(f"{trace.head[2]} of {trace.kernel}, {trace.head[1]}, {trace.head[0]}", x=0.01, ha="left")
    legend = fig.legend(loc="upper left", bbox_to_anchor=(0, 0), ncol=4, fontsize=7.5)
    settle(fig)
    below = fig.transFigure.inverted().transform(legend.get_window_extent(fig.canvas.get_renderer()))[0][1]
    fig.text(0.01, below - 0.1 / fig.get_size_inches()[1], "\n".join(textwrap.fill(note, 170) for note in notes), va="top", fontsize=7.5,
             color="#C00000")
    picture.write_names()
    return fig, len(picture.rows)
