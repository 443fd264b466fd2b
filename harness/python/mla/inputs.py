"""inputs.py - what comes from outside: names made fit for a terminal, words of a command line, and
files of JSON. Nothing here needs more than Python itself.
"""
import argparse
import json
import math
import os
import stat

JSON_BYTES = 64 << 20  # as harness/base/input.h has them
JSON_VALUES = 4 << 20
# Not fit for a terminal, first to last, as harness/lib/plain.c has them; tests/test_python.py holds the
# two together.
STEERING = [(0x0000, 0x001f), (0x007f, 0x009f), (0x061c, 0x061c), (0x180e, 0x180e),
            (0x200b, 0x200b), (0x200e, 0x200f), (0x2028, 0x202e), (0x2060, 0x206f),
            (0xd800, 0xdfff), (0xfdd0, 0xfdef), (0xfeff, 0xfeff), (0xfff0, 0xfffb),
            (0xe0000, 0xe00ff)]
KINDS = [(stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISCHR, "a device"),
         (stat.S_ISBLK, "a block device"), (stat.S_ISSOCK, "a socket")]


def _escape(character):
    code = ord(character)
    if 0xdc80 <= code <= 0xdcff:  # how Python carries a byte that is no UTF-8
        return f"\\x{code - 0xdc00:02x}"
    if code & 0xfffe != 0xfffe and not any(a <= code <= b for a, b in STEERING):
        return character
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 \
        else f"\\U{code:08x}"


def shown(text):
    """The text with escapes for all that would steer a terminal or reorder a line."""
    return "".join(map(_escape, str(text)))


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are shown."""

    def error(self, message):
        super().error(shown(message))


class InputError(Exception):
    """A sentence about a file that cannot be used; shown, whatever its parts hold."""

    def __str__(self):
        return shown(super().__str__())


def open_regular(path):
    """A regular file, open for reading bytes; what is none is not waited for. InputError."""
    def complain(facts):
        kind = next((name for test, name in KINDS if test(facts.st_mode)), "something else")
        raise InputError(f"{path}: it is {kind}, expected a regular file")

    try:
        facts = os.stat(path)
        if not stat.S_ISREG(facts.st_mode):
            complain(facts)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{path}: {error}") from None
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        os.close(descriptor)
        complain(facts)
    return os.fdopen(descriptor, "rb")


def _unique(pairs):
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"duplicate key \"{next(k for k in keys if keys.count(k) > 1)}\"")
    return found


def _refuse(word):
    raise ValueError(f"{word} is no number")


def _real(word):
    value = float(word)
    if not math.isfinite(value):
        raise ValueError(f"{word} is beyond a double")
    return value


def _integer(word):
    value = int(word)
    if not -1 << 63 <= value < 1 << 63:
        raise ValueError(f"{word} is beyond 64 bits")
    return value


def parse_json(text):
    """JSON as the program reads it: no key twice, no NaN, no number beyond 64 bits. ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_real,
                          parse_int=_integer)
    except RecursionError:
        raise ValueError("too deep") from None


def read_json(path):
    """What a file of JSON holds. InputError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > JSON_BYTES:
            raise InputError(f"{path}: it has {size} bytes, expected at most {JSON_BYTES} of a "
                             "file of JSON")
        try:
            data = file.read(JSON_BYTES + 1)
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from None
    values = 1 + sum(data.count(mark) for mark in b",[{")
    if not data:
        raise InputError(f"{path}: file is empty")
    if values > JSON_VALUES:
        raise InputError(f"{path}: it has about {values} values, expected at most {JSON_VALUES} of "
                         "a file of JSON")
    try:
        return parse_json(data.decode())
    except ValueError as error:
        raise InputError(f"{path}: is no JSON: {error}") from None
