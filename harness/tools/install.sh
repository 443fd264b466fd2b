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

targets=() # what goes where, as the manifest has it
made=()    # folders that were not there, outer ones first
steps=()   # how it gets there: a mode, a folder, files, an empty word

put() { # MODE FOLDER FILE...
	local source
	for source in "${@:3}"; do
		[ -f "$source" ] || die "there is no $source"
		targets+=("$2/${source##*/}")
	done
	steps+=("$@" "")
}

copy_files() {
	local step=() word
	for word in "${steps[@]}"; do
		if [ -n "$word" ]; then
			step+=("$word")
		else
			install -m "${step[0]}" -t "$folder/${step[1]}" -- "${step[@]:2}"
			step=()
		fi
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
	local line folders=() files=()
	for line in ${listed[@]+"${listed[@]}"}; do
		if [[ $line != */ ]]; then
			files+=("$line")
		elif [ -d "$folder/$line" ]; then
			folders+=("$line")
		fi
	done
	new=$(mktemp "$manifest.XXXXXX")
	trap 'rm -f -- "$new"' EXIT
	printf '%s\n' ${folders[@]+"${folders[@]}"} ${made[@]+"${made[@]}"} share/mla/manifest \
		${files[@]+"${files[@]}"} "${targets[@]}" | awk '!seen[$0]++' >"$new"
	chmod 644 "$new"
	mv -fT -- "$new" "$manifest"
}

install_files() {
	local build=$1 name
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
	copy_files
	echo "${#targets[@]} files below $folder; make uninstall, with the same PREFIX and DESTDIR, removes them"
}

# ---- uninstall ---------------------------------------------------------------------------------

uninstall_files() {
	local line path files=() folders=() left=""
	read_manifest
	[ ${#listed[@]} != 0 ] ||
		{ echo "nothing to uninstall: there is no $manifest, which make install writes" && return; }
	for line in "${listed[@]}"; do
		path=$folder/$line
		if [[ $line == */ ]]; then
			folders=("$path" ${folders[@]+"${folders[@]}"})
		elif [ -d "$path" ] && [ ! -L "$path" ]; then
			echo "left, since it is a folder now: $path"
		elif [ ! "$path" -ef "$manifest" ]; then
			files+=("$path")
		fi
	done
	rm -f -- ${files[@]+"${files[@]}"}
	remove_cached ${files[@]+"${files[@]}"}
	rm -f -- "$manifest" # last: what broke off before can be tried again
	for path in ${folders[@]+"${folders[@]}"}; do
		path=$(realpath -ms -- "$path")
		rmdir -- "$path" 2>/dev/null || [ ! -d "$path" ] || [[ $left == "$path"/* ]] ||
			{ left=$path && echo "left, since it is not empty: $path"; }
	done
}

# What Python made of the files.
remove_cached() {
	local file cached folder made=()
	for file in "$@"; do
		folder=${file%/*}/__pycache__ file=${file##*/}
		[[ $file == *.py && -d $folder ]] || continue
		for cached in "$folder/${file%.py}".*.pyc; do
			made+=("$cached")
		done
		rm -f -- "${made[@]}"
		rmdir -- "$folder" 2>/dev/null || true
	done
}

"${verb}_files" "${@:3}"
