#!/usr/bin/env bash
# watch.sh - a command of make again, whenever a file that it depends on is saved. Ctrl-C ends it.
#
#     BUILD=dir harness/tools/watch.sh FILE MAKE WORD...
#
# FILE is what the command brings up to date. Whether anything at all was saved is asked of find, which
# costs nothing; whether that concerns FILE, of make.
set -uo pipefail
file=$1
shift
mkdir -p "$BUILD"
stamp=$(mktemp "$BUILD/watch.XXXXXX") || exit 1 # on the file system whose times it is compared with
trap 'rm -f "$stamp" "$stamp.next"' EXIT
trap 'exit 0' INT TERM HUP

saved() {
	touch "$stamp.next"
	[ -n "$(find Makefile reference optimized harness -newer "$stamp" -type f -not -name '.*' -not -name '*~' \
		-print -quit)" ] || return 1
	mv "$stamp.next" "$stamp"
}

words=("${@:1:$#-1}") # all but the goal
while :; do
	touch "$stamp"
	"$@"
	echo "-- watching: save a file, or end with Ctrl-C"
	until saved && ! "${words[@]}" -q "$file" >/dev/null 2>&1; do
		sleep 0.3
	done
	echo "== $(date +%T)"
done
