#!/usr/bin/env python3
"""plant.py - copies of kernels that have all planted defects in them at once, each behind a question
asked while the kernel runs: is EMULATE_DEFECT this one's number?

    tests/wrong/sync/plant.py FOLDER SOURCE...

writes FOLDER/SOURCE for each, and FOLDER/defects.txt: number, file, line and name of each defect.
So a program is compiled once for all of its defects. With EMULATE_DEFECT unset a copy does what its
source does; a line has the number that it has there (#line).

Three kinds come from the sources themselves: each call that synchronises is left out, and where it
takes a count or a parity, that is off by one; each index into a ring of stages (... % STAGES, at.stage)
names the next and the stage before. What else can go wrong is in defects.def, by hand. needless.def names
those of the former with which nothing goes wrong, and why.

Exit codes: 0 good, 2 wrong usage, 3 a source or a list cannot be used.
"""
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.normpath(os.path.join(HERE, "..", "..", ".."))
BY_HAND = os.path.join(HERE, "defects.def")
NEEDLESS = os.path.join(HERE, "needless.def")

# Calls that are left out: their names, and what stands in their place ({0}, {1}: arguments).
NOTHING = "(void)0"
CALLS = [
    (r"__syncthreads|__syncwarp|__threadfence(?:_block|_system)?", NOTHING),
    (r"__syncthreads_(?:or|and)", "({0})"),
    (r"barrier_sync|barrier_arrive|group_sync", NOTHING),
    (r"barrier_or", "({1})"),
    (r"cluster_(?:sync|arrive|arrive_relaxed|wait)", NOTHING),
    (r"cp_async_(?:commit|wait)", NOTHING),
    (r"mbarrier_(?:init|init_fence|expect|wait|arrive)(?:_cluster|_if|_relaxed)*", NOTHING),
    (r"mbarrier_(?:try|test)(?:_cluster)?", "true"),
    (r"fence_proxy_async(?:_global)?", NOTHING),
    (r"wgmma_(?:fence|commit|wait)", NOTHING),
    (r"bulk_(?:commit|wait|wait_read)", NOTHING),
    (r"let_next_start|wait_for_previous", NOTHING),
]
# What else is wrong with some of them: names, what the defect is called, the call in its place, of
# {name}, {types} (template arguments with their brackets), {inner} (without) and arguments.
VARIANTS = [
    (r"(?:cp_async|wgmma|bulk)_wait(?:_read)?", "one group too few", "{name}<({inner}) + 1>()"),
    (r"mbarrier_(?:wait|try|test)(?:_cluster)?", "the other parity", "{name}({0}, ({1}) ^ 1)"),
    (r"mbarrier_init", "one arrival more", "{name}({0}, ({1}) + 1)"),
    (r"mbarrier_init", "one arrival fewer", "{name}({0}, ({1}) - 1)"),
    (r"mbarrier_expect", "16 bytes more", "{name}({0}, ({1}) + 16)"),
    (r"mbarrier_expect", "16 bytes fewer", "{name}({0}, ({1}) - 16)"),
    (r"mbarrier_arrive_cluster", "relaxed", "{name}_relaxed({all})"),
    (r"cluster_arrive", "relaxed", "{name}_relaxed()"),
]
WITHOUT = "without"
# In a new text: is the defect there? Then this text stands in place of the old one in any case.
ASKED = "PLANTED"


class Bad(Exception):
    """A sentence for whoever wrote the source or the list."""


class Defect:
    """One way to be wrong. expect: what the report has to say, a regular expression, or None."""

    def __init__(self, file, line, kind, what):
        self.file, self.line, self.kind, self.what = file, line, kind, what
        self.number, self.expect, self.note, self.needless = 0, None, "", None

    @property
    def name(self):
        return f"{self.kind}: {self.what}" if self.kind else self.what


class Edit:
    """A place of a source, and what stands there if the defect is planted; a statement or a part of
    an expression."""

    def __init__(self, start, end, new, defect):
        self.start, self.end, self.new, self.defect = start, end, new, defect

    def write(self, old):
        """old may have several lines, new has one."""
        asked = f"planted({self.defect.number})"
        if ASKED in self.new:
            return self.new.replace(ASKED, asked)
        if old.rstrip()[-1] in ";}":
            return f"{{ if ({asked}) {{ {self.new} }} else {{ {old} }} }}"
        return f"({asked} ? {self.new} : {old})"


# ---- reading a source ---------------------------------------------------------------------------


NO_CODE = re.compile(r"""(?P<comment>/\*.*?\*/|//[^\n]*)
                         |(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
                         |(?P<directive>^[ \t]*\#(?:[^\n]*\\\n)*[^\n]*)""", re.S | re.M | re.X)


def without(text, *kinds):
    """The same length and lines, but blanks in place of what is no code, of these kinds."""
    return NO_CODE.sub(lambda m: re.sub(r"[^\n]", " ", m.group()) if m.lastgroup in kinds else m.group(),
                       text)


def line_of(text, at):
    return text.count("\n", 0, at) + 1


def closing(code, at):
    """Behind the bracket that closes the one at this place."""
    depth = 0
    for i in range(at, len(code)):
        if code[i] in "([{":
            depth += 1
        elif code[i] in ")]}":
            depth -= 1
            if depth == 0:
                return i + 1
    return len(code)


def opening(code, at):
    """The bracket that the one at this place closes."""
    depth = 0
    for i in range(at, -1, -1):
        if code[i] in ")]}":
            depth += 1
        elif code[i] in "([{":
            depth -= 1
            if depth == 0:
                return i
    return 0


def arguments(code, begin, end):
    """What stands between commas, from begin to end; brackets keep their commas."""
    found, depth, start = [], 0, begin
    for i in range(begin, end):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(code[i], 0)
        if code[i] == "," and depth == 0:
            found.append((start, i))
            start = i + 1
    if code[start:end].strip():
        found.append((start, end))
    return found


def is_call(code, start, end):
    """Neither a definition nor a declaration."""
    if re.match(r"\s*(?:const\s*)?\{", code[end:]):
        return False
    word = re.search(r"(\w+)\s*$", code[:start])
    if word:
        return word.group(1) in ("else", "return", "do")
    return True


def one_line(text):
    return " ".join(text.split())


# ---- what the source itself shows ---------------------------------------------------------------


def calls(text, code, file):
    """Edits of each call that synchronises."""
    names = re.compile(r"\b(" + "|".join(names for names, _ in CALLS) + r")\b\s*(<[^<>;(){}]*>)?\s*\(")
    for found in names.finditer(code):
        start, end = found.start(), closing(code, found.end() - 1)
        if not is_call(code, start, end):
            continue
        name, types = found.group(1), found.group(2) or ""
        words = [one_line(code[a:b]) for a, b in arguments(code, found.end(), end - 1)]
        named = {"name": name, "types": types, "inner": types[1:-1], "all": ", ".join(words)}
        what, line = one_line(code[start:end]), line_of(text, start)
        ways = [(WITHOUT, instead) for match, instead in CALLS if re.fullmatch(match, name)]
        ways += [(kind, new) for match, kind, new in VARIANTS if re.fullmatch(match, name)]
        for kind, new in ways:
            yield Edit(start, end, new.format(*words, **named), Defect(file, line, kind, what))


def stages(text, code, file):
    """Edits of each index into a ring: ... % STAGES, and .stage of a place that is kept."""
    of_two = re.search(r"\bSTAGES = 2\b", code)
    ways = [("the other stage", "1")] if of_two else [("the next stage", "1"), ("the stage before", "STAGES - 1")]
    for found in re.finditer(r"%\s*STAGES\b|(?<![+-])\b(?:\w+\.)+stage\b(?!\s*[-+*/%^&|=<>!]?=)", code):
        start, end = found.span()
        if found.group()[0] == "%":
            before = code[:start].rstrip()
            start = opening(code, len(before) - 1) if before[-1] == ")" else len(before)
            start = re.search(r"\w*$", code[:start]).start()
            index = one_line(code[start:len(before)])
        else:
            index = found.group()
        for kind, by in ways:
            yield Edit(start, end, f"({index} + {by}) % STAGES",
                       Defect(file, line_of(text, start), kind, one_line(code[start:end])))


# ---- what the lists say -------------------------------------------------------------------------


def rows(path, fields, needed):
    """Lines of a list, cut at " | "; so many fields, or fewer, but as many as are needed."""
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.strip() or line.startswith("#"):
                continue
            row = [word.strip() for word in re.split(r"\s\|(?:\s|$)", line.rstrip("\n"))]
            if not needed <= len(row) <= fields:
                raise Bad(f"{path}:{number}: {len(row)} fields, expected {needed} to {fields} with "
                          "\" | \" between")
            yield number, row + [""] * (fields - len(row))


def places(text, before, old, after):
    """Where a text stands between two others; any white space is as good as another."""
    def loose(words):
        blank = r"\s*" if words[:1].isspace() else "", r"\s*" if words[-1:].isspace() else ""
        return blank[0] + r"\s+".join(re.escape(word) for word in words.split()) + blank[1]

    pattern = f"{loose(before)}({loose(old.strip())}){loose(after)}"
    return [(m.start(1), m.end(1)) for m in re.finditer(pattern, text)]


def by_hand(text, file, path):
    """Edits that a list asks for. Behind a file's name may stand ":2" (the second place where the old
    text stands) or ":all"; where two @ stand in it, only what is between
    them is replaced. Lines of one file and name, one behind the other, are one defect."""
    defects, last = {}, None
    for number, (name, where, old, new, expect, note) in rows(path, 6, 4):
        basename, _, which = where.partition(":")
        if basename != os.path.basename(file):
            continue
        parts = old.split("@")
        if len(parts) not in (1, 3):
            raise Bad(f"{path}:{number}: {len(parts) - 1} @ in \"{old}\", expected two or none")
        found = places(text, *(parts if len(parts) == 3 else ("", old, "")))
        if which == "all" and found:
            chosen = found
        elif which.isdigit() and 1 <= int(which) <= len(found):
            chosen = [found[int(which) - 1]]
        elif not which and len(found) == 1:
            chosen = found
        else:
            expected = f"place {which}" if which else "one place, or FILE:2 or FILE:all"
            raise Bad(f"{path}:{number}: \"{old}\" stands in {len(found)} places of {file}, expected "
                      f"{expected}")
        if name in defects and name != last:
            raise Bad(f"{path}:{number}: \"{name}\" of {file} stands further up already")
        last = name
        if name not in defects:
            defects[name] = Defect(file, line_of(text, chosen[0][0]), "", name)
            defects[name].expect, defects[name].note = expect, note
        try:
            re.compile(expect)
        except re.error as error:
            raise Bad(f"{path}:{number}: \"{expect}\" is no regular expression: {error}") from error
        for start, end in chosen:
            if ASKED not in new and not is_whole(text, start, end):
                raise Bad(f"{path}:{number}: \"{old}\" begins in the middle of a statement, or is the body "
                          f"of one and goes on behind it")
            yield Edit(start, end, new, defects[name])


def is_whole(text, start, end):
    """Can braces stand around a statement, or statements, there?"""
    if text[end - 1] not in ";}":
        return True
    code = without(text, "string", "directive")
    before = code[:start].rstrip()
    if before.endswith((";", "{", "}")):
        return True
    # the body of an if or a loop: one statement
    return re.search(r"(?:\)|\belse)$", before) and code[start:end].count(";") == 1


def mark_needless(edits, text, file, path):
    """Each line of the list names one call by a text in which no other stands."""
    for number, (name, kind, old, reason) in rows(path, 4, 4):
        if name != os.path.basename(file):
            continue
        found = places(text, "", old, "")
        if len(found) != 1:
            raise Bad(f"{path}:{number}: \"{old}\" stands {len(found)} times in {file}, expected once")
        meant = [e.defect for e in edits if e.defect.kind == kind and
                 found[0][0] <= e.start and e.end <= found[0][1]]
        if len(meant) != 1:
            raise Bad(f"{path}:{number}: {len(meant)} calls stand in \"{old}\" that can be \"{kind}\", "
                      "expected one")
        if not reason:
            raise Bad(f"{path}:{number}: no reason, expected one")
        meant[0].needless = reason


# ---- writing ------------------------------------------------------------------------------------


def widen(edits, text, file):
    """Edits of statements that overlap take all of what they cover together, so that each holds
    others whole or not at all."""
    edits = sorted(edits, key=lambda e: (e.start, -e.end))
    changed = True
    while changed:
        changed = False
        for a in edits:
            for b in edits:
                if not a.start < b.start < a.end < b.end:
                    continue
                for e in (a, b):
                    if text[e.start:e.end].rstrip()[-1] not in ";}":
                        raise Bad(f"{file}:{line_of(text, e.start)}: \"{e.defect.name}\" overlaps "
                                  f"\"{(b if e is a else a).defect.name}\", and is no statement")
                start, end = a.start, b.end
                for e in (a, b):
                    e.new = one_line(f"{text[start:e.start]} {e.new} {text[e.end:end]}")
                    e.start, e.end = start, end
                changed = True
    return sorted(edits, key=lambda e: (e.start, -e.end))


def write(text, edits, begin, end):
    """The text from begin to end with edits that are sorted and hold each other."""
    out, at, i = [], begin, 0
    while i < len(edits):
        edit = edits[i]
        inside = [e for e in edits[i + 1:] if e.end <= edit.end and e.start < edit.end]
        if inside and ASKED in edit.new:
            raise Bad(f"\"{edit.defect.name}\" of {edit.defect.file} stands in place of a text in which "
                      f"\"{inside[0].defect.name}\" is planted, too")
        out.append(text[at:edit.start])
        out.append(edit.write(write(text, inside, edit.start, edit.end)))
        at = edit.end
        i += 1 + len(inside)
    out.append(text[at:end])
    return "".join(out)


def plant(files, by_hand_path=BY_HAND, needless_path=NEEDLESS):
    """{file: text of its copy}, and all defects, numbered from 1 in the order of their lines."""
    copies, defects = {}, []
    known = {os.path.basename(file) for file in files}
    for path, fields in ((by_hand_path, 6), (needless_path, 4)):
        for number, row in rows(path, fields, 4):
            name = row[1 if fields == 6 else 0].partition(":")[0]
            if name not in known:
                raise Bad(f"{path}:{number}: no source is called {name}, expected one of "
                          f"{', '.join(sorted(known))}")
    for file in files:
        with open(os.path.join(ROOT, file), encoding="utf-8") as source:
            text = source.read()
        # comments go, or a "//" would reach over what comes to stand behind it
        text = without(text, "comment")
        code = without(text, "string", "directive")
        edits = [*calls(text, code, file), *stages(text, code, file)]
        mark_needless(edits, text, file, needless_path)
        edits += by_hand(text, file, by_hand_path)
        for edit in sorted(edits, key=lambda e: e.start):
            if edit.defect.number == 0:
                defects.append(edit.defect)
                edit.defect.number = len(defects)
        written = write(text, widen(edits, text, file), 0, len(text))
        written = re.sub(r"[ \t]+$", "", written, flags=re.M)
        copies[file] = f'#include "tests/wrong/sync/planted.h"\n#line 1 "{file}"\n{written}'
    return copies, defects


def write_if_new(path, text):
    """A file that stays what it was keeps its time: make builds nothing then."""
    try:
        with open(path, encoding="utf-8") as file:
            if file.read() == text:
                return
    except OSError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def main(words):
    if len(words) < 2 or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    folder, files = words[0], words[1:]
    try:
        copies, defects = plant(files)
        for file, text in copies.items():
            write_if_new(os.path.join(folder, file), text)
        write_if_new(os.path.join(folder, "defects.txt"),
                     "".join(f"{d.number}\t{d.file}:{d.line}\t{d.name}\n" for d in defects))
    except (Bad, OSError) as error:
        print(f"plant.py: {error}", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
