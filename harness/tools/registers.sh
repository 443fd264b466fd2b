#!/usr/bin/env bash
# registers.sh - what ptxas said about kernels, as a table: registers, shared memory, spills.
#
#     harness/tools/registers.sh FILE.ptxas ...
set -euo pipefail

printf '%-18s %-8s %9s %8s %7s  %s\n' file arch registers 'smem B' 'spill B' function
for log in "$@"; do
	awk -v file="$(basename "${log%.ptxas}")" '
	/Compiling entry function/ {
		split($0, part, "\047")
		name = part[2]
		arch = part[4]
	}
	/spill stores/ { spill = $5 }
	/Used [0-9]+ registers/ {
		smem = 0
		for (i = 2; i <= NF; i++)
			if ($i == "smem" || $i == "smem,")
				smem = $(i - 2)
		if (name != "")
			printf "%-18s %-8s %9d %8d %7d  %s\n", file, arch, $5, smem, spill, name
		name = ""
	}' "$log"
done | if command -v c++filt >/dev/null; then c++filt; else cat; fi
