#!/usr/bin/env python3
"""h5.py - writing and reading mla-capture files, as data/FORMAT.md describes them.

Needs numpy and h5py only. numpy has no bfloat16: such tensors are uint16 arrays of their bits, and
the word "bf16" goes with them. Run as a program, it checks files:

    python3 harness/python/mla/h5.py FILE...
"""
import contextlib
import hashlib
import io
import os
import struct
import sys

import h5py
import numpy as np

if not __package__:  # run by its path: the package is found where it lies, not in its own folder
    sys.path[:1] = [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]

from mla import inputs, output  # noqa: E402

SCHEMA = "mla-capture"
SCHEMA_VERSION = 1
CHUNK_BYTES = 1 << 20

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
    if any(byte < 32 or byte == 127 for byte in data) or len(data) > 32767:
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
    """Checks every checksum; CaptureError says what is wrong. `mla verify` checks more."""
    try:
        with h5py.File(path, "r") as file:
            schema, version = read_string(file, "schema"), file.attrs.get("schema_version")
            if (schema, version) != (SCHEMA, SCHEMA_VERSION):
                raise CaptureError(f"schema is {schema!r} version {version}, expected {SCHEMA!r} "
                                   f"version {SCHEMA_VERSION}")
            file.visititems(verify_object)
            if "content_sha256" in file.attrs:
                verify_digest("content_sha256", read_string(file, "content_sha256"),
                              content_sha256(file))
    except OSError as error:
        raise CaptureError(f"HDF5 cannot read it: {error}") from error


def verify_object(_, obj):
    """Compares a dataset with its @sha256; groups have none."""
    if isinstance(obj, h5py.Dataset):
        verify_digest(obj.name, read_string(obj, "sha256"), sha256(read_raw(obj)[0]))


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
    out.write(image.getbuffer(), check=verify)


def main(paths):
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
