#!/usr/bin/env bash
# lint.sh - what can be said about the sources without running them. Prints a line per check; run
# by tests/run.sh, which counts them.
#
# shellcheck disable=SC2317 # the functions are called through check()
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
status=0

# Everything that git would take; a source archive, wherever it lies: everything but build/.
list_files() {
	if [ "$(git rev-parse --show-toplevel 2>/dev/null)" = "$(pwd -P)" ]; then
		git ls-files -co --exclude-standard -- "$@"
	else
		local pattern names=()
		for pattern in "$@"; do
			names+=(-o -path "./$pattern")
		done
		find . \( -path ./build -o -name __pycache__ \) -prune -o -type f \( "${names[@]:1}" \) -print | sed 's|^\./||'
	fi | while read -r file; do
		[ ! -e "$file" ] || echo "$file"
	done
}

# check NAME COMMAND...: the command prints what is wrong, and fails. What a good one prints is shown.
check() {
	local name=$1 words
	shift
	if words=$("$@" 2>&1); then
		echo "ok $name${words:+: $words}"
	else
		echo "FAILED $name"
		echo "$words"
		status=1
	fi
}

mapfile -t sources < <(list_files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp')
mapfile -t host < <(list_files '*.c')
mapfile -t house < <(list_files 'reference/*' 'optimized/*' 'harness/*' 'tests/*')
mapfile -t scripts < <(list_files '*.sh' .ci/run)
mapfile -t pages < <(list_files '*.md')
mapfile -t texts < <(list_files '*.c' '*.h' '*.cu' '*.cuh' '*.cpp' '*.def' '*.md' '*.py' '*.sh' Makefile \
	.ci/run)

formatted() {
	clang-format-14 --dry-run -Werror "${sources[@]}" 2>&1 | grep -E ': (error|warning)' |
		sed 's/: .*//' | cut -d: -f1 | sort | uniq -c |
		sed 's/ *\([0-9]*\) \(.*\)/\2: \1 places differ from clang-format 14; run: make format/'
	[ "${PIPESTATUS[1]}" != 0 ]
}

# The table optimized/ladder.def and the folder are one: each line has its file and its lesson.
ladder() {
	harness/tools/ladder.sh --lessons >/dev/null
}

no_trailing_space() {
	! grep -nE '[[:space:]]+$' "${texts[@]}"
}

# Who includes whom: harness/layers.def. The one line says what the house looks like.
layers() {
	awk -f tests/layers.awk harness/layers.def "${house[@]}"
}

# The dialect of CONTRIBUTING.md, as far as a pattern sees it: !p and !status.
dialect() {
	! printf '%s\0' "${sources[@]}" | grep -zv '^tests/' |
		xargs -0 grep -nE '[!=]= *(NULL|MLA_OK)\b|\b(NULL|MLA_OK) *[!=]='
}

# What a terminal would obey is escaped on its way out: verbs print by text_print, and refuse words by
# cli_error. Figures and own words alone may go straight.
printing() {
	! grep -nE '\b(printf|fprintf|argp_error)\(' harness/cli/*.c harness/suite/*.c | grep -v '^harness/cli/args.c:[0-9]*:	argp_error(state, "%s", mla_last_error());$'
}

# A loop that does not say how many threads wakes a team for nothing, and hangs after a fork.
teams() {
	! printf '%s\0' "${sources[@]}" | grep -zv '^tests/' |
		xargs -0 grep -nE '#pragma omp parallel' | grep -vE 'num_threads\((ref_threads|threads)'
}

# Files that documents link to, relative to the document, exist.
links() {
	local page target bad=0
	while IFS=: read -r page target; do
		if [ ! -e "$(dirname "$page")/$target" ]; then
			echo "$page links to $target, which does not exist"
			bad=1
		fi
	done < <(grep -oE '\]\([^)#]+' "${pages[@]}" | sed 's/:\](/:/' | grep -vE ':(https?|mailto):')
	return "$bad"
}

# Declared in mla.h = exported by libmla.so (what CUDA adds exists without CUDA too, as refusals).
exports() {
	local library=${BUILD:-build}/lib/libmla.so
	diff <(grep -oE '\bmla_[a-z0-9_]+\(' harness/mla.h | tr -d '(' | sort -u) \
		<(nm -D --defined-only "$library" | awk '{ print $3 }' | sort) |
		sed -n 's/^< /declared in mla.h, not in libmla.so: /p; s/^> /in libmla.so, not in mla.h: /p'
	[ "${PIPESTATUS[0]}" = 0 ]
}

if command -v clang-format-14 >/dev/null; then
	check "clang-format" formatted
else
	echo "SKIPPED clang-format, there is no clang-format-14 here"
fi
check "shellcheck" shellcheck "${scripts[@]}"
check "cppcheck" cppcheck --enable=warning,portability,performance --inline-suppr --quiet \
	--error-exitcode=1 --std=c11 -j "$(nproc)" -I. -Iharness -Ioptimized \
	--suppress=missingIncludeSystem "${host[@]}"
check "codespell" codespell "${texts[@]}"
check "ladder.def and the folder" ladder
check "rooms" layers
check "dialect" dialect
check "printing" printing
check "parallel loops ask ref_threads" teams
check "map of the rooms" harness/tools/map.py --check
check "links of documents" links
check "no trailing white space" no_trailing_space
check "libmla.so exports mla.h" exports
exit $status
