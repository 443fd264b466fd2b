#!/usr/bin/env python3
"""map.py - draws the rooms of the house from harness/layers.def.

    harness/tools/map.py [--check]

Writes harness/map.svg: a box per room with the words behind its line, higher rooms above those that
they may include. An arrow that follows from two others is left out. --check writes nothing and fails
if the picture is not what the table says. Needs Python alone.
"""
import html
import itertools
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.append(os.path.join(HERE, "..", "python", "mla"))  # the package itself wants numpy

import output  # noqa: E402

TABLE = os.path.join(HERE, "..", "layers.def")
PICTURE = os.path.join(HERE, "..", "map.svg")
WIDTH, HEIGHT, GAP_X, GAP_Y, MARGIN = 178, 46, 22, 34, 14


def read_table():
    """{room: (rooms that it may include, words)}, in the order of the table."""
    rooms = {}
    with open(TABLE, encoding="utf-8") as file:
        for line in file:
            names, _, words = line.partition("#")
            names = names.split()
            if names:
                rooms[names[0]] = (names[1:], words.strip())
    return rooms


def reach(rooms, room):
    """All that a room may include, directly or not."""
    found = set()
    for below in rooms[room][0]:
        found |= {below} | reach(rooms, below)
    return found


def arrows(rooms):
    """Without those that follow from others."""
    return [(room, below) for room, (list_, _) in rooms.items() for below in list_
            if not any(below in reach(rooms, other) for other in list_ if other != below)]


def floors(rooms):
    """{room: floor}, as low as the arrows allow; rooms without any arrow are left out."""
    pairs = arrows(rooms)
    floor = {}
    for room in rooms:
        below = [floor[b] for a, b in pairs if a == room]
        floor[room] = 1 + max(below) if below else 0
    ends = {room for pair in pairs for room in pair}
    # a room that includes nothing stands right below the one that it serves
    for room in rooms:
        above = [floor[a] for a, b in pairs if b == room]
        if floor[room] == 0 and above:
            floor[room] = min(above) - 1
    return {room: floor[room] for room in rooms if room in ends}


def cost(pairs, floor, column):
    """How hard the arrows are to follow: sideways ways, boxes that are crossed, arrows that cross."""
    total = 0.0
    for above, below in pairs:
        total += abs(column[above] - column[below])
        steps = floor[above] - floor[below]
        for level in range(floor[below] + 1, floor[above]):
            share = (level - floor[below]) / steps
            at = column[below] + share * (column[above] - column[below])
            total += sum(9 for room in column
                         if floor[room] == level and abs(column[room] - at) < 0.6)
    for i, (a, b) in enumerate(pairs):
        for c, d in pairs[:i]:
            shared = min(floor[a], floor[c]) > max(floor[b], floor[d])
            if shared and (column[a] - column[c]) * (column[b] - column[d]) < 0:
                total += 2
    return total


def columns(rooms, floor, count):
    """{room: column}: every floor in turn takes its best order, until none can do better."""
    pairs = arrows(rooms)
    rows = [[room for room in floor if floor[room] == level]
            for level in range(max(floor.values()) + 1)]
    column = {room: i for row in rows for i, room in enumerate(row)}
    best = cost(pairs, floor, column)
    better = True
    while better:
        better = False
        for row in rows:
            for order in itertools.permutations(range(count), len(row)):
                trial = {**column, **dict(zip(row, order))}
                if cost(pairs, floor, trial) < best - 1e-9:
                    column, best, better = trial, cost(pairs, floor, trial), True
    return column


def place(rooms):
    """{room: (x, y)} of the box's upper left corner, and the picture's size."""
    floor = floors(rooms)
    top = max(floor.values())
    count = max(3, max(list(floor.values()).count(level) for level in range(top + 1)))
    column = columns(rooms, floor, count)
    position = {room: (MARGIN + column[room] * (WIDTH + GAP_X),
                       MARGIN + (top - floor[room]) * (HEIGHT + GAP_Y)) for room in floor}
    outside = [room for room in rooms if room not in floor]
    right = MARGIN + count * (WIDTH + GAP_X)
    for i, room in enumerate(outside):
        position[room] = (right, MARGIN + i * (HEIGHT + GAP_Y))
    return position, (right + (WIDTH if outside else -GAP_X) + MARGIN,
                      2 * MARGIN + (top + 1) * HEIGHT + top * GAP_Y)


def draw(rooms):
    position, (width, height) = place(rooms)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
        "<title>Rooms and who may include whom</title>",
        f'<desc>{html.escape(describe(rooms))}</desc>',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for above, below in arrows(rooms):
        (ax, ay), (bx, by) = position[above], position[below]
        x1, x2 = ax + WIDTH / 2, bx + WIDTH / 2
        y1, y2 = ay + HEIGHT, by
        lines.append(f'<path d="M{x1:g} {y1:g}L{x2:g} {y2:g}" stroke="#555" '
                     'stroke-width="1.3" marker-end="url(#head)"/>')
    for room, (_, words) in rooms.items():
        x, y = position[room]
        fill = "#e8f0fb" if "/" not in room and room not in ("reference", "optimized") else "#f6efe0"
        lines += [
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" '
            'stroke="#446"/>',
            f'<text x="{x + WIDTH / 2:g}" y="{y + 19}" text-anchor="middle" font-size="14" '
            f'font-weight="bold" fill="#223">{html.escape(room)}</text>',
            f'<text x="{x + WIDTH / 2:g}" y="{y + 36}" text-anchor="middle" font-size="11" '
            f'fill="#445">{html.escape(words)}</text>',
        ]
    return "\n".join(lines + ["</svg>", ""])


def describe(rooms):
    """The same in words, for those who do not see the picture."""
    said = [f"{room} includes {', '.join(b for a, b in arrows(rooms) if a == room)}"
            for room, (below, _) in rooms.items() if below]
    return "; ".join(said) + ", each also what those include."


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__.split("\n\n")[1], file=sys.stderr)
        return 2
    picture = draw(read_table())
    if "--check" not in sys.argv:
        try:
            output.write(PICTURE, "svg", picture)
        except output.ERRORS as error:
            print(f"map: {error}", file=sys.stderr)
            return error.code
        return 0
    with open(PICTURE, encoding="utf-8") as file:
        if file.read() == picture:
            return 0
    print("harness/map.svg is not what harness/layers.def says; run: make docs", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
