#!/usr/bin/env python3
"""h5.py - writing and reading mla-capture files, as data/FORMAT.md describes them.

Needs numpy and h5py only. numpy has no bfloat16: such tensors are uint16 arrays of their bits, and
the word "bf16" goes with them. Run as a program, it checks files:

    python3 harness/python/mla/h5.py FILE...
"""
import contextlib
import hashlib
import io
import math
import os
import resource
import signal
import stat
import struct
import subprocess
import sys

import h5py
import numpy as np

if not __package__:  # run by its path: the package is found where it lies, not in its own folder
    sys.path[:1] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from mla import inputs, output  # noqa: E402

SCHEMA = "mla-capture"
SCHEMA_VERSION = 1
CHUNK_BYTES = 1 << 20
MAX_CHUNK_BYTES = 32 << 20
SLAB_BYTES = 32 << 20
MEMORY_BYTES = 1 << 30  # for HDF5 and a slab, beyond what is mapped when it starts
WORK_SECONDS = 10       # of processor time, for the listing and then for each slab
CONFINED = "--confined"

STORAGE = {"bf16": np.uint16, "fp16": np.float16, "f32": np.float32, "f64": np.float64,
           "i32": np.int32, "u8": np.uint8}
FLOAT_LAYOUTS = {  # sign, exponent begin and width, mantissa begin and width, exponent bias
    ((15, 7, 8, 0, 7), 127): "bf16",
    ((15, 10, 5, 0, 10), 15): "fp16",
    ((31, 23, 8, 0, 23), 127): "f32",
    ((63, 52, 11, 0, 52), 1023): "f64",
}


class CaptureError(inputs.InputError):
    """A sentence that the user can act on."""


def bf16_type():
    """The HDF5 type of bfloat16, identical to HDF5 2.0's H5T_FLOAT_BFLOAT16LE."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)  # before the size
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def file_type(dtype):
    """The HDF5 type of one of the words in STORAGE."""
    return bf16_type() if dtype == "bf16" else h5py.h5t.py_create(np.dtype(STORAGE[dtype]))


def write_string(obj, name, text):
    """Writes a fixed-length string; h5py's own assignment would make it variable-length."""
    data = (text or "none").encode()
    if inputs.shown(text or "") != (text or "") or len(data) > 32767:
        raise CaptureError(f"attribute {name}: a string of {len(data)} bytes, expected at most "
                           "32767 and no control characters")
    obj.attrs.create(name, np.bytes_(data), dtype=f"S{len(data)}")


def write_u32(obj, name, value):
    obj.attrs[name] = np.uint32(value)


def write_f64(obj, name, value):
    obj.attrs[name] = np.float64(value)


def write_dataset(group, name, array, dtype, compress=False):
    """Writes an array whose storage is STORAGE[dtype], raw, with checksums.

    Chunks are whole rows of about CHUNK_BYTES; compress adds shuffle and deflate.
    """
    array = np.ascontiguousarray(array)
    if array.dtype != STORAGE[dtype]:
        raise CaptureError(f"{group.name}/{name}: a {array.dtype} array, expected "
                           f"{np.dtype(STORAGE[dtype])} for {dtype}")
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_obj_track_times(False)
    if array.size:
        rows = max(1, CHUNK_BYTES * array.shape[0] // array.nbytes)
        plist.set_chunk((min(rows, array.shape[0]),) + array.shape[1:])
        if compress:
            plist.set_shuffle()
            plist.set_deflate(6)
        plist.set_fletcher32()
    kind = file_type(dtype)
    dataset = h5py.h5d.create(group.id, name.encode(), kind,
                              h5py.h5s.create_simple(array.shape), dcpl=plist)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, array, mtype=kind)
    write_string(group[name], "sha256", sha256(array))


def sha256(array):
    """64 hex digits over an array's elements, row-major; little-endian on the machines we know."""
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def read_string(obj, name):
    """A fixed-length string attribute as str."""
    value = obj.attrs.get(name)
    if not isinstance(value, np.bytes_):
        raise CaptureError(f"attribute {obj.name}@{name} is missing or no fixed-length string")
    return value.decode()


def dataset_dtype(dataset):
    """The word for a dataset's element type: a key of STORAGE."""
    kind = dataset.id.get_type()
    word = None
    if kind.get_class() == h5py.h5t.FLOAT and kind.get_order() == h5py.h5t.ORDER_LE:
        word = FLOAT_LAYOUTS.get((kind.get_fields(), kind.get_ebias()))
    elif kind.get_class() == h5py.h5t.INTEGER:
        word = {"<i4": "i32", "|u1": "u8"}.get(kind.dtype.str)
    if word is None:
        raise CaptureError(f"{dataset.name}: its element type is none of {', '.join(STORAGE)}")
    return word


def read_raw(dataset):
    """(array, dtype word): the elements as stored, bf16 as uint16. HDF5 converts nothing."""
    dtype = dataset_dtype(dataset)
    array = np.empty(dataset.shape, STORAGE[dtype])
    if array.size:
        dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, array, mtype=dataset.id.get_type())
    return array, dtype


def read_values(dataset):
    """The elements as numpy numbers; bf16 becomes float32, exactly."""
    array, dtype = read_raw(dataset)
    return bf16_to_float32(array) if dtype == "bf16" else array


def bf16_to_float32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def content_sha256(file):
    """The sha256 over all attributes that FORMAT.md calls @content_sha256."""
    lines = []

    def visit(path, obj):
        for name, value in obj.attrs.items():
            if (path, name) == ("/", "content_sha256"):
                continue
            lines.append(f"{path}@{name}=".encode() + attribute_text(path, name, value) + b"\n")

    visit("/", file)
    file.visititems(lambda path, obj: visit("/" + path, obj))
    return hashlib.sha256(b"".join(sorted(lines))).hexdigest()


def attribute_text(path, name, value):
    """An attribute's value in the listing of content_sha256."""
    if isinstance(value, np.bytes_):
        return bytes(value)
    if isinstance(value, np.uint32):
        return b"%d" % value
    if isinstance(value, np.float64):
        return struct.pack(">d", value).hex().encode()
    raise CaptureError(f"attribute {path}@{name}: of type {type(value).__name__}, expected a "
                       "fixed-length string, u32 or f64")


def verify(path):
    """Checks every checksum; CaptureError says what is wrong. `mla verify` checks more.

    HDF5 crashes, hangs or takes all memory on some files: it reads this one in another process,
    whose memory and time are limited, and what becomes of it is a sentence here.
    """
    check_regular(path)
    command = [sys.executable, "-B", os.path.abspath(__file__), CONFINED, os.fspath(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return
    if done.returncode == 1 and done.stdout:
        raise CaptureError(done.stdout.decode(errors="replace"))
    if done.returncode == -signal.SIGPROF:
        raise CaptureError(f"HDF5 made no progress in {WORK_SECONDS} s: treat it as hostile or "
                           "damaged")
    how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    raise CaptureError(f"HDF5 crashed ({how}) reading this file: treat it as hostile or damaged")


def check_regular(path):
    """A pipe would be waited for, by HDF5 for ever."""
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        raise CaptureError(error.strerror) from None
    if not regular:
        raise CaptureError("not a regular file")


@contextlib.contextmanager
def reading(path):
    """The open h5py.File of a capture that verify() found good."""
    verify(path)
    with h5py.File(path, "r") as file:
        yield file


def begin_work():
    """Winds up the clock of processor time that ends a process without progress."""
    signal.setitimer(signal.ITIMER_PROF, WORK_SECONDS)


def verify_confined(path):
    """verify()'s other process. An exit code."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    begin_work()
    try:
        verify_here(path, begin_work)
    except CaptureError as error:
        print(error, end="")
        return 1
    except MemoryError:
        print(f"HDF5 asks for more than {MEMORY_BYTES >> 20} MiB to read it: treat it as hostile "
              "or damaged", end="")
        return 1
    return 0


def verify_here(path, begin=lambda: None):
    """verify() in this process: for a file that was just written here. begin() comes before each
    slab that is read."""
    try:
        with h5py.File(path, "r") as file:
            schema, version = read_string(file, "schema"), file.attrs.get("schema_version")
            if (schema, version) != (SCHEMA, SCHEMA_VERSION):
                raise CaptureError(f"schema is {schema!r} version {version}, expected {SCHEMA!r} "
                                   f"version {SCHEMA_VERSION}")
            check_sizes(file, os.path.getsize(path))
            file.visititems(lambda _, obj: verify_object(obj, begin))
            if "content_sha256" in file.attrs:
                verify_digest("content_sha256", read_string(file, "content_sha256"),
                              content_sha256(file))
    except (OSError, RuntimeError) as error:
        raise CaptureError(f"HDF5 cannot read it: {error}") from error


def check_sizes(file, file_bytes):
    """What FORMAT.md bounds by the file's own size."""
    total = 0

    def visit(_, obj):
        nonlocal total
        if not isinstance(obj, h5py.Dataset):
            return
        chunk = math.prod(obj.chunks or (1,)) * obj.dtype.itemsize
        if chunk > MAX_CHUNK_BYTES:
            raise CaptureError(f"{obj.name}: chunks of {chunk} bytes, expected about {CHUNK_BYTES} "
                               f"and at most {MAX_CHUNK_BYTES}")
        total += obj.size * obj.dtype.itemsize

    file.visititems(visit)
    if total > (4 << 30) + 64 * file_bytes:
        raise CaptureError(f"holds {total} bytes of elements, expected at most 4 GiB and 64 times "
                           f"the file's {file_bytes} bytes")


def verify_object(obj, begin):
    """Compares a dataset with its @sha256; groups have none."""
    if isinstance(obj, h5py.Dataset):
        verify_digest(obj.name, read_string(obj, "sha256"), stored_sha256(obj, begin))


def stored_sha256(dataset, begin):
    """sha256() of the elements as stored, slab by slab."""
    digest, kind = hashlib.sha256(), dataset.id.get_type()
    storage = STORAGE[dataset_dtype(dataset)]
    rows = max(1, SLAB_BYTES * dataset.shape[0] // (dataset.nbytes + 1)) if dataset.shape else 1
    if dataset.chunks:
        rows = max(rows // dataset.chunks[0], 1) * dataset.chunks[0]
    for first in range(0, dataset.shape[0] if dataset.size else 0, rows):
        begin()
        count = (min(rows, dataset.shape[0] - first), *dataset.shape[1:])
        slab, space = np.empty(count, storage), dataset.id.get_space()
        space.select_hyperslab((first,) + (0,) * (len(count) - 1), count)
        dataset.id.read(h5py.h5s.create_simple(count), space, slab, mtype=kind)
        digest.update(slab)
    return digest.hexdigest()


def verify_digest(what, expected, found):
    if expected != found:
        raise CaptureError(f"{what}: sha256 mismatch (file says {expected[:12]}..., data gives "
                           f"{found[:12]}...)")


@contextlib.contextmanager
def writing(out):
    """The file to fill, for an output.Output("...", "capture") or a path; when the block ends well,
    it is written, verified and given its name.

    HDF5 makes it in memory: where a disk is full or a limit is reached, HDF5 does not only fail but
    crashes, when the file is closed or the process ends.
    """
    if not isinstance(out, output.Output):
        with output.Output(out, "capture") as opened, writing(opened) as file:
            yield file
        return
    image = io.BytesIO()
    with h5py.File(image, "w", libver=("v108", "v110")) as file:
        write_string(file, "schema", SCHEMA)
        write_u32(file, "schema_version", SCHEMA_VERSION)
        yield file
        write_string(file, "content_sha256", content_sha256(file))
    out.write(image.getbuffer(), check=verify_here)


def main(paths):
    if len(paths) == 2 and paths[0] == CONFINED:
        return verify_confined(paths[1])
    if not paths or paths[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    bad = 0
    for path in paths:
        try:
            verify(path)
            print(f"{inputs.shown(path)}: ok")
        except CaptureError as error:
            bad = 1
            print(f"{inputs.shown(path)}: {error}")
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
