#!/usr/bin/env bash
# revision.sh - an earlier revision, built: prints the folder of its work tree.
#
#     BUILD=dir NVCC=file CC=gcc CXX=g++ harness/tools/revision.sh REV [TARGET...]
#     harness/tools/revision.sh REV --known      is there such a revision? Makes nothing
#
# The work tree is BUILD/revisions/COMMIT: it stays, so that the next time little is left to build. Its own
# Makefile makes the targets, under its own build/. What that says goes to stderr.
set -euo pipefail
revision=$1
shift

if ! commit=$(git rev-parse --verify --quiet --end-of-options "$revision^{commit}"); then
	echo "AGAINST=$revision: git knows no such revision, and no bundle lies there" >&2
	exit 1
fi
[ "${1-}" != --known ] || exit 0
tree=$BUILD/revisions/${commit:0:12}
git worktree prune
if [ ! -e "$tree/Makefile" ]; then
	git worktree add --quiet --force --detach "$tree" "$commit" >&2
fi
if [ $# -gt 0 ]; then
	echo "== $revision (${commit:0:12})" >&2
	# Without what the calling make was told: it is meant for this tree.
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL -u MAKEOVERRIDES -u R -u ARCH -u AGAINST -u DEBUG \
		make -C "$tree" -j"$(nproc)" --no-print-directory BUILD=build NVCC="$NVCC" CC="$CC" CXX="$CXX" \
		"$@" >&2
fi
echo "$tree"
