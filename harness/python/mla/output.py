"""output.py - a file that a script writes: whole or not at all, and nothing else replaced.

The program mla writes by the same rules (harness/base/output.c). A file is written beside what it
replaces, under a name of its own, and renamed when it is whole. Whether it may be written is asked
once, before the work: no file that is read by the same command, none of another kind, by its
contents, no folder, no device, a capture only if force says so. What comes under the name after
that is replaced, so that of two writers each ends whole and the last one stays.

    with output.Output("bench.json", "json", schema="mla-results", inputs=[capture]) as out:
        ...                 # the work
        out.write(data)     # bytes, or text

Needs nothing but Python.
"""
import contextlib
import errno
import json
import os
import secrets
import shutil
import signal
import stat
import sys
import threading
import time

END_BYTES = 4 << 20  # of a file, from either end, that are looked at
JSON_BYTES = 1 << 28  # what is larger was never written as JSON by this project
HDF5 = b"\x89HDF\r\n\x1a\n"
WAIT = 2.0  # seconds, for the reader of a pipe
SIGNALS = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGXCPU")


class OutputError(Exception):
    """A sentence, and the exit code of whoever cannot go on: 3, the file cannot be written."""
    code = 3


class Refused(OutputError):
    """What is there must not be replaced; exit code 2."""
    code = 2


class Interrupted(KeyboardInterrupt):
    """A signal ended the work; a sentence, exit code 3. Nothing is left beside the file."""
    code = 3


ERRORS = (OutputError, Interrupted)


def _begins_hdf5(data):
    """The signature at the start, or behind a user block."""
    at = 512
    found = data.startswith(HDF5)
    while not found and at < len(data):
        found, at = data.startswith(HDF5, at), 2 * at
    return found


def _is_json(data, schema):
    try:
        root = json.loads(data)
    except (ValueError, RecursionError):
        return False
    found = root.get("schema") if isinstance(root, dict) else None
    return isinstance(root, dict) and (not isinstance(found, str) or found == (schema or found))


KINDS = {  # how a file is told from its contents, and what it is called
    "capture": (lambda data, _: _begins_hdf5(data) and b"mla-capture" in data, "a capture"),
    "json": (_is_json, "JSON"),
    "svg": (lambda data, _: b"<svg" in data[:4096] and data.lstrip().startswith(b"<"),
            "an SVG picture"),
    "png": (lambda data, _: data.startswith(b"\x89PNG\r\n"), "a PNG picture"),
    "own": (lambda data, _: True, "a file"),  # at its place in the tree, whatever it holds
}


def _same_file(a, b):
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def _stat(path):
    """Of what is there, links followed; None if nothing is."""
    try:
        return os.fstat(1) if path == "-" else os.stat(path)
    except OSError:
        return None


def _same_place(a, b):
    """One file under two names, or one that is not there yet."""
    of_a, of_b = _stat(a), _stat(b)
    if of_a or of_b:
        return bool(of_a and of_b and _same_file(of_a, of_b))
    folders = [_stat(os.path.dirname(path) or ".") for path in (a, b)]
    return bool(os.path.basename(a) == os.path.basename(b) and all(folders)
                and _same_file(*folders))


def _kind_of(mode):
    for test, name in ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"),
                       (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a block device"),
                       (stat.S_ISSOCK, "a socket")):
        if test(mode):
            return name
    return "something else"


def _describe(data):
    if _begins_hdf5(data):
        return "a capture" if b"mla-capture" in data else "HDF5, but no capture"
    for start, name in ((b"\x89PNG", "a picture"), (b"\x7fELF", "a program"), (b"#!", "a script"),
                        (b"PK\x03\x04", "an archive")):
        if data.startswith(start):
            return name
    with contextlib.suppress(ValueError, RecursionError):
        schema = json.loads(data).get("schema") if data[:1] == b"{" else None
        if isinstance(schema, str):
            return f'JSON of schema "{schema[:40]}"'
    return "binary data" if b"\0" in data[:4096] else "other text"


class Output:
    """A file to be written. Between `with` and its end signals that end the program leave nothing.

    kind: one of KINDS. schema: of JSON; another one is not replaced. inputs, others: paths that the
    same command reads, and that it writes besides. force: replace a capture. OutputError, Refused,
    and Interrupted, when a signal came.
    """

    def __init__(self, path, kind, schema=None, inputs=(), others=(), force=False):
        self.path, self.kind, self.schema, self.force = os.fspath(path), kind, schema, force
        self.inputs = [os.fspath(other) for other in inputs if other]
        self.others = [os.fspath(other) for other in others if other]
        self._target = self._beside = self._descriptor = self._mode = None
        self._before = {}

    # ---- what a `with` does ----

    def __enter__(self):
        self._watch()
        try:
            self._check_others()
            found = _stat(self.path)
            if found is None:
                self._open_new()
            elif stat.S_ISREG(found.st_mode) and not (self._streams() and self._printed(found)):
                self._open_existing(found)
            else:
                self._open_stream(found)
        except OSError as error:
            self._end()
            raise self._failed(error) from None
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind, error, trace):
        try:
            self._end()
        finally:  # a signal between two words of the first
            self._end()

    def write(self, data, check=None):
        """The whole file, bytes or text; once. check: called with the path of what was written,
        before that has its name; raises what is wrong with it."""
        data = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        try:
            while data:
                data = data[os.write(self._descriptor, data):]
            if not self._beside:
                return
            if self._mode is not None:
                os.fchmod(self._descriptor, self._mode)
            os.fsync(self._descriptor)
            if check:
                check(self._beside)
            os.rename(self._beside, self._target)
            self._beside = None
            _sync_folder(self._target)
        except OSError as error:
            raise self._failed(error) from None

    # ---- how ----

    def _failed(self, error):
        return OutputError(f"{self.path}: cannot be written: {error.strerror}")

    def _refused(self, why):
        return Refused(f"{self.path}: cannot be written: {why}")

    def _streams(self):
        return self.kind == "json"

    def _check_others(self):
        found = _stat(self.path)
        if found and stat.S_ISCHR(found.st_mode) and self.path != "-":
            return  # nothing is lost in /dev/null and its like
        for paths, what in ((self.inputs, "it is an input of the same command, {}"),
                            (self.others, "another output of the same command goes there, {}")):
            for path in paths:
                if _same_place(self.path, path):
                    raise self._refused(what.format(path) + "; choose another name")

    def _open_new(self):
        if os.path.lexists(self.path):
            raise self._refused("it is a symbolic link to nothing")
        if not os.path.basename(self.path):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._target = self.path
        self._open_beside()

    def _open_existing(self, found):
        if self._printed(found):
            raise self._refused("what is printed goes there, too")
        if not os.access(self.path, os.W_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        self._target = os.path.realpath(self.path)
        self._mode = found.st_mode & 0o777  # who may read and write it
        self._check_contents()
        self._open_beside()

    def _check_contents(self):
        most = JSON_BYTES if self.kind == "json" else END_BYTES
        with open(os.open(self._target, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, most))
            file.seek(max(len(data), size - END_BYTES))
            data += file.read(END_BYTES)
        test, expected = KINDS[self.kind]
        if not data or (test(data, self.schema) and (self.force or self.kind != "capture")):
            return
        if test(data, self.schema):
            raise self._refused("there is a capture already; --force replaces it")
        schema = f' ("{self.schema}")' if self.schema else ""
        raise self._refused(f"it holds {_describe(data)} and would be lost, expected no file, an "
                            f"empty one or {expected}{schema}; choose another name, or remove it "
                            "first")

    def _open_beside(self):
        """A name that nobody foresees: what someone else has put there is not touched."""
        folder = os.path.dirname(self._target)
        self._beside = os.path.join(folder, f".mla-{secrets.token_hex(8)}")
        try:
            self._descriptor = os.open(self._beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL
                                       | os.O_NOFOLLOW | os.O_CLOEXEC,
                                       0o666 if self._mode is None else 0o600)
        except OSError:
            self._beside = None
            raise

    @staticmethod
    def _printed(found):
        """The descriptor that a file is printed to, or None."""
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):
                if _same_file(os.fstat(descriptor), found):
                    return descriptor
        return None

    def _open_stream(self, found):
        printed = self._printed(found)
        if not self._streams() or not (printed or stat.S_ISFIFO(found.st_mode)
                                       or stat.S_ISCHR(found.st_mode)):
            also = ", a pipe or a character device" if self._streams() else ""
            raise self._refused(f"it is {_kind_of(found.st_mode)}, expected a regular file{also}")
        if printed == 1:
            self._descriptor = _take_standard()
        elif printed:
            self._descriptor = os.dup(2)
        else:
            self._descriptor = self._open_pipe()

    def _open_pipe(self):
        """A pipe that nobody reads cannot be opened; a reader that is about to come is waited for,
        but not for ever."""
        end = time.monotonic() + WAIT
        while True:
            try:
                descriptor = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                os.set_blocking(descriptor, True)
                return descriptor
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                if time.monotonic() > end:
                    raise self._refused("nobody reads this pipe") from None
            time.sleep(0.01)

    def _watch(self):
        """Signals that would end the program raise Interrupted; those that are ignored stay so."""
        if threading.current_thread() is not threading.main_thread():
            return
        for name in SIGNALS:
            number = getattr(signal, name)
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._before[number] = signal.signal(number, self._interrupt)

    def _interrupt(self, number, _):
        self._ignore()
        raise Interrupted(f"{self.path}: cannot be written: ended by "
                          f"{signal.Signals(number).name}")

    def _ignore(self):
        """One end is enough: what follows is the clearing up."""
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)

    def _end(self):
        self._ignore()
        if self._descriptor is not None:
            os.close(self._descriptor)
        if self._beside:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._beside)
        self._beside = self._descriptor = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


class Folder(Output):
    """A folder of files, as a whole: they are written into `beside`, which publish() gives its name.
    Nothing but an empty folder may be there before."""

    def __init__(self, path):
        super().__init__(path, "own")

    @property
    def beside(self):
        return self._beside

    def publish(self):
        try:
            os.rename(self._beside, self._target)
        except OSError as error:
            raise self._failed(error) from None
        self._beside = None
        _sync_folder(self._target)

    def _open_new(self):
        self._target = self.path.rstrip("/")
        os.makedirs(os.path.dirname(self._target) or ".", exist_ok=True)
        self._beside = os.path.join(os.path.dirname(self._target),
                                    f".mla-{secrets.token_hex(8)}")
        try:
            os.mkdir(self._beside)
        except OSError:
            self._beside = None
            raise

    def _open_existing(self, found):
        raise self._refused("it is a file, expected no folder or an empty one")

    def _open_stream(self, found):
        if not stat.S_ISDIR(found.st_mode) or os.listdir(self.path):
            raise self._refused("it is there and would be lost, expected no folder or an empty one;"
                                " choose another name, or remove it first")
        self._open_new()

    def _end(self):
        self._ignore()
        if self._beside:
            shutil.rmtree(self._beside, ignore_errors=True)
        self._beside = None
        super()._end()


def _take_standard():
    """A descriptor of its own for standard output; what is printed goes to standard error from now
    on, or nowhere if that ends in the same pipe or file."""
    sys.stdout.flush()
    own = os.dup(1)
    if os.isatty(1) or not _same_file(os.fstat(1), os.fstat(2)):
        os.dup2(2, 1)
    else:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.close(nothing)
    return own


def _sync_folder(path):
    """The file is in place already: what a file system cannot do here is not done."""
    with contextlib.suppress(OSError):
        folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write(path, kind, data, **asked):
    """A file whose contents are known at once."""
    with Output(path, kind, **asked) as out:
        out.write(data)
