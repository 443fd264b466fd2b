/* capture.h - files of captured (or synthetic) attention inputs: HDF5, schema "mla-capture"
 * version 1, described in data/FORMAT.md. A file holds layers and steps; one (step, layer) pair is
 * one mla_case.
 *
 * Errors: MLA_INVALID for a file that is not what it should be, or cannot be read or written;
 * MLA_NO_MEMORY. The sentence is "FILE: ...", naming the dataset or attribute, what was found and
 * what was expected.
 */
#ifndef MLA_CAPTURE_CAPTURE_H
#define MLA_CAPTURE_CAPTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/output.h"
#include "case/case.h"

enum capture_kind { CAPTURE_KERNEL_CALL, CAPTURE_MODEL_FORWARD, CAPTURE_SYNTHETIC };

struct capture; /* an open file, read-only */

/* Starts the process that parses files. To be called while the program is still small and alone:
 * before a GPU or a team of threads is started. capture_open calls it where nobody has. */
mla_status capture_start(void);
/* Ends it, for a verb that becomes another program. */
void capture_stop(void);

/* Does this file start as HDF5 files do? Not if it cannot be read or is a pipe or a device, which
 * are not even opened. */
bool capture_is_hdf5(const char *path);

/* Opens a file and checks its structure: schema, attributes, types, shapes, page tables, allocated
 * storage. Does not read the large datasets. *capture is NULL unless MLA_OK. HDF5 parses in another
 * process, whose memory and time are limited: what a hostile file does to it is a sentence here. */
mla_status capture_open(const char *path, struct capture **capture);
void capture_close(struct capture *capture);

enum capture_kind capture_kind(const struct capture *capture);
int capture_num_steps(const struct capture *capture);
int capture_num_layers(const struct capture *capture);
int capture_step_number(const struct capture *capture, int step);       /* the NNN of the index */
int capture_layer_number(const struct capture *capture, int layer);     /* likewise */
const char *capture_step_name(const struct capture *capture, int step); /* "prefill", "decode" */

/* Loads one (step, layer) as a case, of the caches only the pages that the step needs: its page
 * table names those, in the file's order. fletcher32 is checked by HDF5 while reading; visible
 * tokens are checked to be finite. A model-forward capture gives q_nope absorbed with W_UK (fp64
 * sums, rounded once to the capture's dtype), and q_raw, w_uk, w_uv. */
mla_status capture_load(struct capture *capture, int step, int layer, struct mla_case *c);

/* The same without tensors: config, batch and page table. */
mla_status capture_load_batch(struct capture *capture, int step, int layer, struct mla_case *c);

/* Everything verify can find: structure, every dataset's checksum and sha256, finite visible
 * tokens, whatever capture_load would find, and what is odd: softmax_scale against rope_scaling,
 * positions against q_pos0 (warnings; errors if strict). Prints warnings and the verdict of a good
 * file to log (or NULL), a line each. MLA_INVALID is what is wrong with the file; MLA_NO_MEMORY: it
 * could not be verified. */
mla_status capture_verify(const char *path, bool strict, FILE *log);

/* A description for people: kind, model, shapes, steps, layers, sizes, provenance. */
void capture_print_info(struct capture *capture, FILE *out);

/* Writes a case as a file of one step and one layer, kind synthetic; the same case gives the same
 * bytes. Any strides, bf16, fp16 or f32. The file is verified before it takes its name. output:
 * open as OUTPUT_CAPTURE; closed here if all went well, else to be abandoned. */
struct capture_writing {
	const char *notes; /* provenance in words; never NULL */
	const char *tool;  /* "mla make" */
	bool compress;     /* shuffle + deflate 1 */
};
mla_status capture_write(struct output *output, const struct mla_case *c,
			 const struct capture_writing *how);

/* Writes a part of a file to another: chosen steps, layers, heads [head_begin, head_end), requests;
 * pages that nothing uses are dropped, page order is kept. Counts of 0 choose everything. output as
 * for capture_write. */
struct capture_part {
	const int *steps, *layers, *requests; /* indices */
	int num_steps, num_layers, num_requests;
	int head_begin, head_end; /* 0, 0 = all */
};
mla_status capture_cut(const char *path, struct output *output, const struct capture_part *part);

#endif
