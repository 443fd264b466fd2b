#!/usr/bin/env bash
# bundle.sh - BUILD/bundle/: the program, the library and every shared library they need except
# glibc's own, so that what was built here runs on a machine with a GPU and nothing else.
#
#     harness/tools/bundle.sh BUILD
#
# NVCC empty: built without the CUDA rungs, which the bundle's README then says.
# The machine needs a glibc at least as new as this one's. Captures are not copied: give their paths.
set -euo pipefail
build=$1
bundle=$build/bundle
# ld.so is the kernel's business, the rest comes with every glibc and must match it
glibc='^(ld-linux.*|lib(c|m|dl|rt|pthread|util|resolv|anl|nsl|mvec))\.so'

rm -rf "$bundle"
mkdir -p "$bundle"/{bin,lib,include,share/mla/python/mla,share/mla/tools}
cp "$build/bin/mla" "$bundle/bin/"
cp "$build/lib/libmla.so" "$bundle/lib/"
cp harness/mla.h "$bundle/include/"
cp harness/tools/{measure,against}.sh "$bundle/share/mla/tools/"
cp harness/python/flashinfer_mla.py "$bundle/share/mla/python/"
cp harness/python/mla/*.py "$bundle/share/mla/python/mla/"
cp LICENSE "$bundle/"

if missing=$(ldd "$build/bin/mla" "$build/lib/libmla.so" | grep 'not found'); then
	echo "bundle: a shared library is missing here: $missing" >&2
	exit 1
fi
{ ldd "$build/bin/mla" && ldd "$build/lib/libmla.so"; } | awk '$2 == "=>" { print $1, $3 }' |
	sort -u | while read -r name path; do
	[[ $name =~ $glibc ]] || cp -L "$path" "$bundle/lib/$name"
done
strip --strip-debug "$bundle"/bin/mla "$bundle"/lib/*.so*

newest=$(objdump -T "$bundle"/bin/mla "$bundle"/lib/* | grep -oE 'GLIBC_[0-9.]+' | sort -uV |
	tail -n 1)
if [ -n "${NVCC-}" ]; then
	cuda="The GPU rungs need the NVIDIA driver and nothing else."
else
	cuda="Built without nvcc: it has no GPU rungs."
fi
cat >"$bundle/README" <<TEXT
The MLA testbed, $("$build/bin/mla" --version).
Runs on $(uname -m) Linux with glibc ${newest#GLIBC_} or newer, from wherever this
folder lies. $cuda

    bin/mla list                     the kernels, and which of them this machine can run
    bin/mla check FILE.h5 ...        every implementation against the truth
    bin/mla check --suite gpu        the GPU suite, on generated cases
    bin/mla bench -k 01,auto FILE    time, bytes, FLOP, distance from the measured ceilings
    share/mla/tools/measure.sh       all of that at once, sanitizers and peers besides
    share/mla/tools/against.sh A/bin/mla bin/mla -k 07 FILE      two bundles, in turns: which is faster?
    lib/libmla.so, include/mla.h     the library

Captures (.h5) are not part of the bundle: give their paths.
TEXT

env -i "$bundle/bin/mla" --help >/dev/null ||
	{ echo "bundle: $bundle/bin/mla does not start" >&2 && exit 1; }
size=$(du -sm "$bundle" | cut -f 1)
echo "bundle: $bundle, $size MB, needs glibc ${newest#GLIBC_}"
[ "$size" -le 48 ] || { echo "bundle: more than 48 MB" >&2 && exit 1; }
