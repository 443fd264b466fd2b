#!/usr/bin/env python3
"""Tests of what needs numpy and h5py only: python3 -m unittest discover data/capture

The shipped captures are recomputed here from what they store, by way of their page tables: a
second implementation beside reference/, written from data/FORMAT.md.
"""
import os
import pathlib
import sys
import tempfile
import unittest
from unittest import mock

import checkout  # noqa: F401
import h5py
import numpy as np
from batch import cut_prompts, make_schedule, page_tables, step_indices, step_tokens
from mla import h5, output
from mla.h5 import CaptureError, read_values

CAPTURES = pathlib.Path(__file__).parent.parent / "captures"


class Pages(unittest.TestCase):
    """Every token of every request has a slot of its own, unless its page is shared."""

    def test_tables_cover_each_token_once(self):
        schedule = make_schedule([0, 37, 96], [11, 1, 0], 5)
        for order in ("contiguous", "sglang", "shuffle:7"):
            for page_size in (1, 16, 48):
                tables, pages = page_tables(schedule.kv_lens, page_size, order)
                used = np.concatenate(tables)
                self.assertEqual(sorted(used), list(range(pages)))
                for table, length in zip(tables, schedule.kv_lens[-1]):
                    self.assertEqual(len(table), -(-length // page_size))

    def test_shared_prefix_shares_whole_pages(self):
        schedule = make_schedule([40, 33], None, 2)
        tables, pages = page_tables(schedule.kv_lens, 16, "shuffle:1", shared_tokens=33)
        self.assertEqual(list(tables[0][:2]), list(tables[1][:2]))
        self.assertEqual(len(np.unique(np.concatenate(tables))), pages)
        self.assertEqual(pages, 2 + 1 + 1)

    def test_allocation_order_strides_decode_by_batch(self):
        schedule = make_schedule([3, 2], None, 2)
        tables, _ = page_tables(schedule.kv_lens, 1, "sglang")
        self.assertEqual([list(table) for table in tables], [[0, 1, 2, 5, 7], [3, 4, 6, 8]])


class Steps(unittest.TestCase):
    def test_indices_of_a_ragged_step(self):
        schedule = make_schedule([0, 5, 4], [3, 0, 2], 1)
        self.assertEqual(schedule.names, ["extend", "decode"])
        tables, _ = page_tables(schedule.kv_lens, 4, "contiguous")
        arrays = step_indices(schedule, tables, 4, 0)
        self.assertEqual({name: list(array) for name, array in arrays.items()}, dict(
            qo_indptr=[0, 3, 3, 5], kv_indptr=[0, 1, 3, 5], kv_page_indices=[0, 1, 2, 3, 4],
            kv_len=[3, 5, 6], positions=[0, 1, 2, 4, 5]))

    def test_prompts_are_disjoint_after_the_shared_prefix(self):
        texts = [list(range(100)), list(range(200, 220))]
        prompts = cut_prompts(texts, 999, [6, 7, 8], shared=3)
        self.assertEqual(prompts, [[999, 0, 1, 2, 3, 4], [999, 0, 1, 200, 201, 202, 203],
                                   [999, 0, 1, 5, 6, 7, 8, 9]])
        self.assertEqual(list(step_tokens(make_schedule([4, 5, 6], [1], 1), prompts, 0)),
                         [3, 202, 8])
        with self.assertRaisesRegex(CaptureError, "prompt file 1 has 20 tokens"):
            cut_prompts(texts, None, [6, 21])

    def test_schedules_that_make_no_sense(self):
        for arguments in (([5], None, 0), ([0, 5], [0], 0), ([1, 2], [1, 2, 3], 0), ([0], [0], 2)):
            with self.assertRaises(CaptureError):
                make_schedule(*arguments)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name) / "a.h5"

    def write(self, compress=False):
        bits = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        with output.Output(self.path, "capture", force=True) as out, h5.writing(out) as file:
            for dtype in ("bf16", "fp16"):
                h5.write_dataset(file, dtype, bits.view(h5.STORAGE[dtype]), dtype, compress)
            h5.write_dataset(file, "none", np.empty((0, 3), np.int32), "i32")
        return bits

    def test_every_bit_pattern_survives(self):
        for compress in (False, True):
            bits = self.write(compress)
            with h5py.File(self.path) as file:
                for dtype in ("bf16", "fp16"):
                    array, found = h5.read_raw(file[dtype])
                    self.assertEqual(found, dtype)
                    np.testing.assert_array_equal(array.view(np.uint16), bits)

    def test_damage_is_found(self):
        self.write()
        h5.verify(self.path)
        with h5py.File(self.path, "r+") as file:
            file["bf16"].id.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((256, 256), np.uint16),
                                  mtype=h5.bf16_type())
        with self.assertRaisesRegex(CaptureError, "/bf16: sha256 mismatch"):
            h5.verify(self.path)
        self.write()
        with h5py.File(self.path, "r+") as file:
            h5.write_string(file, "notes", "changed")
        with self.assertRaisesRegex(CaptureError, "content_sha256"):
            h5.verify(self.path)

    def test_what_happens_to_hdf5_is_a_sentence(self):
        """The process that reads is ended in each of the ways in which HDF5 may end it."""
        self.write()
        reader = pathlib.Path(self.folder.name) / "python"
        for end, expected in (("kill -SEGV $$", "crashed \\(signal 11\\)"),
                              ("kill -PROF $$", "no progress in 10 s"),
                              ("exit 7", "crashed \\(exit code 7\\)")):
            reader.write_text(f"#!/bin/sh\n{end}\n")
            reader.chmod(0o755)
            with mock.patch.object(sys, "executable", str(reader)), \
                    self.assertRaisesRegex(CaptureError, expected), h5.reading(self.path):
                pass
        reader.unlink()

    def test_what_is_no_file_of_its_size_is_refused(self):
        pipe = pathlib.Path(self.folder.name) / "pipe"
        os.mkfifo(pipe)
        for path, expected in ((pipe, "not a regular file"), (self.folder.name, "not a regular"),
                               (f"{pipe}2", "No such file")):
            with self.assertRaisesRegex(CaptureError, expected):
                h5.verify(path)
        pipe.unlink()
        for rows, chunk, expected in ((40, 40 << 20, "chunks of 41943040 bytes"),
                                      (5000, 1 << 20, "holds 5242880000 bytes of elements")):
            with h5py.File(self.path, "w", libver=("v108", "v110")) as file:
                h5.write_string(file, "schema", h5.SCHEMA)
                h5.write_u32(file, "schema_version", h5.SCHEMA_VERSION)
                file.create_dataset("x", (rows << 20,), np.uint8, chunks=(chunk,), compression=9)
            with self.assertRaisesRegex(CaptureError, expected):
                h5.verify(self.path)

    def test_a_capture_that_is_there_stays(self):
        self.write()
        before = self.path.read_bytes()
        with self.assertRaisesRegex(output.Refused, "--force replaces it"), h5.writing(self.path):
            pass
        self.assertEqual(self.path.read_bytes(), before)
        self.assertEqual(list(pathlib.Path(self.folder.name).iterdir()), [self.path])

    def test_a_failed_write_leaves_nothing(self):
        with self.assertRaises(KeyError), h5.writing(self.path):
            raise KeyError
        self.assertEqual(list(pathlib.Path(self.folder.name).iterdir()), [])


def fp64(dataset):
    return read_values(dataset).astype(np.float64)


def recompute(file, step, layer):
    """(out, lse) of all queries in fp64, from the stored values and page tables."""
    config, index, tensors = file["config"].attrs, file[f"steps/{step}"], file[f"layers/{layer}"]
    queries = file[f"steps/{step}/layers/{layer}"]
    ckv, kpe = fp64(tensors["ckv_cache"]), fp64(tensors["kpe_cache"])
    q_nope, q_pe, project = fp64(queries["q_nope"]), fp64(queries["q_pe"]), None
    if h5.read_string(file, "kind") == "model-forward":
        w_uk, project = fp64(tensors["w_uk"]), fp64(tensors["w_uv"])
        q_nope = np.einsum("qhd,hdc->qhc", q_nope, w_uk, optimize=True)
    outs, lses = [], []
    for request, length in enumerate(index["kv_len"][...]):
        rows = slice(*index["qo_indptr"][request:request + 2])
        pages = index["kv_page_indices"][slice(*index["kv_indptr"][request:request + 2])]
        keys, rope = (cache[pages].reshape(-1, cache.shape[-1])[:length] for cache in (ckv, kpe))
        scores = (q_nope[rows] @ keys.T + q_pe[rows] @ rope.T) * config["softmax_scale"]
        visible = np.arange(length) <= index["positions"][rows][:, None]
        scores = np.where(visible[:, None], scores, -np.inf)
        peak = scores.max(-1, keepdims=True)
        weights = np.exp(scores - peak)
        outs.append(weights @ keys / weights.sum(-1, keepdims=True))
        lses.append(peak[..., 0] + np.log(weights.sum(-1)))
    out = np.concatenate(outs)
    if project is not None:
        out = np.einsum("qhc,hdc->qhd", out, project, optimize=True)
    return out, np.concatenate(lses)


class Shipped(unittest.TestCase):
    def test_references_follow_from_what_is_stored(self):
        for path in sorted(CAPTURES.glob("*.h5")):
            h5.verify(path)
            with h5py.File(path) as file:
                for step in file["steps"]:
                    for layer in file["layers"]:
                        with self.subTest(path=path.name, step=step, layer=layer):
                            self.compare(file, step, layer)

    def compare(self, file, step, layer):
        group = file[f"steps/{step}/layers/{layer}"]
        out, lse = recompute(file, step, layer)
        np.testing.assert_allclose(group["out_ref"][...], out, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(group["lse_ref"][...], lse, rtol=1e-6)
        if "out_model" in group:
            model = fp64(group["out_model"])
            self.assertLess(np.linalg.norm(model - out), 1e-2 * np.linalg.norm(out))


if __name__ == "__main__":
    unittest.main()
