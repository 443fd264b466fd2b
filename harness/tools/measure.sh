#!/usr/bin/env bash
# measure.sh - everything that data/results/<gpu>/ holds, on the machine with the GPU, in some seven
# minutes: is every rung right, is it clean, how fast is it, beside which peers.
#
#     harness/tools/measure.sh MLA OUT CAPTURE.h5 ...
#
# MLA: the program; libmla.so is looked for beside it, in ../lib. OUT: a folder, made if need be.
# compute-sanitizer, ncu and peers (torch, flashinfer, flash_mla) are used where they are, else named
# and skipped; PYTHON names the interpreter that has torch. Exit 1 if anything is wrong.
#
# The step "ladder" times every rung on three cases. The steps behind it have many more: they leave out,
# aloud, the rungs of which a call took too long there.
set -uo pipefail
if [ $# -lt 3 ]; then
	echo "Usage: ${0##*/} MLA OUT CAPTURE.h5 ..." >&2
	exit 2
fi
mla=$(realpath "$1") out=$2
shift 2
python=${PYTHON:-python3}
here=$(cd "$(dirname "$0")" && pwd)
library=$(dirname "$mla")/../lib/libmla.so
ceilings=$out/ceilings.json
ladder=$out/log/ladder.csv
failed=0
mkdir -p "$out/log" || exit 1

# step NAME SECONDS COMMAND ...: its output goes to $out/log/NAME.txt, its last line is shown. Fails if
# the command did, or was skipped: then what it would have written is still that of an earlier run.
step() {
	local name=$1 limit=$2 begin=$SECONDS status
	shift 2
	timeout "$limit" "$@" >"$out/log/$name.txt" 2>&1
	status=$?
	case $status in
	0) ;;
	77) echo "SKIPPED $name: $(tail -n 1 "$out/log/$name.txt")" && return 1 ;;
	124) echo "FAILED $name: more than $limit s" && failed=1 && return 1 ;;
	*) failed=1 ;;
	esac
	echo "$([ $status = 0 ] && echo ok || echo FAILED) $name, $((SECONDS - begin)) s: $(tail -n 1 "$out/log/$name.txt")"
	return $status
}

# within STEP MILLISECONDS: fast=(the rungs of which a call took at most that on each case of the ladder)
within() {
	local rung why
	fast=()
	while read -r rung why; do
		if [ -n "$why" ]; then
			echo "LEFT OUT of $1: $rung, $why"
		else
			fast+=("$rung")
		fi
	done < <(awk -F, -v limit="$2" '
		NR == 1 { for (i = 1; i <= NF; i++) column[$i] = i; next }
		$column["implementation"] !~ /^[0-9]/ { next }
		!($column["implementation"] in worst) { names[++n] = $column["implementation"] }
		{
			name = $column["implementation"]
			ms = $column["status"] == "PASS" ? $column["median_us"] / 1000 : -1
			if (!(name in worst) || ms < 0 || (worst[name] >= 0 && ms > worst[name]))
				worst[name] = ms
		}
		END {
			for (i = 1; i <= n; i++) {
				ms = worst[names[i]]
				why = ""
				if (ms < 0)
					why = "it was not timed"
				else if (ms > limit)
					why = "a call takes " ms " ms, more than " limit
				print names[i], why
			}
		}' "$ladder" 2>/dev/null)
	[ ${#fast[@]} -gt 0 ] || echo "$1: no rung was so fast, the one that auto chooses stands in"
}

# The list for -k.
chosen() {
	local IFS=,
	echo "${fast[*]:-auto}"
}

step suite_gpu 300 "$mla" check --suite gpu "$@"
cp "$out/log/suite_gpu.txt" "$out"
step check 120 "$mla" check --json "$out/check.json" "$@"
if command -v compute-sanitizer >/dev/null; then
	for tool in memcheck racecheck synccheck initcheck; do
		step $tool 300 compute-sanitizer --tool $tool --error-exitcode 1 \
			"$mla" check -k gpu --random 5 --seed 3 -c '*' "$@"
	done
	{
		echo "compute-sanitizer --tool T mla check -k gpu --random 5 --seed 3 -c '*' $*"
		"$mla" --version
		(cd "$out/log" && grep -hE 'passed,|SUMMARY' {mem,race,sync,init}check.txt)
	} >"$out/sanitizers.txt"
else
	echo "SKIPPED sanitizers: no compute-sanitizer on PATH"
fi
step ceilings 60 "$mla" ceilings --time 0.4 --ceilings "$ceilings"
rm -f "$ladder"
step ladder 120 "$mla" bench --cells b64_8K_h16_q1,b64_8K_h128_q1,b1_128K_h16_q1 -k gpu --samples 6 \
	--ceilings "$ceilings" --json "$out/peers_ladder.json" --csv "$ladder"
within peers 20
step peers 200 "$mla" bench --suite peers -k "$(chosen)" --time 0.12 --ceilings "$ceilings" \
	--json "$out/peers.json"
within sweep 2
step sweep 120 "$mla" bench --suite sweep -k "$(chosen)" --time 0.04 --ceilings "$ceilings" \
	--json "$out/sweep.json"
within libraries 1.5
widest=$out/peers.json
step libraries 200 env MLA_LIBRARY="$library" MLA_PROGRAM="$mla" \
	"$python" "$here/../python/mla/peers.py" --cells -k "$(chosen)" --ceilings "$ceilings" \
	-o "$out/peers_libraries.json" && widest=$out/peers_libraries.json
if command -v ncu >/dev/null; then
	within profiles 20
	for rung in ${fast[@]+"${fast[@]}"}; do
		for heads in 16 128; do # bound by memory, by arithmetic
			name=profile_${rung}_h$heads
			step "$name" 60 "$mla" profile -k "$rung" --batch 16 --heads $heads \
				--kv-len 8192 &&
				{ cat "$out/log/$name.txt" && "$mla" --version; } >"$out/$name.txt"
		done
	done
else
	echo "SKIPPED profiles: no ncu on PATH"
fi
step roofline 60 "$mla" plot --kind roofline -o "$out/roofline.svg" "$widest"
step rungs 60 "$mla" plot --kind rungs -o "$out/rungs.svg" "$out/peers_ladder.json"
step kvlen 60 "$mla" plot --kind kvlen -o "$out/kvlen.svg" "$out/sweep.json"
# The results speak of no machine's folders.
sed -i -E "s#$out/##g; s#[^ \"]*/bin/mla\b#mla#g" "$out"/*.json "$out"/*.txt
exit $failed
