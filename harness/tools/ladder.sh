#!/usr/bin/env bash
# ladder.sh - reads optimized/ladder.def and holds it against the folder: make and lint ask nobody else.
#
#     harness/tools/ladder.sh [--lessons]
#
# Prints name:architecture:spills per kernel. What is wrong becomes a sentence each on stderr that says
# what to do, and exit status 1. --lessons: each kernel has its page, too.
set -euo pipefail
export LC_ALL=C
shopt -s nullglob
cd "$(dirname "$0")/../.."

lessons=0 pages=()
if [ "${1-}" = --lessons ]; then
	lessons=1 pages=(optimized/[0-9]*.md)
fi
# What looks like a kernel, or a part of one, and is read by nobody. Editors' own (.x.swp, x~) are let be.
strays=()
for file in optimized/*; do
	case $file in
	optimized/[!0-9]*[[:space:]]*.cu) strays+=("$file") ;; # two words to make
	*.cu | *~ | optimized/[0-9]*.md | optimized/[0-9]*.svg) ;;
	optimized/[0-9]* | *.cu.* | *.c | *.cc | *.cpp | *.cxx | *.h | *.hpp | *.cuh | *.inc) strays+=("$file") ;;
	esac
done

# The table first, then every kernel for its descriptor; pages and strays by their names alone.
IFS=/
awk -v lessons=$lessons -v pages="${pages[*]#optimized/}" -v strays="${strays[*]#optimized/}" '
function fault(words) {
	print words >"/dev/stderr"
	faults++
}

function line_of(name) {
	return "MLA_KERNEL(" name ", sm_80, nospill)"
}

# A rung is called NN_idea. NNb_idea is a variant beside rung NN.
function well_named(name) {
	return name ~ /^[0-9][0-9][a-z]?_[a-z][a-z0-9_]*$/
}

function number_of(name) {
	sub(/_.*/, "", name)
	return name
}

function idea_of(name) {
	sub(/^[^_]*_/, "", name)
	return name
}

function take_line(place, text, part, name) {
	if (sub(/\r$/, "", text) && !told++)
		fault(place ": lines end with CR LF here, and in C with LF: sed -i \"s/\\r$//\" " ARGV[1])
	if (text == "")
		return
	if (text !~ /^MLA_KERNEL\([^ ,()]+, sm_(80|90a), (nospill|spills)\)$/) {
		fault(place ": \"" text "\" is no line of the ladder, which look like " \
			"MLA_KERNEL(NN_idea, sm_80 or sm_90a, nospill or spills)")
		split(text, part, /[(), ]+/)
		mentioned[part[2]] = 1
		return
	}
	split(text, part, /[(), ]+/)
	name = part[2]
	if (!well_named(name))
		fault(place ": \"" name "\" is no name for a kernel: NN_idea, or NNb_idea for a variant " \
			"beside it (two digits, small letters)")
	else if (name in place_of)
		fault(place ": " name " has a line already, " place_of[name] ": remove one of them")
	else if (number_of(name) in numbered)
		fault(place ": the number of " name " is taken by " numbered[number_of(name)] \
			": take a free one, or a letter for a variant (" number_of(name) "b_...)")
	else if (idea_of(name) in idea)
		fault(place ": the idea of " name " is taken by " idea[idea_of(name)] ", and -k " \
			idea_of(name) " names one kernel: call it otherwise")
	else if (idea_of(name) in word)
		fault(place ": the idea of " name " has a meaning of its own, and -k " idea_of(name) \
			" is not this kernel: call it otherwise")
	else if (name < last)
		fault(place ": " name " stands below " last ": lines rise by name")
	else
		last = name
	if (name in place_of)
		return
	place_of[name] = place
	numbered[number_of(name)] = name
	idea[idea_of(name)] = name
	kernels[++count] = name ":" part[3] ":" part[4]
}

BEGIN {
	# Other words of -k, as far as an idea can be spelled so.
	split("all auto cpu gpu absorbed online unabsorbed", words, " ")
	for (i in words)
		word[words[i]] = 1
}

# ---- the table: C, whose comments may run over lines ---------------------------------------------

FILENAME == ARGV[1] {
	code = ""
	line = $0
	while (line != "") {
		mark = in_comment ? "*/" : "/*"
		at = index(line, mark)
		if (!in_comment)
			code = code (at ? substr(line, 1, at - 1) : line)
		if (at)
			opened = (in_comment = !in_comment) ? FILENAME ":" FNR : ""
		line = at ? substr(line, at + 2) : ""
	}
	sub(/[ \t]+$/, "", code)
	if (code != "")
		take_line(FILENAME ":" FNR, code)
	next
}

# ---- the kernels: FNR == 1 is met, since a kernel has a line at least ------------------------------

/^MLA_KERNEL_DESCRIPTOR\(/ {
	name = $0
	sub(/^[^(]*\( */, "", name)
	sub(/[ )].*/, "", name)
	described[FILENAME] = described[FILENAME] " " name
}

END {
	if (in_comment)
		fault(opened ": a comment begins here and never ends: close it with */")
	for (i = 2; i < ARGC; i++) {
		file = ARGV[i]
		name = file
		gsub(/^optimized\/|\.cu$/, "", name)
		found[name] = 1
		if (name !~ /^[0-9]/ && !(file in described))
			continue # no kernel of the ladder: the merge
		if (!well_named(name)) {
			fault(file ": a kernel is called NN_idea.cu, or NNb_idea.cu if it is a variant beside it " \
				"(two digits, small letters): rename it")
			continue
		}
		if (!(name in place_of) && !(name in mentioned))
			fault(file " has no line in " ARGV[1] ": add " line_of(name))
		if (!(file in described))
			fault(file " has no MLA_KERNEL_DESCRIPTOR(" name "): the descriptor at its end bears its name")
		else if (described[file] != " " name)
			fault(file " describes" described[file] ": a copy must be renamed, " \
				"MLA_KERNEL_DESCRIPTOR(" name ") and nothing else")
	}
	n = split(pages, page, "/")
	for (i = 1; i <= n; i++) {
		name = page[i]
		sub(/\.md$/, "", name)
		has_page[name] = 1
		if (!(name in place_of) && !(name in mentioned))
			fault("optimized/" page[i] " has no line in " ARGV[1] ": is its kernel called otherwise?")
	}
	n = split(strays, stray, "/")
	for (i = 1; i <= n; i++)
		fault("optimized/" stray[i] " is read by nothing: a kernel is called NN_idea.cu and has a line in " \
			ARGV[1] ", what kernels share lies in optimized/parts/: rename it, or take it away")
	for (i = 1; i <= count; i++) {
		name = kernels[i]
		sub(/:.*/, "", name)
		if (!(name in found))
			fault(place_of[name] ": there is no optimized/" name ".cu: write it, or remove the line")
		if (lessons && !(name in has_page))
			fault(place_of[name] ": " name " has no lesson: write optimized/" name ".md")
		print kernels[i]
	}
	exit faults > 0
}' optimized/ladder.def optimized/*.cu
