#!/usr/bin/env bash
# arithmetic.sh - is arithmetic IEEE's in what is built so?
#
#     harness/tools/arithmetic.sh COMPILE LINK
#
# COMPILE and LINK are command lines without files. The truth and the checker rely on NaN, infinities,
# signed zeros, denormals, the order of sums and no contraction. Flags that take them away hide in many
# places (CC, a wrapper, a compiler's own configuration), so that a program is asked. Prints a sentence and
# exits 1 if something is missing. Code for another machine, which cannot run here, is not judged.
set -uo pipefail
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

cat >"$work/a.c" <<'C'
#include <float.h>
#include <stdio.h>

/* A compiler knows nothing of these values, and cannot look into what they go through. */
static volatile double zero = 0, one = 1, three = 3, huge = 0x1p60, tiny = 0x1p-1022, near_one = 1 + 0x1p-30;
static volatile double q[5];

int main(void)
{
	const double z = zero, o = one, t = three, h = huge, n = near_one, nan = z / z, inf = o / z;

	q[0] = 5 / t, q[1] = 7 / t, q[2] = 11 / t, q[3] = 13 / t, q[4] = 4.9 / t;

	const struct {
		int good;
		const char *what;
	} facts[] = {
		{nan != nan && !(nan <= o) && !(nan >= o) && __builtin_isnan(nan), "NaN is taken for a number"},
		{inf > DBL_MAX && inf - inf != z && __builtin_isinf(inf), "infinity is taken for a number"},
		{o / (-z + 0.0) > 0 && o / (0.0 - z) > 0 && o / (-z) < 0, "-0 is taken for 0"},
		{(o + h) - h == 0 && (h + o) - h == 0, "the order of sums is not kept"},
		{q[0] == 0x1.aaaaaaaaaaaabp+0 && q[1] == 0x1.2aaaaaaaaaaabp+1 && q[2] == 0x1.d555555555555p+1 &&
		 q[3] == 0x1.1555555555555p+2 && q[4] == 0x1.a222222222223p+0, "quotients are not rounded"},
		{n * n - (1 + 0x1p-29) == 0, "products are not rounded before they are added"},
		{tiny / 4 != 0 && (float)tiny * 2 == 0 && (0x1p-126f * (float)o) / 2 != 0, "denormals become 0"},
		/* 16: as 0, and processors that compute in _Float16 do */
		{FLT_EVAL_METHOD == 0 || FLT_EVAL_METHOD == 16, "sums are wider than their type"},
		{0.1 != 0.1f, "constants are narrower than their type"},
	};

	for (int i = 0; i < (int)(sizeof(facts) / sizeof(facts[0])); i++)
		if (!facts[i].good)
			return puts(facts[i].what) < 0 ? 2 : 1;
	return 0;
}
C

# shellcheck disable=SC2016 # $0 is the folder, in the shell that splits the command lines into words
if ! words=$(bash -c "$1"' -c "$0/a.c" -o "$0/a.o" && '"$2"' "$0/a.o" -o "$0/a"' "$work" 2>&1); then
	echo "$1 does not build a program: $(grep -m 1 -iE 'error|not found' <<<"$words" || head -n 1 <<<"$words")" >&2
	exit 1
fi
words=$("$work/a" 2>&1)
status=$?
if [ $status = 1 ]; then
	echo "$words with these CC, CPPFLAGS, CFLAGS and LDFLAGS, and the truth relies on IEEE's arithmetic:" \
		"take -ffast-math, or what is like it, out of \"$1\" (compiles) or \"$2\" (links)" >&2
	exit 1
fi
