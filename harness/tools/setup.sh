#!/usr/bin/env bash
# setup.sh - finds or installs what the Makefile needs, and writes down what it found.
#
#     BUILD=dir harness/tools/setup.sh GROUP...
#
#   build       compilers, HDF5, jansson; writes BUILD/config.mk
#   clang       what clang keeps in packages of its own, if CC or CXX is one
#   suites      Criterion, for the C tests
#   lint        formatter and checkers; format: the formatter alone
#   python      BUILD/venv over Debian's numpy, h5py and matplotlib
#   notebooks   what executes notebooks
#   sass        CUDA's disassembler into BUILD/pypi, where the toolkit has none
#   test        suites, lint, python and notebooks
#
# Missing Debian packages are installed by apt as root or through passwordless sudo; otherwise one
# sentence says what to install. What Debian does not have comes from PyPI as requirements.txt pins it.
# Asks nothing, reads nothing from stdin. config.mk is rewritten only if something changed, so that make
# rebuilds only then.
#
#     NVCC=/path  this CUDA compiler    NVCC=  (empty) no CUDA    unset: PATH, /usr/local/cuda/bin
#     CC, CXX     gcc and g++, or clang and clang++, or clang-15 ...
#     COMPILE     how C is compiled, with all flags; LDFLAGS
#     SETUP=no    installs nothing, checks no packages
#
# BUILD/setup.log says which version of what was installed or found, and since when.
set -euo pipefail
exec </dev/null

build=${BUILD:-build}
config=$build/config.mk
history=$build/setup.log
groups=" ${*/#test/suites lint python notebooks} "

die() {
	echo "setup: $*" >&2
	exit 1
}

# ---- the log ---------------------------------------------------------------------------------

note() {
	echo "# $(date -u +%FT%TZ) $*" >>"$history"
}

failed() {
	tail -n 20 "$history" >&2
	die "$* ($history has all that it said)"
}

# "version PACKAGE VERSION" on stdin: those that differ from the last that the log has of the package.
note_versions() {
	local new
	touch "$history"
	new=$(awk '$1 != "version" { next }
		FILENAME != "-" { last[$2] = $3; next }
		last[$2] != $3' "$history" -)
	[ -z "$new" ] || { note "what is there now" && echo "$new" >>"$history"; }
}

# ---- packages --------------------------------------------------------------------------------

declare -A packages=(
	[build]="gcc libc6-dev make pkg-config libhdf5-dev libjansson-dev libssl-dev"
	[suites]="libcriterion-dev"
	[format]="clang-format-14"
	[lint]="clang-format-14 cppcheck shellcheck codespell python3"
	[python]="python3 python3-numpy python3-h5py python3-matplotlib"
	[notebooks]="python3-nbclient python3-nbformat python3-ipykernel"
)

wants() {
	[[ $groups == *" $1 "* ]]
}

# Which packages the groups need that were asked for.
wanted_packages() {
	local group suffix
	for group in "${!packages[@]}"; do
		! wants "$group" || tr ' ' '\n' <<<"${packages[$group]}"
	done
	! wants build || [ -z "$nvcc" ] || echo g++
	if wants clang; then # clang-15 has libomp-15-dev
		suffix=$(sed -n 's/^clang+*\(-[0-9]*\)*$/\1/p' <<<"$(basename "${CC:-clang}")")
		printf '%s\n' "clang$suffix" "libomp$suffix-dev" "libclang-rt$suffix-dev"
	fi
	! wants sass || has_disassembler || echo python3-pip
}

missing_packages() {
	local installed package
	installed=" $({ dpkg-query -W -f '${Package}:${Status}\n' "$@" 2>/dev/null || true; } |
		sed -n 's/:install ok installed$//p' | tr '\n' ' ')"
	for package in "$@"; do
		[[ $installed == *" $package "* ]] || echo "$package"
	done
}

install_packages() {
	local as_root=(env)
	if [ "$(id -u)" != 0 ]; then
		sudo -n true 2>/dev/null || die "this needs Debian packages that are not installed and" \
			"cannot be installed without root or passwordless sudo; run: apt-get install $*"
		as_root=(sudo -n env)
	fi
	echo "setup: installing $*"
	local apt=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -qq
		-o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
	note "apt-get install $*"
	if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >>"$history" 2>&1; then
		failed "apt-get could not install what is missing: $*"
	fi
}

check_packages() {
	local wanted missing
	mapfile -t wanted < <(wanted_packages | sort -u)
	mapfile -t missing < <(missing_packages "${wanted[@]}")
	[ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
	{ dpkg-query -W -f 'version ${Package} ${Version}\n' "${wanted[@]}" 2>/dev/null || true; } | note_versions
}

# ---- from PyPI -------------------------------------------------------------------------------

has_disassembler() {
	local tool
	for tool in nvdisasm cuobjdump; do
		[ -x "$(dirname "${nvcc:-nvcc}")/$tool" ] || command -v $tool >/dev/null ||
			[ -x "$build/pypi/nvidia/cu13/bin/$tool" ] || return 1
	done
}

# The lines of requirements.txt that name the group, beside each other in one folder.
install_from_pypi() {
	echo "setup: installing $(sed -n "s/ *# $1\$//p" harness/tools/requirements.txt | tr '\n' ' ')"
	note "pip install, what requirements.txt has for $1"
	if ! sed -n "/# $1\$/p" harness/tools/requirements.txt | /usr/bin/python3 -m pip install --quiet \
		--no-deps --target "$build/pypi" -r /dev/stdin >>"$history" 2>&1; then
		failed "pip could not install what harness/tools/requirements.txt names for $1"
	fi
	find "$build/pypi" -maxdepth 1 -name '*.dist-info' |
		sed -n 's|.*/\(.*\)-\([^-]*\)\.dist-info$|version \1 \2|p' | note_versions
	chmod u+x "$build"/pypi/nvidia/cu13/bin/*
}

# ---- what is there ---------------------------------------------------------------------------

find_nvcc() {
	if [ -n "${NVCC+set}" ]; then
		[ -z "$NVCC" ] || command -v "$NVCC" || die "NVCC=$NVCC is not a program"
		return
	fi
	command -v nvcc || command -v /usr/local/cuda/bin/nvcc || true
}

# The toolkit's root: where bin/nvcc really is, or where a distribution puts headers and libraries.
find_cuda_runtime() {
	local home dir
	home=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
	for dir in "$home"/lib64 "$home"/lib "$home"/targets/*/lib /usr/lib/*-linux-gnu; do
		if [ -e "$dir/libcudart_static.a" ]; then
			cuda_lib=$dir
			break
		fi
	done
	[ -n "${cuda_lib-}" ] || die "$nvcc has no libcudart_static.a beside it: install the CUDA" \
		"runtime's development files, or build without CUDA: make NVCC="
	for dir in "$home"/include "$(dirname "$cuda_lib")"/include /usr/include; do
		if [ -e "$dir/cuda_runtime_api.h" ]; then
			cuda_include=$dir
			return
		fi
	done
	die "$nvcc has no cuda_runtime_api.h beside it; to build without CUDA: make NVCC="
}

find_hdf5() {
	local module
	command -v pkg-config >/dev/null || die "no pkg-config on PATH: install pkg-config"
	for module in hdf5-serial hdf5; do
		if pkg-config --exists "$module"; then
			hdf5=$module
			return
		fi
	done
	die "pkg-config finds no HDF5 (hdf5-serial or hdf5): install libhdf5-dev"
}

# A venv over Debian's own numpy and h5py: whatever python3 stands first on PATH may have neither.
# The .pth line makes what lies in harness/python importable.
make_venv() {
	local python=/usr/bin/python3 site
	[ ! -e "$build/venv/ready" ] || return 0
	[ "${SETUP-}" != no ] || python=$(command -v python3) || die "no python3 on PATH"
	"$python" -c 'import numpy, h5py' 2>/dev/null ||
		die "$python lacks numpy or h5py: install python3-numpy and python3-h5py"
	rm -rf "$build/venv"
	"$python" -m venv --system-site-packages --without-pip "$build/venv"
	site=$(echo "$build"/venv/lib/python3*/site-packages)
	echo "$PWD/harness/python" >"$site/mla.pth"
	touch "$build/venv/ready"
}

gpu_line() {
	local name
	name=$(timeout 20 nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) ||
		true
	if [ -n "$name" ]; then
		echo "GPU: $name"
	else
		echo "no CUDA device: GPU checks will be skipped"
	fi
}

write_config() {
	echo "# written by harness/tools/setup.sh; remade when it changes"
	echo "NVCC := $nvcc"
	echo "NVCC_WAS := ${NVCC-looked for}"
	echo "CUDA_INCLUDE := ${cuda_include-}"
	echo "CUDA_LIB := ${cuda_lib-}"
	echo "MODULES_CFLAGS := $(pkg-config --cflags "$hdf5" jansson libcrypto)"
	echo "MODULES_LIBS := $(pkg-config --libs "$hdf5" jansson libcrypto)"
	echo "# flags: ${CONFIG_FLAGS-}"
	echo "# all of them: ${COMPILE-} / ${CXX-} ${LDFLAGS-}"
}

# Whatever is wrong with the flags is said before anything is compiled with them.
check_arithmetic() {
	local compile=${COMPILE:-${CC:-gcc}} link=${CC:-gcc} words
	[ -z "$nvcc" ] || link="${CXX:-g++}"
	words=$(harness/tools/arithmetic.sh "$compile" "$link -fopenmp ${LDFLAGS-}" 2>&1) || die "$words"
	note "$($link --version | head -n 1)"
}

words=$(harness/tools/build_folder.sh take "$build") || die "$words"
nvcc=$(find_nvcc)
if [ "${SETUP-}" != no ]; then
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		die "this is not Debian or Ubuntu; install what corresponds to" \
			"$(wanted_packages | sort -u | tr '\n' ' ')yourself, then: make SETUP=no"
	fi
	check_packages
	! wants sass || has_disassembler || install_from_pypi sass
fi
! wants python || make_venv
wants build || exit 0
[ -z "$nvcc" ] || find_cuda_runtime
find_hdf5
case "$nvcc ${cuda_include-} ${cuda_lib-}" in
*[\#\$\']*) die "NVCC=$nvcc: a path without #, \$ and ' is expected" ;;
esac

new=$(write_config)
if [ ! -e "$config" ] || [ "$new" != "$(cat "$config")" ]; then
	check_arithmetic
	if [ -n "$nvcc" ]; then
		echo "setup: nvcc $("$nvcc" --version | sed -n 's/.*release \([0-9.]*\).*/\1/p') at $nvcc"
	else
		echo "setup: nvcc not found: building without the CUDA rungs"
	fi
	echo "setup: $(gpu_line)"
	echo "$new" >"$config"
fi
