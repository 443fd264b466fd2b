#!/usr/bin/env bash
# against.sh - two programs on the same cases in turns, A B A B, then mla compare: which is faster?
#
#     harness/tools/against.sh A/bin/mla B/bin/mla WORDS-OF-MLA-BENCH...
#
# A: as it was, B: as it is. Two bundles are compared with what one of them carries:
#
#     new/share/mla/tools/against.sh old/bin/mla new/bin/mla -k 07 --cells b64_8K_h16
#
#     TURNS=2     so often each
#     OUT=folder  keeps the result files there
#
# Exit status: that of mla compare; 77 if nothing could run here.
set -uo pipefail
if [ $# -lt 3 ]; then
	echo "Usage: ${0##*/} A/bin/mla B/bin/mla WORDS-OF-MLA-BENCH..." >&2
	exit 2
fi
programs=("$1" "$2")
shift 2
if [ -n "${OUT-}" ]; then
	out=$OUT
	mkdir -p "$out" || exit 1
else
	out=$(mktemp -d) || exit 1
	trap 'rm -rf "$out"' EXIT
fi

names=(A B) files=()
for side in 0 1; do
	version=$("${programs[side]}" --version) || exit 1
	echo "${names[side]}: ${programs[side]}: $version"
done
for ((turn = 1; turn <= ${TURNS:-2}; turn++)); do
	for side in 0 1; do
		file=$out/${names[side]}$turn.json
		echo "== ${file##*/}"
		"${programs[side]}" bench "$@" --json "$file"
		status=$?
		# 1: what is wrong is in the file, too
		[ $status -le 1 ] || exit $status
		files+=("$file")
	done
done
echo "== A against B"
"${programs[1]}" compare "${files[@]}"
