#!/usr/bin/env bash
# sass.sh - the machine code in a kernel's object, function by function, without addresses.
#
#     BUILD=dir NVCC=file CC=gcc CXX=g++ harness/tools/sass.sh OBJECT ARCH [REV]
#
# ARCH: sm_80, sm_90 ..., or empty for the newest in the object. Writes BUILD/sass/NAME.ARCH.sass. With REV
# shows what differs from that revision's object; labels have no numbers there, since one that is new
# would rename all that follow.
set -euo pipefail
shopt -s nullglob
object=$1 arch=$2 revision=${3-}
here=$(cd "$(dirname "$0")" && pwd)
kernel=$(basename "$object" .o)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

tool() {
	PATH="$(dirname "$NVCC"):$PATH:$(realpath -m "$BUILD/pypi/nvidia/cu13/bin")" command -v "$1" || {
		echo "make sass needs $1, which neither this CUDA toolkit nor PATH has; make without SETUP=no" \
			"installs it from PyPI" >&2
		return 1
	}
}
cuobjdump=$(tool cuobjdump) nvdisasm=$(tool nvdisasm)

# Code alone: no data, no directives, no addresses. Encodings stay, in comments: two files with the
# same instructions may differ in what waits for what.
disassemble() { # OBJECT FOLDER
	local cubins suffix=$arch object
	object=$(realpath "$1")
	mkdir "$2"
	(cd "$2" && PATH="$(dirname "$nvdisasm"):$PATH" "$cuobjdump" -xelf all "$object" >/dev/null)
	cubins=("$2"/*.cubin)
	[ -n "$suffix" ] || suffix=$(printf '%s\n' "${cubins[@]}" | sed 's/.*\.\(sm_[0-9a-z]*\)\.cubin/\1/' |
		sort -V | tail -n 1)
	cubins=("$2"/*."$suffix".cubin)
	if [ ${#cubins[@]} != 1 ]; then
		echo "$1 has no machine code for $suffix" >&2
		return 1
	fi
	"$nvdisasm" -c -hex "${cubins[0]}" | awk '
	/^\.text\./ { inside = 1; sub(/^\.text\./, ""); print ""; print; next }
	/^[ \t]*\.section|^\/\/--/ { inside = 0 }
	!inside || /^[ \t]*\.(type|size|other|align)/ || /^[^. \t].*:$/ { next }
	{ sub(/\/\*[0-9a-f]+\*\/ */, ""); print }' | if command -v c++filt >/dev/null; then c++filt; else cat; fi \
		>"$2/code"
	echo "$suffix"
}

code() { # without encodings
	sed 's| */\* 0x[0-9a-f]* \*/$||; /^[ \t]*$/d' "$1"
}

found=$(disassemble "$object" "$work/now")
mkdir -p "$BUILD/sass"
code "$work/now/code" >"$BUILD/sass/$kernel.$found.sass"
echo "$BUILD/sass/$kernel.$found.sass"
awk '/^[^ \t.].*:$/ { name = $0; sub(/:$/, "", name); next } / ;$/ { n[name]++ }
	END { for (name in n) printf "%8d instructions  %s\n", n[name], name }' \
	"$BUILD/sass/$kernel.$found.sass" | sort -k 3
[ -n "$revision" ] || exit 0

# A rung keeps its number, but not always its name.
tree=$("$here/revision.sh" "$revision")
lines=$(sed -n 's/^MLA_KERNEL(\([0-9a-z_]*\),.*/\1/p' "$tree/optimized/ladder.def")
old=$(grep -x "$kernel" <<<"$lines" || grep "^${kernel%%_*}_" <<<"$lines") || {
	echo "$revision has no rung ${kernel%%_*}" >&2
	exit 1
}
"$here/revision.sh" "$revision" "build/obj/optimized/$old.o" >/dev/null
arch=$found
disassemble "$tree/build/obj/optimized/$old.o" "$work/old" >/dev/null
for side in old now; do
	code "$work/$side/code" | sed 's/\.L_x_[0-9]*/.L/' >"$work/$side/plain"
done
if cmp -s "$work/old/code" "$work/now/code"; then
	echo "the same code as in $revision, to the bit"
elif diff -u --label "$old of $revision" --label "$kernel" "$work/old/plain" "$work/now/plain"; then
	echo "the same instructions as in $revision, in another encoding: registers' reuse, waits, labels"
fi
