#!/usr/bin/env bash
# build_folder.sh - the folder that is built in: what make removes is what make made.
#
#     harness/tools/build_folder.sh look FOLDER      may it be built in?
#     harness/tools/build_folder.sh take FOLDER      and makes it
#     harness/tools/build_folder.sh remove FOLDER    make clean
#
# A build's folder is known by its .gitignore, which also keeps what is built out of git wherever the
# folder lies. One that holds something else is neither built in nor removed: a sentence on stdout, and
# exit status 1.
set -euo pipefail
export LC_ALL=C
verb=$1 build=$2
mark='# A build of the MLA testbed: make clean removes this folder and all that it holds.'

die() {
	echo "BUILD is \"$build\", which $*"
	exit 1
}

# Builds of before the mark have their config.mk.
is_marked() {
	[ "$(head -n 1 "$1/.gitignore" 2>/dev/null)" = "$mark" ] ||
		grep -qs '^# written by harness/tools/setup.sh' "$1/config.mk"
}

is_empty() {
	[ -z "$(find "$1" -mindepth 1 -print -quit)" ]
}

# Folders above it that are made on the way hold nothing but builds.
make_marked() {
	local words
	[ -d "$1" ] || make_marked "$(dirname "$1")" above
	if [ ! -d "$1" ]; then
		words=$(mkdir -p "$1" 2>&1) || die "cannot be made: ${words#mkdir: }"
	elif [ "${2-}" = above ] || [ -e "$1/.gitignore" ]; then
		return
	fi
	printf '%s\n*\n' "$mark" 2>/dev/null >"$1/.gitignore" || die "cannot be written to"
}

root=$(pwd -P)
path=$(realpath -m -- "$build")
[[ $root/ != "${path%/}"/* ]] || die "holds the project itself: name a folder of its own"
case "${path#"$root"/}/" in
reference/* | optimized/* | harness/* | data/* | notebooks/* | tests/* | .git/* | .ci/*)
	die "lies among the sources: name a folder of its own"
	;;
esac
if [ -e "$path" ] && [ ! -d "$path" ]; then
	die "is no folder"
elif [ -d "$path" ] && ! is_marked "$path" && ! is_empty "$path"; then
	die "has files that no build of this project made: name a folder that is empty, or not there yet"
fi
case $verb in
take)
	make_marked "$path"
	[ -w "$path" ] || die "cannot be written to"
	;;
remove) ! is_marked "$path" || rm -rf -- "$path" ;;
esac
