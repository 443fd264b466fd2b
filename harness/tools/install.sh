#!/usr/bin/env bash
# install.sh - puts the program, the library and what belongs to them below a folder, and takes away
# exactly that.
#
#     harness/tools/install.sh install FOLDER BUILD
#     harness/tools/install.sh uninstall FOLDER
#
# FOLDER is DESTDIR and PREFIX, one behind the other. FOLDER/share/mla/manifest lists what was put there,
# relative to FOLDER: files, and folders (with a slash at their end) that were not there before. A folder
# that holds something else by then is left, as is whatever is not in the list.
set -euo pipefail
export LC_ALL=C
verb=$1 folder=$(realpath -m -- "$2")
manifest=$folder/share/mla/manifest

die() {
	echo "make $verb: $*" >&2
	exit 1
}

# What the manifest has. Whoever edited it: nothing outside is touched, but folders above that are empty.
listed=()
read_manifest() {
	local line
	[ -e "$manifest" ] || return 0
	[ -f "$manifest" ] || die "$manifest is no file"
	while IFS= read -r line; do
		if [[ /$line/ == */../* || $line == /* || $line == "" ]] && [[ ! $line =~ ^(\.\./)+$ ]]; then
			die "$manifest has the line \"$line\", which is no path below $folder: mend it"
		fi
		listed+=("$line")
	done <"$manifest"
}

# ---- install -----------------------------------------------------------------------------------

modes=() sources=() targets=() # what goes where
made=()                        # folders that were not there, as the manifest has them, outer ones first

put() { # MODE FOLDER FILE...
	local source
	for source in "${@:3}"; do
		[ -f "$source" ] || die "there is no $source"
		modes+=("$1") sources+=("$source") targets+=("$2/${source##*/}")
	done
}

make_folder() { # PATH NAME NAME-OF-THE-ONE-ABOVE
	[ ! -d "$1" ] || return 0
	make_folder "$(dirname "$1")" "$3" "../$3"
	mkdir -m 755 -- "$1" || exit 1
	made+=("$2")
}

# Folders, outer ones first; the manifest; files: what uninstall takes away from its end to its beginning.
write_manifest() {
	local line new folders=() files=()
	for line in ${listed[@]+"${listed[@]}"}; do
		if [[ $line != */ ]]; then
			files+=("$line")
		elif [ -d "$folder/$line" ]; then
			folders+=("$line")
		fi
	done
	new=$(mktemp "$manifest.XXXXXX")
	printf '%s\n' ${folders[@]+"${folders[@]}"} ${made[@]+"${made[@]}"} share/mla/manifest \
		${files[@]+"${files[@]}"} "${targets[@]}" | awk '!seen[$0]++' >"$new"
	chmod 644 "$new"
	mv -fT -- "$new" "$manifest"
}

install_files() {
	local build=$1 name i
	put 755 bin "$build/bin/mla"
	put 644 lib "$build/lib/libmla.so"
	put 644 include harness/mla.h
	put 644 share/mla/captures data/FORMAT.md data/captures/*.h5
	put 644 share/mla/python harness/python/flashinfer_mla.py
	put 644 share/mla/python/mla harness/python/mla/*.py
	read_manifest
	make_folder "$folder" ./ ../
	for name in bin lib include share{,/mla{,/captures,/python{,/mla}}}; do
		make_folder "$folder/$name" "$name/" ./
	done
	write_manifest # first: what breaks off can be uninstalled
	for i in "${!targets[@]}"; do
		install -T -m "${modes[i]}" -- "${sources[i]}" "$folder/${targets[i]}"
	done
	echo "${#targets[@]} files below $folder; make uninstall, with the same PREFIX and DESTDIR, removes them"
}

# ---- uninstall ---------------------------------------------------------------------------------

uninstall_files() {
	local i path left=""
	read_manifest
	[ ${#listed[@]} != 0 ] ||
		{ echo "nothing to uninstall: there is no $manifest, which make install writes" && return; }
	for ((i = ${#listed[@]} - 1; i >= 0; i--)); do
		path=$folder/${listed[i]}
		case $path in
		*/)
			path=$(realpath -ms -- "$path")
			rmdir -- "$path" 2>/dev/null || [ ! -d "$path" ] || [[ $left == "$path"/* ]] ||
				{ left=$path && echo "left, since it is not empty: $path"; }
			;;
		*)
			[ ! -d "$path" ] || [ -L "$path" ] || { echo "left, since it is a folder now: $path" && continue; }
			rm -f -- "$path"
			# what Python made of it
			[[ $path != *.py ]] || remove_cached "$(dirname "$path")/__pycache__" "$(basename "$path" .py)"
			;;
		esac
	done
}

remove_cached() { # FOLDER MODULE
	[ -d "$1" ] && [ ! -L "$1" ] || return 0
	find "$1" -maxdepth 1 -type f -name "$2.*.pyc" -delete
	rmdir -- "$1" 2>/dev/null || true
}

"${verb}_files" "${@:3}"
