/* internal.h - what the files of this room share: the schema as tables, an open file, and
 * the few ways in which HDF5 is touched. data/FORMAT.md says what the schema means.
 *
 * A file is taken as hostile. HDF5 parses it in a process of its own (reader.c starts it, parser.c
 * is its inside), which hands over names, attributes, shapes and elements; everything else here
 * works on those, and takes them as hostile too.
 */
#ifndef MLA_CAPTURE_INTERNAL_H
#define MLA_CAPTURE_INTERNAL_H

#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/output.h"
#include "base/sha256.h"
#include "capture/capture.h"
#include "lib/error.h"

enum {
	CAP_MAX_RANK = 4,
	CAP_PATH = 160,          /* longest path inside a file, terminator included */
	CAP_NAME = 64,           /* longest name of a dataset, attribute or step */
	CAP_MAX_STRING = 32767,  /* bytes of a string attribute */
	CAP_MAX_OBJECTS = 65536, /* groups and datasets of a file */
	CAP_MAX_ATTRIBUTES = 64, /* of one object */
	CAP_CHUNK_BYTES = 1 << 20,
	CAP_MAX_CHUNK_BYTES = 32 << 20,
	CAP_SLAB_BYTES = 32 << 20,   /* read or written at once where a dataset is streamed */
	CAP_WINDOW_BYTES = 64 << 20, /* shared with the parser: what it hands over at once */
};

/* What a file may ask for, so that a small one cannot take a machine: one dataset, all of them
 * (which verify reads), and what one verb holds in memory at a time of the file's own numbers. */
#define CAP_MAX_BYTES          (INT64_C(1) << 37)
#define CAP_TOTAL_BYTES(file)  ((UINT64_C(4) << 30) + 64 * (uint64_t)(file))
#define CAP_MEMORY_BYTES(file) ((UINT64_C(256) << 20) + 64 * (uint64_t)(file))
#define CAP_MAX_NUMBER         ((uint32_t)INT32_MAX)

/* Element types. The first three are enum mla_dtype. */
enum cap_element { CAP_BF16, CAP_F16, CAP_F32, CAP_F64, CAP_I32, CAP_U8, CAP_NUM_ELEMENTS };
enum { CAP_ANY_ELEMENT = -1 };

/* ---- attributes (attributes.c) -------------------------------------------------------------- */

enum cap_attribute_type { CAP_STRING, CAP_U32, CAP_DOUBLE };

struct cap_attribute {
	char *object; /* "/config" */
	char *name;   /* "num_heads" */
	enum cap_attribute_type type;
	char *text; /* CAP_STRING only, else NULL */
	uint32_t number;
	double real;
};

struct cap_attributes {
	struct cap_attribute *list;
	size_t count, capacity;
};

/* Adds a copy; the strings of the value are copied too. file: for the sentence if memory runs out.
 */
mla_status cap_attributes_add(struct cap_attributes *all, const struct cap_attribute *one,
			      const char *file);
void cap_attributes_sort(struct cap_attributes *all);
/* In a sorted list; NULL if absent. */
const struct cap_attribute *cap_attributes_find(const struct cap_attributes *all,
						const char *object, const char *name);
/* Those of one object, in a sorted list: first and, in *count, how many. */
const struct cap_attribute *cap_attributes_of(const struct cap_attributes *all, const char *object,
					      size_t *count);
void cap_attributes_free(struct cap_attributes *all);

/* The sha256 of FORMAT.md's listing of all attributes but /@content_sha256. */
mla_status cap_content_sha256(const struct cap_attributes *all, const char *file,
			      char hex[SHA256_TEXT]);

/* ---- the schema (schema.c) ------------------------------------------------------------------ */

enum cap_dim {
	DIM_REQUESTS,
	DIM_OFFSETS, /* requests + 1 */
	DIM_PAGE_ENTRIES,
	DIM_QUERIES,
	DIM_PAGES,
	DIM_PAGE_SIZE,
	DIM_HEADS,
	DIM_CKV,
	DIM_KPE,
	DIM_NOPE,
	DIM_V,
	DIM_Q, /* of q_nope: nope in model-forward, else ckv */
	DIM_D, /* of out_*: v in model-forward, else ckv */
	CAP_NUM_DIMS
};

/* What a dataset's elements are, by /config. */
enum cap_type { TYPE_MAIN, TYPE_CKV, TYPE_KPE, TYPE_F32, TYPE_I32 };

struct cap_rule {
	const char *name;
	enum cap_type type;
	int rank;
	enum cap_dim dim[3];
	unsigned required; /* bit (1 << enum capture_kind) */
	bool rope;         /* absent if qk_rope_head_dim is 0 */
	bool reference;    /* has @computed_by and @dtype */
};

/* Datasets of /layers/LLL, /steps/NNN and /steps/NNN/layers/LLL; each ends with name NULL. */
extern const struct cap_rule cap_layer_rules[], cap_step_rules[], cap_problem_rules[];

struct cap_config {
	uint32_t num_heads, head_start, hidden_size, q_lora_rank, kv_lora_rank, qk_nope_head_dim;
	uint32_t qk_rope_head_dim, v_head_dim, num_layers, page_size, causal;
	double softmax_scale, rope_theta, rms_norm_eps;
	int32_t rope_layout;                            /* index of the word in FORMAT.md's order */
	int32_t lse_base;                               /* enum mla_lse_base */
	int32_t dtype, ckv_dtype, kpe_dtype, out_dtype; /* enum mla_dtype */
};

struct cap_step {
	int number;
	const char *name; /* belongs to the attribute list */
	int64_t extent[CAP_NUM_DIMS];
	int32_t *kv_len, *qo_indptr, *kv_indptr, *kv_page_indices;
	int32_t *positions;
	int32_t *q_pos0; /* or NULL */
	int32_t *pages;  /* [num_pages] those that some request needs, rising */
	int64_t num_pages;
};

/* What is known of a dataset before an element of it is read. */
struct cap_dataset {
	const char *path; /* the object's */
	int element;      /* enum cap_element; CAP_ANY_ELEMENT: none of them */
	char *type;       /* what it is then, for a message; else NULL */
	char *fault;      /* why it cannot be read; NULL: it can */
	int rank;
	uint64_t extent[CAP_MAX_RANK], chunk[CAP_MAX_RANK];
	uint64_t row_bytes; /* of one index of the first dimension */
	uint64_t bytes;
	uint64_t stored; /* in the file, all chunks */
	bool deflated;
};

struct cap_object {
	char *path;
	bool group;
	struct cap_dataset dataset; /* if it is one */
};

/* The names, shapes and attributes of a file: what the parser finds, and the verb is told. */
struct cap_listing {
	struct cap_object *objects; /* sorted by path once the walk is done */
	size_t num_objects, objects_capacity;
	struct cap_attributes attributes;
};

struct capture {
	char *path;
	uint64_t file_bytes;
	struct cap_reader *reader;
	struct cap_listing listing;
	enum capture_kind kind;
	struct cap_config config;
	int64_t extent[CAP_NUM_DIMS]; /* those that all steps share; -1: not one of them */
	int *layers, num_layers;      /* numbers, rising */
	struct cap_step *steps;       /* numbers rising */
	int num_steps;
	uint64_t index_bytes; /* that the steps' lists take */
};

/* GROUP/NAME */
void cap_join(char path[CAP_PATH], const char *group, const char *name);

/* Is there a dataset or group of this path? */
const struct cap_object *cap_find(const struct capture *capture, const char *path);

/* The string of an attribute; NULL if there is none. */
const char *cap_text_of(const struct capture *capture, const char *object, const char *name);

/* Does a dataset of this rule belong into a file of this config, absent or not? */
bool cap_rule_applies(const struct cap_rule *rule, const struct cap_config *config);
enum cap_element cap_rule_element(const struct cap_rule *rule, const struct cap_config *config);

/* Words of the attributes that are a choice; NULL-terminated. */
extern const char *const cap_kind_words[],
	*const cap_rope_layout_words[], *const cap_base_words[], *const cap_dtype_words[];

/* Attributes of /config and / as tables. */
struct cap_number_rule {
	const char *name;
	size_t offset; /* in struct cap_config */
	uint32_t min, max;
};
struct cap_choice_rule {
	const char *name;
	size_t offset;
	const char *const *words;
	bool optional; /* absent: as @dtype */
};
struct cap_real_rule {
	const char *name;
	size_t offset;
};
extern const struct cap_number_rule cap_numbers[]; /* each ends with name NULL */
extern const struct cap_choice_rule cap_choices[];
extern const struct cap_real_rule cap_reals[];
extern const char *const cap_provenance[]; /* strings of /, schema and kind excepted */

/* ---- errors (file.c) ------------------------------------------------------------------------ */

/* Says "FILE: sentence". Returns MLA_INVALID. */
mla_status cap_fail(const char *file, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
mla_status cap_fail_memory(const char *file);

/* Would bytes more be beyond CAP_MEMORY_BYTES? what: whose they are. */
mla_status cap_check_memory(const struct capture *capture, const char *what, double bytes);

/* Opens the file and lists it; refuses what FORMAT.md's HDF5 rules refuse. On failure what was made
 * is left for capture_close. */
mla_status cap_file_open(struct capture *capture);

/* ---- checks against the schema (open.c) ------------------------------------------------------ */

mla_status cap_need_attribute(const struct capture *capture, const char *object, const char *name,
			      enum cap_attribute_type type, const struct cap_attribute **one);

/* Finds a dataset of a group by its rule; *dataset is NULL if it is absent and nothing needs it. An
 * extent that is not known yet (-1) becomes what is found. */
mla_status cap_take_by_rule(const struct capture *capture, const char *group,
			    const struct cap_rule *rule, int64_t *extent,
			    const struct cap_dataset **dataset);

/* Every dataset that the rules name, in a group. */
mla_status cap_check_group(const struct capture *capture, const char *group,
			   const struct cap_rule *rules, int64_t *extent);

/* Numbers of the groups PARENT/NNN, rising. */
mla_status cap_list_groups(const struct capture *capture, const char *parent, int **numbers,
			   int *count);

/* Everything in /steps (steps.c). */
mla_status cap_check_steps(struct capture *capture);

/* /config as the library has it. */
void cap_fill_config(const struct capture *capture, mla_config *config);

/* ---- the listing (listing.c) ---------------------------------------------------------------- */

mla_status cap_listing_add(struct cap_listing *listing, const char *file, const char *path,
			   bool group);
void cap_listing_sort(struct cap_listing *listing);
const struct cap_object *cap_listing_find(const struct cap_listing *listing, const char *path);
void cap_listing_free(struct cap_listing *listing);

/* As bytes in a window of so many: how many they are, 0 if they are more. */
size_t cap_listing_write(const struct cap_listing *listing, void *window, size_t size);
/* Back, sorted. The bytes are hostile. */
mla_status cap_listing_read(struct cap_listing *listing, const char *file, const void *window,
			    size_t size);

/* ---- the process that parses (reader.c) ------------------------------------------------------ */

/* A box of one dataset, as the parser is asked for it. */
struct cap_request {
	uint64_t dataset; /* index among the objects of the listing */
	uint64_t start[CAP_MAX_RANK], count[CAP_MAX_RANK];
};

struct cap_reply {
	mla_status status;
	uint64_t bytes; /* in the window */
	char sentence[ERROR_SIZE];
};

/* Starts a parser of the file, open as descriptor, which stays the caller's. The listing's bytes
 * then stand in the window. On failure *reader is NULL. */
mla_status cap_reader_open(const char *path, int descriptor, struct cap_reader **reader,
			   size_t *bytes);
const void *cap_reader_window(void);
/* The box's elements, contiguous, then stand in the window. */
mla_status cap_reader_ask(struct cap_reader *reader, const struct cap_request *request);
void cap_reader_close(struct cap_reader *reader);

/* ---- its inside (parser.c) ------------------------------------------------------------------- */

/* Opens the file, lists it into the window, and answers requests until the socket closes. Each
 * answer ends a piece of work, for which begin is called first. */
void cap_parser_serve(const char *path, int descriptor, int socket, void *window,
		      void (*begin)(void));

/* ---- HDF5's types and reasons (types.c) ----------------------------------------------------- */

/* No plugins, no printing, nothing at exit. Before the first HDF5 call of every way into it. */
void cap_hdf5_quiet(void);

/* Says the innermost reason of the HDF5 call that just failed: "FILE: OBJECT: reason". Returns
 * MLA_INVALID. Must come before the next HDF5 call. */
mla_status cap_fail_hdf5(const char *file, const char *object);
void cap_hdf5_reason(char reason[256]);

void cap_types_make(hid_t type[CAP_NUM_ELEMENTS]);
void cap_types_close(hid_t type[CAP_NUM_ELEMENTS]);
/* CAP_ANY_ELEMENT: none of them. */
int cap_type_element(const hid_t known[CAP_NUM_ELEMENTS], hid_t type);
/* What a type is, for a message. */
void cap_describe_type(const hid_t known[CAP_NUM_ELEMENTS], hid_t type, char *text, size_t size);

/* ---- one dataset, in the parser (storage.c) -------------------------------------------------- */

/* Fills in what is known of a dataset. Its faults are facts: MLA_NO_MEMORY is the only failure. */
mla_status cap_storage_describe(hid_t id, const hid_t type[CAP_NUM_ELEMENTS], uint64_t file_bytes,
				const char *file, struct cap_dataset *dataset);

/* ---- datasets (dataset.c) ------------------------------------------------------------------- */

size_t cap_element_size(int element);
const char *cap_element_name(int element);

/* Fills in the sizes from element, rank and extents; false if they are beyond the limits. */
bool cap_dataset_measure(struct cap_dataset *dataset);

/* A dataset that is there, of the only type to accept or CAP_ANY_ELEMENT, and can be read. */
mla_status cap_dataset_find(const struct capture *capture, const char *path, int expected,
			    const struct cap_dataset **dataset);

/* Reads the box start, count (both [rank]; NULL = everything) to contiguous memory. */
mla_status cap_dataset_read(const struct capture *capture, const struct cap_dataset *dataset,
			    const uint64_t *start, const uint64_t *count, void *to);

/* Elements of a contiguous array that are not finite; *first is the index of the first one. */
uint64_t cap_count_non_finite(int element, const void *data, uint64_t count, uint64_t *first);

/* ---- loading (read.c) ----------------------------------------------------------------------- */

/* Page ids rising, each once; how many those are. */
int64_t cap_sort_pages(int32_t *pages, int64_t count);
/* Where a page stands among them; it does. */
int32_t cap_find_page(const int32_t *pages, int64_t count, int32_t page);

/* The step's page table as indices into pages (rising; all that the step needs are there); entries
 * that nothing needs are -1. table: as long as the step's own. */
void cap_compact_table(const struct cap_step *step, int32_t page_size, const int32_t *pages,
		       int64_t num_pages, int32_t *table);

/* Raises slots[i] to how many slots of page number i of such a table, from its start, some request
 * of the step needs. */
void cap_mark_needed(const struct cap_step *step, int32_t page_size, const int32_t *table,
		     int32_t *slots);

/* Non-finite elements of rows [row, row + rows) of the first dimension, which lie at data. *first:
 * index in the dataset. */
uint64_t cap_count_bad(const struct cap_dataset *dataset, const void *data, uint64_t row,
		       uint64_t rows, uint64_t *first);
/* The same, of the first slots of one page alone. */
uint64_t cap_count_bad_slots(const struct cap_dataset *dataset, const void *data, uint64_t row,
			     int32_t slots, uint64_t *first);
/* What capture_load would find in the steps of a layer whose datasets are good, without its caches
 * and, where no sum can overflow, its arithmetic. */
mla_status cap_check_loads(struct capture *capture, int layer);
mla_status cap_fail_non_finite(const char *file, const struct cap_dataset *dataset, uint64_t count,
			       uint64_t first);

/* ---- writing (write.c) ---------------------------------------------------------------------- */

struct cap_writer {
	const char *path;      /* what the caller asked for */
	struct output *output; /* belongs to the caller */
	hid_t file;
	hid_t type[CAP_NUM_ELEMENTS];
	struct cap_attributes attributes;
	bool compress;
	bool broken; /* nothing more can be written: HDF5 must not touch the file again */
};

mla_status cap_writer_open(struct cap_writer *writer, struct output *output, bool compress);
/* Writes /@content_sha256, closes, verifies, renames. */
mla_status cap_writer_commit(struct cap_writer *writer);
/* Frees. What was not committed is the caller's to abandon. */
void cap_writer_close(struct cap_writer *writer);

mla_status cap_write_group(struct cap_writer *writer, const char *path);
mla_status cap_write_attribute(struct cap_writer *writer, const struct cap_attribute *attribute);
mla_status cap_write_string(struct cap_writer *writer, const char *object, const char *name,
			    const char *text);
mla_status cap_write_u32(struct cap_writer *writer, const char *object, const char *name,
			 uint32_t number);

/* A dataset that is written row after row of its first dimension. */
struct cap_sink {
	struct cap_writer *writer;
	char path[CAP_PATH];
	hid_t id;
	enum cap_element element;
	int rank;
	hsize_t extent[CAP_MAX_RANK];
	hsize_t rows_done;
	size_t row_bytes;
	struct sha256 *sha;
};
mla_status cap_sink_open(struct cap_writer *writer, const char *path, enum cap_element element,
			 int rank, const int64_t *extent, struct cap_sink *sink);
mla_status cap_sink_rows(struct cap_sink *sink, const void *data, hsize_t rows);
/* Closes, and writes @sha256 if all went well so far. Returns the first failure. */
mla_status cap_sink_close(struct cap_sink *sink, mla_status so_far);

/* An int32 dataset of one dimension, whole. */
mla_status cap_write_index(struct cap_writer *writer, const char *path, const int32_t *values,
			   int64_t count);

#endif
