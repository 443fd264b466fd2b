#!/usr/bin/env bash
# pre-commit.sh - looks at what is about to be committed: format, rooms, ladder. Takes a second or two.
#
#     harness/tools/pre-commit.sh --install      (make hooks) git calls it from now on
#     git commit --no-verify                      commits without it
#
# It reads what is staged, not what lies in the folder.
set -euo pipefail

install_hook() {
	local hook
	if [ "$(git rev-parse --show-toplevel 2>/dev/null)" != "$(pwd -P)" ]; then
		echo "make hooks: this folder is no git repository of its own" >&2
		return 1
	fi
	hook=$(git rev-parse --git-path hooks)/pre-commit
	if [ -e "$hook" ] && [ ! "$hook" -ef harness/tools/pre-commit.sh ]; then
		echo "make hooks: $hook is there already: let it call harness/tools/pre-commit.sh" >&2
		return 1
	fi
	mkdir -p "$(dirname "$hook")"
	ln -sfr harness/tools/pre-commit.sh "$hook"
	echo "$hook looks at format, rooms and ladder before each commit; git commit --no-verify goes without"
}

if [ "${1-}" = --install ]; then
	install_hook
	exit
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mapfile -d '' -t sources < <(git diff --cached --name-only -z --diff-filter=d -- '*.c' '*.h' '*.cu' '*.cuh')
git ls-files -z -- .clang-format reference optimized harness tests |
	git checkout-index -z --stdin --prefix="$work/"
cd "$work"
unset "${!GIT_@}"
status=0

if [ ${#sources[@]} = 0 ]; then
	:
elif ! command -v clang-format-14 >/dev/null; then
	echo "pre-commit: no clang-format-14 here: the format was not looked at" >&2
elif ! clang-format-14 --dry-run -Werror "${sources[@]}" >format 2>&1; then
	sed -n 's/^\([^:]*\):[0-9].*/\1 differs from clang-format 14: make format, then git add/p' format | sort -u >&2
	status=1
fi
mapfile -d '' -t house < <(find reference optimized harness tests -type f -print0)
awk -f tests/layers.awk harness/layers.def "${house[@]}" >rooms || { cat rooms >&2 && status=1; }
harness/tools/ladder.sh >/dev/null || status=1
[ $status = 0 ] || echo "pre-commit: not committed (git commit --no-verify goes without this)" >&2
exit $status
