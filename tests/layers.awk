# layers.awk - holds all sources against the table of rooms.
#
#     awk -f tests/layers.awk harness/layers.def FILE ...
#
# FILE: every file of reference/, optimized/, harness/ and tests/, as git lists them from the top.
# Prints a sentence per fault and exits 1, else one line: rooms, arrows between them, how many of
# those run upward, how many rooms stand in a circle.

function fault(place, words) {
	print place ": " words
	faults++
}

# The room that a path belongs to: "optimized/parts", "lib" for harness/lib, "" outside the house.
function room_of(path, part, n) {
	n = split(path, part, "/")
	if (part[1] == "reference" && n == 2)
		return "reference"
	if (part[1] == "optimized")
		return n == 2 ? "optimized" : n == 3 ? "optimized/" part[2] : ""
	return part[1] != "harness" ? "" : part[2] == "python" || n == 3 ? part[2] : ""
}

# The room that an include names: "parts/x.cuh" is found in optimized/.
function included_room(name, part) {
	split(name, part, "/")
	return part[1] == "parts" || part[1] == "emulator" ? "optimized/" part[1] : part[1]
}

function check_include(place, from, name, to, allowed) {
	if (name == "mla.h" || name == "ladder.def")
		return
	if (name == "mla_kernel.h") {
		if (from != "lib" && from !~ /^optimized/)
			fault(place, "mla_kernel.h is for lib and the kernels, a program uses mla.h")
		return
	}
	if (from == "reference" && name ~ /^[a-z0-9_]+\.h$/)
		return
	if (name !~ /^[a-z0-9_]+\/[a-z0-9_]+\.c?u?h$/) {
		fault(place, "\"" name "\" does not name its room: #include \"room/file.h\"")
		return
	}
	to = included_room(name)
	if (to == from)
		return
	if (!(to in floor))
		fault(place, "\"" name "\" is of no room that harness/layers.def knows")
	else if (!((from, to) in may))
		fault(place, from " may not include " to ": harness/layers.def says it may include " \
			(list[from] == "" ? "no other room" : list[from]))
	if (name ~ /\/internal\.h$/)
		fault(place, "\"" name "\" belongs to " to " alone")
	arrow[from, to] = 1
}

# ---- the table ---------------------------------------------------------------------------------

FNR == NR {
	place = FILENAME ":" FNR
	sub(/#.*/, "")
	if (NF == 0)
		next
	if ($1 in floor)
		fault(place, $1 " has a line already")
	floor[$1] = ++rooms
	name_of[rooms] = $1
	for (i = 2; i <= NF; i++) {
		if (!($i in floor) || $i == $1)
			fault(place, $1 " names " $i ", which has no line above its own")
		may[$1, $i] = 1
		list[$1] = list[$1] (i > 2 ? " " : "") $i
	}
	next
}

# ---- the sources -------------------------------------------------------------------------------

FNR == 1 {
	room = room_of(FILENAME)
	source = FILENAME ~ /\.(c|h|cu|cuh)$/
	inside = source && FILENAME !~ /^tests\//
	in_comment = head = 0
	count[room]++
	base = FILENAME
	sub(/.*\//, "", base)
	if (FILENAME ~ /^harness\/[^\/]*$/) {
		if (++at_top > 8)
			fault(FILENAME, "harness/ itself holds at most 8 files: into which room?")
		if (source && base !~ /^mla(_kernel)?\.h$/)
			fault(FILENAME, "a source outside a room: only mla.h and mla_kernel.h stand in harness/")
	} else if (FILENAME !~ /^tests\// && room == "")
		fault(FILENAME, "lies in a folder inside a room: a room is one folder")
	else if (FILENAME !~ /^tests\// && !(room in floor) && !(room in told)) {
		fault(FILENAME, "its room " room " has no line in harness/layers.def")
		told[room] = 1
	}
	if (inside && base != "internal.h") {
		if (base in place_of)
			fault(FILENAME, "has the name of " place_of[base])
		place_of[base] = FILENAME
	}
}

FILENAME ~ /\.(c|h|cu|cuh|py|sh)$/ && FILENAME !~ /^tests\// && FNR == 701 {
	fault(FILENAME, "has more than 700 lines")
}

!inside {
	next
}

# Code without comments: what stands between /* and */ may run over lines, a mark in a string is none.
{
	code = ""
	line = $0
	while (line != "") {
		if (in_comment) {
			at = index(line, "*/")
			in_comment = !at
			line = at ? substr(line, at + 2) : ""
		} else if (match(line, /"([^"\\]|\\.)*"|'([^'\\]|\\.)*'|\/\*|\/\//)) {
			token = substr(line, RSTART, RLENGTH)
			code = code substr(line, 1, RSTART - 1)
			line = token == "//" ? "" : substr(line, RSTART + RLENGTH)
			in_comment = token == "/*"
			code = code (token == "/*" ? " " : token == "//" ? "" : token)
		} else {
			code = code line
			line = ""
		}
	}
}

code ~ /^[ \t]*(#|%:)[ \t]*(include|import)/ {
	if (code ~ /^#include "[^"]*"[ \t]*$/) {
		split(code, quoted, "\"")
		check_include(FILENAME ":" FNR, room, quoted[2])
	} else if (code !~ /^[ \t]*#[ \t]*include <[^>]*>[ \t]*$/)
		fault(FILENAME ":" FNR, "an include is #include \"room/file.h\" or #include <file.h>")
	else {
		split(code, quoted, /[<>]/)
		if (included_room(quoted[2]) in floor || quoted[2] ~ /^[.\/]|^(harness|tests|data)\// ||
				quoted[2] ~ /^(mla|mla_kernel)\.h$|\.def$/)
			fault(FILENAME ":" FNR, "<" quoted[2] "> is of this house: #include \"room/file.h\"")
	}
	next
}

# What another file defines is known by that file's header alone.
FILENAME ~ /\.cu?$/ && code ~ /^[ \t]*extern[ \t]/ && code !~ /extern "C" \{|__shared__/ {
	fault(FILENAME ":" FNR, "extern: include the header of what is declared here")
}

FILENAME ~ /\.c$/ && code ~ /^[a-z][a-z0-9_ *]*[ *][a-z0-9_]+\(/ && code !~ /^(static|typedef) / {
	head = FNR
}

head && code ~ /[{;][ \t]*$/ {
	if (code !~ /\{[ \t]*$/)
		fault(FILENAME ":" head, "a function declared in a .c file: include its header, or it is static")
	head = 0
}

{
	gsub(/"([^"\\]|\\.)*"/, "\"\"", code)
	if (room ~ /^optimized\/(parts|emulator)$/)
		next
	if (code ~ /(^|[^a-zA-Z0-9_])(asm|__asm|__asm__)([^a-zA-Z0-9_]|$)/)
		fault(FILENAME ":" FNR, "asm: an instruction is a function of optimized/parts/ptx_*.cuh")
	if (code ~ /<<<|cu(da)?Launch(Cooperative)?Kernel/)
		fault(FILENAME ":" FNR, "<<<: kernels are launched by launch_kernel, parts/launch.cuh")
}

END {
	for (i = 1; i <= rooms; i++)
		if (!(name_of[i] in count))
			fault(ARGV[1], name_of[i] " has a line, but no file")
	for (pair in arrow) {
		split(pair, end, SUBSEP)
		arrows++
		up += floor[end[2]] > floor[end[1]]
		reach[pair] = 1
	}
	for (k = 1; k <= rooms; k++)
		for (i = 1; i <= rooms; i++)
			for (j = 1; j <= rooms; j++)
				if ((name_of[i], name_of[k]) in reach && (name_of[k], name_of[j]) in reach)
					reach[name_of[i], name_of[j]] = 1
	for (i = 1; i <= rooms; i++)
		circles += (name_of[i], name_of[i]) in reach
	printf "%d rooms, %d arrows, upward arrows %d, circles %d\n", rooms, arrows, up, circles
	exit faults > 0
}
