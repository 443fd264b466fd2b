#!/usr/bin/env bash
# run.sh - runs tests and sums them up: the last line is "N passed, N failed, N skipped".
#
#     BUILD=dir PYTHON=file MLA=file tests/run.sh KIND:FILE ...
#
#   criterion   a Criterion program; counted by its own synthesis line
#   bench       a program that prints figures; one test, fails if a bound is missed (exit 77: skip)
#   python      a unittest file, run with $PYTHON
#   lint        a script that prints "ok NAME", "FAILED NAME ..." or "SKIPPED NAME, why"
#   suite       a suite of $MLA by name; gpu: the GPU suite, skipped aloud where there is no device
#
# Exit 1 if anything failed, crashed, ran out of time or did not say what it did.
set -uo pipefail
export OMP_WAIT_POLICY=passive MLA_BUILD=$BUILD
passed=0 failed=0 skipped=0 broken=()
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT

# Adds to the sums. A step that ended badly without a failed test counts as one: a crash at exit, a
# leak, a time-out, output that does not parse.
count() {
	local name=$1 status=$2 ok=$3 bad=$4 skip=$5
	if [ "$status" != 0 ] && [ "$bad" = 0 ]; then
		echo "FAILED $name: exit status $status$([ "$status" != 124 ] || echo ', out of time')"
		bad=1
	elif [ $((ok + bad + skip)) = 0 ]; then
		echo "FAILED $name: it ran no test"
		bad=1
	fi
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	[ "$bad" = 0 ] || broken+=("$name")
}

run() {
	timeout 900 "$@" </dev/null 2>&1 | tee "$log"
	return "${PIPESTATUS[0]}"
}

number() { # the last number that follows $1 in the log, or 0
	local found
	found=$(grep -oE "$1 *[0-9]+" "$log" | tail -n 1 | grep -oE '[0-9]+$')
	echo "${found:-0}"
}

# Criterion's Failing includes Crashing; skipped tests are in verbose output only. Tests that call
# the program call the one that was built as they were.
run_criterion() {
	MLA_BIN=${1%/tests/*}/bin/mla timeout 900 "$1" --verbose --jobs "$(nproc)" </dev/null 2>&1 |
		grep --line-buffered -vE '^\[(RUN |PASS|----)\] [a-z0-9_]+::|^\[----\] Criterion' |
		tee "$log"
	count "$1" "${PIPESTATUS[0]}" "$(number 'Passing:')" "$(number 'Failing:')" \
		"$(grep -c '^\[SKIP\]' "$log")"
}

run_bench() {
	run "$1"
	local status=$?
	case $status in
	0) count "$1" 0 1 0 0 ;;
	77) count "$1" 0 0 0 1 ;;
	*) count "$1" $status 0 0 0 ;;
	esac
}

run_python() {
	run env PYTHONPATH="${1%/*}" "$PYTHON" -B -m unittest -v "$1"
	local status=$? tested bad skip
	tested=$(sed -n 's/^Ran \([0-9]*\) tests\{0,1\} in .*/\1/p' "$log" | tail -n 1)
	bad=$(($(number 'failures=') + $(number 'errors=')))
	skip=$(number 'skipped=')
	count "$1" $status $((${tested:-0} - bad - skip)) "$bad" "$skip"
}

run_lint() {
	run "$1"
	local status=$?
	count "$1" $status "$(grep -c '^ok ' "$log")" "$(grep -c '^FAILED ' "$log")" \
		"$(grep -c '^SKIPPED ' "$log")"
}

# A suite prints PASS, FAIL or SKIP, a line per test; exit 77: nothing could run.
run_suite() {
	if [ "$1" = gpu ] && ! nvidia-smi -L >/dev/null 2>&1; then
		echo "SKIPPED, no CUDA device: the GPU suite"
		count "suite gpu" 0 0 0 1
		return
	fi
	run "$MLA" check --suite "$1" data/captures/*.h5
	local status=$? ok bad skip
	ok=$(grep -c '^PASS' "$log")
	bad=$(grep -c '^FAIL' "$log")
	skip=$(grep -c '^SKIP' "$log")
	[ $status != 77 ] || { status=0 && skip=$((skip > 0 ? skip : 1)); }
	count "suite $1" $status "$ok" "$bad" "$skip"
}

for step in "$@"; do
	echo "== ${step#*:}"
	SECONDS=0
	"run_${step%%:*}" "${step#*:}"
	[ $SECONDS -lt 5 ] || echo "-- $SECONDS s"
done
for name in ${broken[@]+"${broken[@]}"}; do
	echo "failed: $name"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
