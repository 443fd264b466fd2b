/* test_capture_damage.c - every error that data/FORMAT.md lists, found in a good capture that was
 * damaged with HDF5's own functions or byte by byte.
 */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "capture_fixture.h"
#include "case/generate.h"

/* cppcheck-suppress unknownMacro */
TestSuite(capture_damage, .init = make_folder, .fini = remove_folder);

/* ---- damage --------------------------------------------------------------------------------- */

enum { PROBE_OPEN, PROBE_LOAD, PROBE_VERIFY, PROBE_STRICT };

static mla_status probe(const char *path, int how)
{
	uint64_t digest;
	struct capture *capture;
	mla_status status;

	if (how == PROBE_VERIFY || how == PROBE_STRICT)
		return capture_verify(path, how == PROBE_STRICT, NULL);
	if (how == PROBE_LOAD)
		return digest_file(path, &digest);
	status = capture_open(path, &capture);
	capture_close(capture);
	return status;
}

static void expect_error(const char *path, int how, const char *what, const char *expected)
{
	const size_t prefix = strlen(path);
	const mla_status status = probe(path, how);
	const char *found = mla_last_error();

	cr_expect_eq(status, MLA_INVALID, "%s: accepted, expected \"%s\"", what, expected);
	cr_expect(!strncmp(found, path, prefix) && !strncmp(found + prefix, ": ", 2) &&
			  strstr(found, expected),
		  "%s: found \"%s\", expected \"%s\"", what, found, expected);
}

static void drop_attribute(hid_t file, const char *object, const char *name)
{
	if (H5Aexists_by_name(file, object, name, H5P_DEFAULT) > 0)
		H5Adelete_by_name(file, object, name, H5P_DEFAULT);
}

static void set_attribute(hid_t file, const char *object, const char *name, hid_t type,
			  const void *value)
{
	const hid_t space = H5Screate(H5S_SCALAR);
	hid_t id;

	drop_attribute(file, object, name);
	id = H5Acreate_by_name(file, object, name, type, space, H5P_DEFAULT, H5P_DEFAULT,
			       H5P_DEFAULT);
	cr_assert(id >= 0 && H5Awrite(id, type, value) >= 0);
	H5Aclose(id);
	H5Sclose(space);
}

static void set_bytes(hid_t file, const char *object, const char *name, const char *bytes,
		      size_t size)
{
	const hid_t type = H5Tcopy(H5T_C_S1);

	H5Tset_size(type, size);
	H5Tset_strpad(type, H5T_STR_NULLPAD);
	set_attribute(file, object, name, type, bytes);
	H5Tclose(type);
}

static void set_text(hid_t file, const char *object, const char *name, const char *text)
{
	set_bytes(file, object, name, text, strlen(text));
}

static void set_u32(hid_t file, const char *object, const char *name, uint32_t value)
{
	set_attribute(file, object, name, H5T_STD_U32LE, &value);
}

static void set_f64(hid_t file, const char *object, const char *name, double value)
{
	set_attribute(file, object, name, H5T_IEEE_F64LE, &value);
}

/* Changes one element of an int32 dataset; HDF5 writes a right checksum. */
static void set_i32(hid_t file, const char *path, hsize_t index, int32_t value)
{
	const hid_t id = H5Dopen2(file, path, H5P_DEFAULT), space = H5Dget_space(id);
	const hsize_t one = 1;
	const hid_t memory = H5Screate_simple(1, &one, NULL);

	H5Sselect_elements(space, H5S_SELECT_SET, 1, &index);
	cr_assert(H5Dwrite(id, H5T_NATIVE_INT32, memory, space, H5P_DEFAULT, &value) >= 0);
	H5Sclose(memory);
	H5Sclose(space);
	H5Dclose(id);
}

/* The same for a 16-bit element of a dataset of rank 3. */
static void set_u16(hid_t file, const char *path, hsize_t i, hsize_t j, hsize_t k, uint16_t bits)
{
	const hid_t id = H5Dopen2(file, path, H5P_DEFAULT), space = H5Dget_space(id);
	const hid_t type = H5Dget_type(id);
	const hsize_t one = 1, where[3] = {i, j, k};
	const hid_t memory = H5Screate_simple(1, &one, NULL);

	H5Sselect_elements(space, H5S_SELECT_SET, 1, where);
	cr_assert(H5Dwrite(id, type, memory, space, H5P_DEFAULT, &bits) >= 0);
	H5Sclose(memory);
	H5Sclose(space);
	H5Tclose(type);
	H5Dclose(id);
}

/* How a dataset is replaced; zeros mean the usual. */
struct replacement {
	hid_t type;
	int rank; /* 0: scalar */
	hsize_t extent[5], chunk[5];
	bool bare;            /* no fletcher32 */
	H5Z_filter_t filter;  /* besides */
	hsize_t write_rows;   /* 0: write nothing */
	const char *external; /* file */
	const char *virtual_of;
};

static void storage_of(const struct replacement *as, hid_t plist, hid_t space)
{
	if (as->chunk[0])
		H5Pset_chunk(plist, as->rank, as->chunk);
	if (as->filter == H5Z_FILTER_SCALEOFFSET)
		H5Pset_scaleoffset(plist, H5Z_SO_INT, 0);
	if (as->filter == H5Z_FILTER_DEFLATE)
		H5Pset_deflate(plist, 9);
	if (as->chunk[0] && !as->bare)
		H5Pset_fletcher32(plist);
	if (as->external)
		H5Pset_external(plist, as->external, 0, H5F_UNLIMITED);
	if (as->virtual_of)
		H5Pset_virtual(plist, space, as->virtual_of, "/x", space);
}

static hid_t replace(hid_t file, const char *path, const struct replacement *as)
{
	static char zeros[1 << 16];
	const hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
	const hid_t space =
		as->rank ? H5Screate_simple(as->rank, as->extent, NULL) : H5Screate(H5S_SCALAR);
	hid_t id;

	storage_of(as, plist, space);
	if (H5Lexists(file, path, H5P_DEFAULT) > 0)
		H5Ldelete(file, path, H5P_DEFAULT);
	id = H5Dcreate2(file, path, as->type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
	cr_assert(id >= 0);
	if (as->write_rows) {
		hsize_t start[5] = {0}, count[5];
		hid_t memory;

		memcpy(count, as->extent, sizeof(count));
		count[0] = as->write_rows;
		memory = H5Screate_simple(as->rank, count, NULL);
		H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL);
		cr_assert(H5Dwrite(id, as->type, memory, space, H5P_DEFAULT, zeros) >= 0);
		H5Sclose(memory);
	}
	set_text(file, path, "sha256",
		 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	H5Sclose(space);
	H5Pclose(plist);
	return id;
}

/* Replaces ckv_cache of layer 5, [8,2,8] bf16, by as. */
static void replace_cache(hid_t file, struct replacement as)
{
	hid_t types[CAP_NUM_ELEMENTS];

	cap_types_make(types);
	if (!as.type)
		as.type = types[CAP_BF16];
	if (!as.rank && !as.extent[0]) {
		as.rank = 3;
		as.extent[0] = PAGES;
		as.extent[1] = PAGE_SIZE;
		as.extent[2] = CKV;
	}
	H5Dclose(replace(file, "/layers/005/ckv_cache", &as));
	cap_types_close(types);
}

#define CHUNKS .chunk = {4, 2, 8}, .write_rows = PAGES

static void variable_string(hid_t f)
{
	const char *text = "abc";
	const hid_t type = H5Tcopy(H5T_C_S1);

	H5Tset_size(type, H5T_VARIABLE);
	set_attribute(f, "/", "model_id", type, &text);
	H5Tclose(type);
}

static void long_attribute(hid_t f)
{
	const int64_t value = 3;

	set_attribute(f, "/config", "num_heads", H5T_STD_I64LE, &value);
}

static void array_attribute(hid_t f)
{
	const hsize_t two = 2;
	const hid_t space = H5Screate_simple(1, &two, NULL);

	H5Aclose(H5Acreate2(f, "pair", H5T_STD_U32LE, space, H5P_DEFAULT, H5P_DEFAULT));
	H5Sclose(space);
}

static void empty_string(hid_t f)
{
	set_bytes(f, "/", "notes", "\0\0", 2);
}

static void padded_string(hid_t f)
{
	set_bytes(f, "/", "notes", "a\0b", 3);
}

static void long_string(hid_t f)
{
	static char text[40000];

	memset(text, 'a', sizeof(text));
	set_bytes(f, "/", "notes", text, sizeof(text));
}

static void many_attributes(hid_t f)
{
	for (int i = 0; i < 70; i++) {
		char name[32];

		snprintf(name, sizeof(name), "extra%d", i);
		set_u32(f, "/config", name, 1);
	}
}

static void soft_link(hid_t f)
{
	H5Ldelete(f, "/layers/005/ckv_cache", H5P_DEFAULT);
	H5Lcreate_soft("/layers/002/ckv_cache", f, "/layers/005/ckv_cache", H5P_DEFAULT,
		       H5P_DEFAULT);
}

static void external_link(hid_t f)
{
	H5Ldelete(f, "/layers/005/ckv_cache", H5P_DEFAULT);
	H5Lcreate_external("/etc/passwd", "/", f, "/layers/005/ckv_cache", H5P_DEFAULT,
			   H5P_DEFAULT);
}

static void cycle(hid_t f)
{
	H5Lcreate_hard(f, "/steps", f, "/steps/000/again", H5P_DEFAULT, H5P_DEFAULT);
}

static void other_dataset(hid_t f)
{
	const struct replacement as = {
		.type = H5T_STD_I32LE, .rank = 1, .extent = {1}, .chunk = {1}, .write_rows = 1};

	H5Dclose(replace(f, "/config/extra", &as));
}

static void committed_type(hid_t f)
{
	const hid_t type = H5Tcopy(H5T_STD_I32LE);

	H5Tcommit2(f, "/config/type", type, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
	H5Tclose(type);
}

static void odd_link_name(hid_t f)
{
	H5Lcreate_hard(f, "/steps/000/kv_len", f, "/steps/000/kv len", H5P_DEFAULT, H5P_DEFAULT);
}

static void many_objects(hid_t f)
{
	for (int i = 0; i <= CAP_MAX_OBJECTS; i++) {
		char path[64];

		snprintf(path, sizeof(path), "/steps/000/extra%d", i);
		H5Lcreate_hard(f, "/steps/000/kv_len", f, path, H5P_DEFAULT, H5P_DEFAULT);
	}
}

static void two_names(hid_t f)
{
	H5Lcreate_hard(f, "/steps/000/kv_len", f, "/steps/000/extra", H5P_DEFAULT, H5P_DEFAULT);
}

static void two_names_of_a_group(hid_t f)
{
	H5Lcreate_hard(f, "/steps/002", f, "/steps/003", H5P_DEFAULT, H5P_DEFAULT);
}

/* Nothing but zeros: a few hundred bytes once deflated. */
static void deflated(hid_t f, hsize_t rows, hsize_t chunk_rows)
{
	const struct replacement as = {.type = H5T_STD_U8LE,
				       .rank = 1,
				       .extent = {rows},
				       .chunk = {chunk_rows},
				       .filter = H5Z_FILTER_DEFLATE};
	const hid_t id = replace(f, "/layers/002/extra", &as);
	unsigned char *zeros = calloc(rows, 1);

	cr_assert(zeros && H5Dwrite(id, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
	free(zeros);
	H5Dclose(id);
}

static void big_chunk(hid_t f)
{
	deflated(f, 40 << 20, 40 << 20);
}

/* A cache of 80 MB in chunks of a few columns: each would be unpacked for each slab of rows. */
static void column_chunks(hid_t f)
{
	enum { ROWS = 5 << 20, COLUMNS = 16 };
	const struct replacement as = {.type = H5T_STD_U8LE,
				       .rank = 2,
				       .extent = {ROWS, COLUMNS},
				       .chunk = {ROWS, 4},
				       .filter = H5Z_FILTER_DEFLATE};
	const hid_t id = replace(f, "/layers/002/extra", &as);
	unsigned char *zeros = calloc(ROWS, COLUMNS);

	cr_assert(zeros && H5Dwrite(id, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
	free(zeros);
	H5Dclose(id);
}

static void small_chunks(hid_t f)
{
	deflated(f, 1 << 14, 8);
}

/* Page entries that no file of this size may have in memory. */
static void many_entries(hid_t f)
{
	enum { ENTRIES = 80 << 20 };
	const struct replacement as = {.type = H5T_STD_I32LE,
				       .rank = 1,
				       .extent = {ENTRIES},
				       .chunk = {1 << 20},
				       .filter = H5Z_FILTER_DEFLATE};
	const hid_t id = replace(f, "/steps/000/kv_page_indices", &as);
	int32_t *zeros = calloc(ENTRIES, sizeof(*zeros));

	cr_assert(zeros && H5Dwrite(id, H5T_STD_I32LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, zeros) >= 0);
	free(zeros);
	H5Dclose(id);
}

static void early_position(hid_t f)
{
	set_i32(f, "/steps/001/q_pos0", 1, -(1 << 30) - 1);
}

static void group_for_dataset(hid_t f)
{
	H5Ldelete(f, "/steps/000/kv_len", H5P_DEFAULT);
	H5Lcreate_hard(f, "/steps/000/layers", f, "/steps/000/kv_len", H5P_DEFAULT, H5P_DEFAULT);
}

static void other_filter(hid_t f)
{
	const struct replacement as = {.type = H5T_STD_I32LE,
				       .rank = 1,
				       .extent = {4},
				       .chunk = {4},
				       .filter = H5Z_FILTER_SCALEOFFSET,
				       .write_rows = 4};

	H5Dclose(replace(f, "/layers/002/extra", &as));
}

static void opaque_type(hid_t f)
{
	const hid_t type = H5Tcreate(H5T_OPAQUE, 2);

	replace_cache(f, (struct replacement){CHUNKS, .type = type});
	H5Tclose(type);
}

static void half_type(hid_t f)
{
	hid_t types[CAP_NUM_ELEMENTS];

	cap_types_make(types);
	replace_cache(f, (struct replacement){CHUNKS, .type = types[CAP_F16]});
	cap_types_close(types);
}

static void uint16_type(hid_t f)
{
	replace_cache(f, (struct replacement){CHUNKS, .type = H5T_STD_U16LE});
}

static void big_endian_type(hid_t f)
{
	replace_cache(f, (struct replacement){CHUNKS, .type = H5T_IEEE_F32BE});
}

static void compound_extra(hid_t f)
{
	const hid_t type = H5Tcreate(H5T_COMPOUND, 4);
	struct replacement as = {
		.type = type, .rank = 1, .extent = {2}, .chunk = {2}, .write_rows = 2};

	H5Tinsert(type, "a", 0, H5T_STD_I32LE);
	H5Dclose(replace(f, "/layers/002/extra", &as));
	H5Tclose(type);
}

/* A chunk of 1 MiB whose compressed form has 16 bytes. */
static void bomb(hid_t f)
{
	const struct replacement as = {.type = H5T_STD_I32LE,
				       .rank = 1,
				       .extent = {1 << 18},
				       .chunk = {1 << 18},
				       .filter = H5Z_FILTER_DEFLATE};
	const hid_t id = replace(f, "/layers/002/extra", &as);
	const hsize_t origin = 0;
	const char bytes[16] = "not deflated";

	cr_assert(H5Dwrite_chunk(id, H5P_DEFAULT, 0, &origin, sizeof(bytes), bytes) >= 0);
	H5Dclose(id);
}

static void no_layers(hid_t f)
{
	H5Ldelete(f, "/layers/002", H5P_DEFAULT);
	H5Ldelete(f, "/layers/005", H5P_DEFAULT);
}

static void nan_key(hid_t f)
{
	set_u16(f, "/layers/002/ckv_cache", 1, 1, 2, 0xffff);
	set_u16(f, "/layers/002/ckv_cache", 6, 0, 0, 0x7f80);
	set_u16(f, "/layers/002/ckv_cache", 7, 0, 0, 0x7f80); /* nobody's page */
}

/* A change of a file. */
struct change {
	enum { BY_HAND, DROP, TEXT, U32, F64, I32, U16, UNLINK, GROUP, CACHE } what;
	const char *object, *attribute;
	const char *text;
	uint32_t number;
	double real;
	hsize_t at[3];
	struct replacement as; /* of ckv_cache of layer 5 */
	void (*by_hand)(hid_t file);
};

static void apply(hid_t f, const struct change *change)
{
	const char *object = change->object, *name = change->attribute;
	const hsize_t *at = change->at;

	switch (change->what) {
	case BY_HAND:
		change->by_hand(f);
		return;
	case DROP:
		drop_attribute(f, object, name);
		return;
	case TEXT:
		set_text(f, object, name, change->text);
		return;
	case U32:
		set_u32(f, object, name, change->number);
		return;
	case F64:
		set_f64(f, object, name, change->real);
		return;
	case I32:
		set_i32(f, object, at[0], (int32_t)change->number);
		return;
	case U16:
		set_u16(f, object, at[0], at[1], at[2], (uint16_t)change->number);
		return;
	case UNLINK:
		cr_assert(H5Ldelete(f, object, H5P_DEFAULT) >= 0);
		return;
	case GROUP:
		H5Gclose(H5Gcreate2(f, object, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
		return;
	case CACHE:
		replace_cache(f, change->as);
	}
}

static const struct {
	const char *what;
	struct change change;
	int how;
	const char *expected;
} damages[] = {
	{"no schema",
	 {.what = DROP, "/", "schema"},
	 PROBE_OPEN,
	 ": no string /@schema and uint32 /@schema_version: not a capture; this build reads "
	 "mla-capture version 1"},
	{"other schema",
	 {.what = TEXT, "/", "schema", .text = "foo"},
	 PROBE_OPEN,
	 ": schema is \"foo\" version 1; this build reads mla-capture version 1"},
	{"other version",
	 {.what = U32, "/", "schema_version", .number = 7},
	 PROBE_OPEN,
	 ": schema is \"mla-capture\" version 7; this build reads mla-capture version 1"},
	{"other kind",
	 {.what = TEXT, "/", "kind", .text = "forward"},
	 PROBE_OPEN,
	 ": /@kind is \"forward\", expected \"kernel-call\", \"model-forward\" or \"synthetic\""},
	{"no model_id",
	 {.what = DROP, "/", "model_id"},
	 PROBE_OPEN,
	 ": missing attribute /@model_id"},
	{"variable string",
	 {.what = BY_HAND, .by_hand = variable_string},
	 PROBE_OPEN,
	 ": attribute /@model_id is a variable-length string; mla-capture needs fixed-length "
	 "strings (refused for safety)"},
	{"int64 attribute",
	 {.what = BY_HAND, .by_hand = long_attribute},
	 PROBE_OPEN,
	 ": attribute /config@num_heads: type is 8-byte integer, expected fixed-length string, "
	 "uint32 or float64"},
	{"float64 attribute",
	 {.what = F64, "/config", "num_heads", .real = 3},
	 PROBE_OPEN,
	 ": attribute /config@num_heads is float64, expected uint32"},
	{"array attribute",
	 {.what = BY_HAND, .by_hand = array_attribute},
	 PROBE_OPEN,
	 ": attribute /@pair is an array, expected one value"},
	{"empty string",
	 {.what = BY_HAND, .by_hand = empty_string},
	 PROBE_OPEN,
	 ": attribute /@notes is an empty string, expected a value or \"none\""},
	{"control character",
	 {.what = TEXT, "/", "notes", .text = "a\033[2J"},
	 PROBE_OPEN,
	 ": attribute /@notes has byte 0x1b at 1, expected UTF-8 without control "
	 "characters, padded with zeros"},
	{"eight-bit control",
	 {.what = TEXT,
	  "/",
	  "notes",
	  .text = "a\xc2\x9b"
		  "31m"},
	 PROBE_OPEN,
	 ": attribute /@notes has byte 0xc2 at 1, expected UTF-8 without control"},
	{"right to left",
	 {.what = TEXT,
	  "/",
	  "notes",
	  .text = "ab\xe2\x80\xae"
		  "c"},
	 PROBE_OPEN,
	 ": attribute /@notes has byte 0xe2 at 2, expected UTF-8 without control"},
	{"no UTF-8",
	 {.what = TEXT, "/", "notes", .text = "abc\xe9"},
	 PROBE_OPEN,
	 ": attribute /@notes has byte 0xe9 at 3, expected UTF-8 without control"},
	{"bytes behind a string",
	 {.what = BY_HAND, .by_hand = padded_string},
	 PROBE_OPEN,
	 ": attribute /@notes has byte 0x62 at 2, expected UTF-8 without control "
	 "characters, padded with zeros"},
	{"long string",
	 {.what = BY_HAND, .by_hand = long_string},
	 PROBE_OPEN,
	 ": attribute /@notes has 40000 bytes, expected 1 to 32767"},
	{"odd attribute name",
	 {.what = U32, "/", "a b", .number = 1},
	 PROBE_OPEN,
	 ": attribute /@a b: names are 1 to 63 letters, digits and _"},
	{"many attributes",
	 {.what = BY_HAND, .by_hand = many_attributes},
	 PROBE_OPEN,
	 ": /config has more than 64 attributes"},
	{"bad sha256",
	 {.what = TEXT, "/steps/000/kv_len", "sha256", .text = "ABC"},
	 PROBE_OPEN,
	 ": /steps/000/kv_len@sha256 is \"ABC\", expected 64 lower-case hex digits"},
	{"no sha256",
	 {.what = DROP, "/steps/000/kv_len", "sha256"},
	 PROBE_OPEN,
	 ": missing attribute /steps/000/kv_len@sha256"},
	{"no computed_by",
	 {.what = DROP, "/steps/001/layers/005/lse_ref", "computed_by"},
	 PROBE_OPEN,
	 ": missing attribute /steps/001/layers/005/lse_ref@computed_by"},

	{"soft link",
	 {.what = BY_HAND, .by_hand = soft_link},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache is a soft link; mla-capture has hard links only (refused for "
	 "safety)"},
	{"external link",
	 {.what = BY_HAND, .by_hand = external_link},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache is an external link; mla-capture has hard links only"},
	{"unexpected group", {.what = GROUP, "/batch"}, PROBE_OPEN, ": unexpected group /batch"},
	{"cycle",
	 {.what = BY_HAND, .by_hand = cycle},
	 PROBE_OPEN,
	 ": unexpected group /steps/000/again"},
	{"unexpected dataset",
	 {.what = BY_HAND, .by_hand = other_dataset},
	 PROBE_OPEN,
	 ": unexpected dataset /config/extra"},
	{"committed type",
	 {.what = BY_HAND, .by_hand = committed_type},
	 PROBE_OPEN,
	 ": /config/type is neither a group nor a dataset"},
	{"odd link name",
	 {.what = BY_HAND, .by_hand = odd_link_name},
	 PROBE_OPEN,
	 ": /steps/000 has a link \"kv len\": names are 1 to 63 letters, digits and _"},
	{"many objects",
	 {.what = BY_HAND, .by_hand = many_objects},
	 PROBE_OPEN,
	 ": more than 65536 groups and datasets"},
	{"no cache",
	 {.what = UNLINK, "/layers/002/ckv_cache"},
	 PROBE_OPEN,
	 ": missing dataset /layers/002/ckv_cache"},
	{"no W_UK",
	 {.what = UNLINK, "/layers/002/w_uk"},
	 PROBE_OPEN,
	 ": missing dataset /layers/002/w_uk"},
	{"group for dataset",
	 {.what = BY_HAND, .by_hand = group_for_dataset},
	 PROBE_OPEN,
	 ": unexpected group /steps/000/kv_len"},

	{"external storage",
	 {.what = CACHE, .as = {.external = "x"}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: stored in another file (refused for safety)"},
	{"virtual dataset",
	 {.what = CACHE, .as = {.virtual_of = "other.h5"}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: a virtual dataset (refused for safety)"},
	{"other filter",
	 {.what = BY_HAND, .by_hand = other_filter},
	 PROBE_OPEN,
	 ": /layers/002/extra: filter 6 is refused, only fletcher32, shuffle and deflate are read"},
	{"no checksum",
	 {.what = CACHE, .as = {CHUNKS, .bare = true}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: stored without checksum, expected chunks with fletcher32"},
	{"never written",
	 {.what = CACHE, .as = {.chunk = {4, 2, 8}}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: never written (storage not allocated)"},
	{"partly written",
	 {.what = CACHE, .as = {.chunk = {1, 2, 8}, .write_rows = 3}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: only partly written (3 of 8 chunks)"},
	{"opaque",
	 {.what = BY_HAND, .by_hand = opaque_type},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: type is opaque 2-byte (h5py + ml_dtypes writes this), expected "
	 "bfloat16; data/FORMAT.md shows how to write it"},
	{"float16",
	 {.what = BY_HAND, .by_hand = half_type},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: type is IEEE float16, expected bfloat16"},
	{"uint16",
	 {.what = BY_HAND, .by_hand = uint16_type},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: type is 2-byte unsigned integer, expected bfloat16"},
	{"big-endian",
	 {.what = BY_HAND, .by_hand = big_endian_type},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: type is big-endian 4-byte float, expected bfloat16"},
	{"compound",
	 {.what = BY_HAND, .by_hand = compound_extra},
	 PROBE_OPEN,
	 ": /layers/002/extra: type is 4-byte compound, expected one that data/FORMAT.md names"},
	{"rank 0",
	 {.what = CACHE, .as = {.rank = 0, .extent = {1}}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: rank is 0, expected 1 to 4"},
	{"rank 5",
	 {.what = CACHE, .as = {.rank = 5, .extent = {8, 2, 8, 1, 1}}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: rank is 5, expected 1 to 4"},
	{"rank 2",
	 {.what = CACHE, .as = {.rank = 2, .extent = {8, 16}, .chunk = {8, 16}, .write_rows = 8}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: shape [8,16], expected [8,2,8] (pages, page_size, "
	 "kv_lora_rank)"},
	{"shape",
	 {.what = CACHE,
	  .as = {.rank = 3, .extent = {8, 2, 7}, .chunk = {4, 2, 7}, .write_rows = 8}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: shape [8,2,7], expected [8,2,8] (pages, page_size, "
	 "kv_lora_rank)"},
	{"pages",
	 {.what = CACHE,
	  .as = {.rank = 3, .extent = {9, 2, 8}, .chunk = {4, 2, 8}, .write_rows = 9}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: shape [9,2,8], expected [8,2,8]"},
	{"too large",
	 {.what = CACHE,
	  .as = {.rank = 3, .extent = {1u << 30, 1u << 30, 1u << 30}, .chunk = {1, 1, 8}}},
	 PROBE_OPEN,
	 ": /layers/005/ckv_cache: larger than 137438953472 bytes"},
	{"bomb",
	 {.what = BY_HAND, .by_hand = bomb},
	 PROBE_OPEN,
	 ": /layers/002/extra: claims 1048576 bytes in chunks of 1048576, but 16 are stored"},

	{"no heads",
	 {.what = DROP, "/config", "num_heads"},
	 PROBE_OPEN,
	 ": missing attribute /config@num_heads"},
	{"zero heads",
	 {.what = U32, "/config", "num_heads", .number = 0},
	 PROBE_OPEN,
	 ": /config@num_heads = 0, expected 1 to 2147483647"},
	{"four heads",
	 {.what = U32, "/config", "num_heads", .number = 4},
	 PROBE_OPEN,
	 ": /layers/002/w_uk: shape [3,6,8], expected [4,6,8] (num_heads, qk_nope_head_dim, "
	 "kv_lora_rank)"},
	{"huge pages",
	 {.what = U32, "/config", "page_size", .number = 0x80000000u},
	 PROBE_OPEN,
	 ": /config@page_size = 2147483648, expected 1 to 2147483647"},
	{"causal 2",
	 {.what = U32, "/config", "causal", .number = 2},
	 PROBE_OPEN,
	 ": /config@causal = 2, expected 0 to 1"},
	{"nan scale",
	 {.what = F64, "/config", "softmax_scale", .real = 0},
	 PROBE_OPEN,
	 ": /config@softmax_scale is 0, expected a number of either sign"},
	{"scale beyond f32",
	 {.what = F64, "/config", "softmax_scale", .real = 1e39},
	 PROBE_OPEN,
	 ": /config@softmax_scale is 1e+39, expected a number of either sign"},
	{"denormal scale",
	 {.what = F64, "/config", "softmax_scale", .real = 1e-40},
	 PROBE_OPEN,
	 ": /config@softmax_scale is 1e-40, expected a number of either sign"},
	{"two names",
	 {.what = BY_HAND, .by_hand = two_names},
	 PROBE_OPEN,
	 ": a group or dataset has two names; mla-capture has one link to each"},
	{"two names of a group",
	 {.what = BY_HAND, .by_hand = two_names_of_a_group},
	 PROBE_OPEN,
	 ": a group or dataset has two names; mla-capture has one link to each"},
	{"big chunk",
	 {.what = BY_HAND, .by_hand = big_chunk},
	 PROBE_OPEN,
	 ": /layers/002/extra: chunks of 41943040 bytes, expected about 1048576 and at most "
	 "33554432"},
	{"column chunks",
	 {.what = BY_HAND, .by_hand = column_chunks},
	 PROBE_OPEN,
	 ": /layers/002/extra: chunks of 5242880 rows of 16 bytes that hold parts of each, "
	 "expected "
	 "whole rows"},
	{"small chunks",
	 {.what = BY_HAND, .by_hand = small_chunks},
	 PROBE_OPEN,
	 ": /layers/002/extra: 2048 chunks of 8 bytes, expected about 1048576 bytes each"},
	{"many entries",
	 {.what = BY_HAND, .by_hand = many_entries},
	 PROBE_OPEN,
	 ": /steps/000/kv_page_indices would take 335544"},
	{"early position",
	 {.what = BY_HAND, .by_hand = early_position},
	 PROBE_OPEN,
	 ": /steps/001: batch.q_pos0[1] is -1073741825, expected -2^30 to 2^30"},
	{"nan scale",
	 {.what = F64, "/config", "softmax_scale", .real = NAN},
	 PROBE_OPEN,
	 ": /config@softmax_scale = nan, expected a finite number"},
	{"layout",
	 {.what = TEXT, "/config", "rope_layout", .text = "neox"},
	 PROBE_OPEN,
	 ": /config@rope_layout is \"neox\", expected \"interleaved\", \"half\" or \"none\""},
	{"dtype",
	 {.what = TEXT, "/config", "dtype", .text = "fp8"},
	 PROBE_OPEN,
	 ": /config@dtype is \"fp8\", expected \"bf16\", \"fp16\" or \"f32\""},
	{"cache dtype",
	 {.what = TEXT, "/config", "ckv_dtype", .text = "fp16"},
	 PROBE_OPEN,
	 ": /layers/002/ckv_cache: type is bfloat16, expected IEEE float16"},
	{"no nope",
	 {.what = U32, "/config", "qk_nope_head_dim", .number = 0},
	 PROBE_OPEN,
	 ": /config: qk_nope_head_dim = 0 and v_head_dim = 5, a model-forward capture needs both"},
	{"no rope",
	 {.what = U32, "/config", "qk_rope_head_dim", .number = 0},
	 PROBE_OPEN,
	 ": /layers/002/kpe_cache exists, but qk_rope_head_dim is 0"},

	{"layer_index",
	 {.what = U32, "/layers/005", "layer_index", .number = 3},
	 PROBE_OPEN,
	 ": /layers/005@layer_index = 3, expected 5"},
	{"no layers",
	 {.what = BY_HAND, .by_hand = no_layers},
	 PROBE_OPEN,
	 ": no group /layers/000 to /layers/999, expected one"},
	{"no steps",
	 {.what = UNLINK, "/steps"},
	 PROBE_OPEN,
	 ": no group /steps/000 to /steps/999, expected one"},
	{"no step layer",
	 {.what = UNLINK, "/steps/001/layers/005"},
	 PROBE_OPEN,
	 ": missing group /steps/001/layers/005: every step has every layer of /layers"},
	{"stray step layer",
	 {.what = GROUP, "/steps/001/layers/007"},
	 PROBE_OPEN,
	 ": /steps/001/layers/007 has no /layers/007"},
	{"no step name",
	 {.what = DROP, "/steps/001", "name"},
	 PROBE_OPEN,
	 ": missing attribute /steps/001@name"},

	{"qo start",
	 {.what = I32, "/steps/000/qo_indptr", .at = {0}, .number = 1},
	 PROBE_OPEN,
	 ": /steps/000/qo_indptr starts at 1, expected 0"},
	{"qo falls",
	 {.what = I32, "/steps/000/qo_indptr", .at = {1}, .number = 9},
	 PROBE_OPEN,
	 ": /steps/000/qo_indptr is not non-decreasing at 2 (9 -> 8)"},
	{"kv falls",
	 {.what = I32, "/steps/000/kv_indptr", .at = {1}, .number = 41},
	 PROBE_OPEN,
	 ": /steps/000/kv_indptr is not non-decreasing at 2 (41 -> 7)"},
	{"kv end",
	 {.what = I32, "/steps/000/kv_indptr", .at = {2}, .number = 50},
	 PROBE_OPEN,
	 ": /steps/000/kv_indptr ends at 50, kv_page_indices has 7 entries"},
	{"kv negative",
	 {.what = I32, "/steps/000/kv_len", .at = {1}, .number = -5},
	 PROBE_OPEN,
	 ": /steps/000/kv_len[1] = -5, expected 0 or more"},
	{"kv too long",
	 {.what = I32, "/steps/000/kv_len", .at = {1}, .number = 7},
	 PROBE_OPEN,
	 ": /steps/000/kv_len[1] = 7 needs 4 pages of 2, kv_indptr gives 3"},
	{"page high",
	 {.what = I32, "/steps/001/kv_page_indices", .at = {1}, .number = 8},
	 PROBE_OPEN,
	 ": /steps/001/kv_page_indices[1] = 8 is out of range, ckv_cache has 8 pages"},
	{"page negative",
	 {.what = I32, "/steps/001/kv_page_indices", .at = {5}, .number = -1},
	 PROBE_OPEN,
	 ": /steps/001/kv_page_indices[5] = -1 is out of range, ckv_cache has 8 pages"},
	{"page twice",
	 {.what = I32, "/steps/002/kv_page_indices", .at = {6}, .number = 6},
	 PROBE_OPEN,
	 ": /steps/002/kv_page_indices: request 1 uses page 6 twice (entries 4 and 6)"},
	{"more queries",
	 {.what = I32, "/steps/000/qo_indptr", .at = {2}, .number = 9},
	 PROBE_OPEN,
	 ": /steps/000/positions: shape [8], expected [9] (total_q)"},

	{"nan query",
	 {.what = U16, "/steps/001/layers/002/q_pe", .at = {1, 2, 3}, .number = 0x7fc0},
	 PROBE_LOAD,
	 ": /steps/001/layers/002/q_pe: 1 non-finite values, first at [1,2,3]"},
	{"nan query",
	 {.what = U16, "/steps/001/layers/002/q_pe", .at = {1, 2, 3}, .number = 0x7fc0},
	 PROBE_VERIFY,
	 ": /steps/001/layers/002/q_pe: 1 non-finite values, first at [1,2,3]"},
	{"infinite weight",
	 {.what = U16, "/layers/002/w_uv", .at = {0, 0, 1}, .number = 0xff80},
	 PROBE_LOAD,
	 ": /layers/002/w_uv: 1 non-finite values, first at [0,0,1]"},
	{"nan key",
	 {.what = BY_HAND, .by_hand = nan_key},
	 PROBE_LOAD,
	 ": /layers/002/ckv_cache: 2 non-finite values, first at [1,1,2]"},
	{"nan key",
	 {.what = BY_HAND, .by_hand = nan_key},
	 PROBE_VERIFY,
	 ": /layers/002/ckv_cache: 2 non-finite values, first at [1,1,2]"},
	{"changed value",
	 {.what = U16, "/layers/002/kpe_cache", .at = {7, 1, 3}, .number = 0x3f80},
	 PROBE_VERIFY,
	 ": /layers/002/kpe_cache: sha256 mismatch (file "},
	{"changed attribute",
	 {.what = TEXT, "/", "notes", .text = "another test"},
	 PROBE_OPEN,
	 ": content_sha256 mismatch (file "},
	{"added attribute",
	 {.what = TEXT, "/steps/000/kv_len", "unit", .text = "tokens"},
	 PROBE_OPEN,
	 ": content_sha256 mismatch (file "},
	{"no content",
	 {.what = DROP, "/", "content_sha256"},
	 PROBE_STRICT,
	 ": no /@content_sha256: a changed attribute would not be found"},
};

Test(capture_damage, every_damage_is_named)
{
	const char *good = in_folder("good.h5");

	fixture_write(good, CAPTURE_MODEL_FORWARD, MLA_BF16, false);
	for (size_t i = 0; i < COUNT(damages); i++) {
		const char *path = in_folder("damaged.h5");
		hid_t file;

		copy_file(in_folder("good.h5"), path);
		file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
		cr_assert(file >= 0);
		apply(file, &damages[i].change);
		cr_assert(H5Fclose(file) >= 0);
		expect_error(path, damages[i].how, damages[i].what, damages[i].expected);
	}
}

/* Warnings of verify, which --strict makes errors. */
static const struct {
	const char *what;
	struct change change;
	const char *expected;
} warnings[] = {
	{"no content",
	 {.what = DROP, "/", "content_sha256"},
	 "no /@content_sha256: a changed attribute would not be found"},
	{"other scale",
	 {.what = F64, "/config", "softmax_scale", .real = 0.4},
	 "/config@softmax_scale = 0.4 but rope_scaling implies 0.3162278"},
	{"no mscale",
	 {.what = TEXT,
	  "/config",
	  "rope_scaling",
	  .text = "{\"type\": \"yarn\", \"factor\": 40, \"mscale_all_dim\": 0.707}"},
	 "/config@softmax_scale = 0.3162278 but rope_scaling implies 0.5026839 (mscale missing? "
	 "some versions of transformers leave it out)"},
	{"odd scaling",
	 {.what = TEXT, "/config", "rope_scaling", .text = "{\"type\": \"linear\"}"},
	 "/config@rope_scaling is not \"none\" nor JSON with rope_type \"yarn\" and factor, or "
	 "\"default\": softmax_scale not checked"},
	{"odd software",
	 {.what = TEXT, "/", "software", .text = "torch 2"},
	 "/@software is not JSON"},
};

/* Puts the right /@content_sha256 into a file, so that no other warning comes before. */
static void seal(const char *path)
{
	struct capture *capture;
	char hex[SHA256_TEXT];
	hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);

	drop_attribute(file, "/", "content_sha256");
	H5Fclose(file);
	capture = open_good(path);
	cr_assert(!cap_content_sha256(&capture->listing.attributes, path, hex));
	capture_close(capture);
	file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
	set_text(file, "/", "content_sha256", hex);
	H5Fclose(file);
}

static void verify_to_text(const char *path, bool strict, mla_status expected, char *text,
			   size_t size)
{
	FILE *log = tmpfile();
	size_t n;

	cr_assert(log);
	cr_expect_eq(capture_verify(path, strict, log), expected, "%s", mla_last_error());
	rewind(log);
	n = fread(text, 1, size - 1, log);
	text[n] = 0;
	fclose(log);
}

Test(capture_damage, warnings_are_errors_if_strict)
{
	fixture_write(in_folder("good.h5"), CAPTURE_MODEL_FORWARD, MLA_BF16, false);
	for (size_t i = 0; i < COUNT(warnings); i++) {
		const char *path = in_folder("warned.h5");
		char text[2048], expected[512];
		hid_t file;

		copy_file(in_folder("good.h5"), path);
		file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
		apply(file, &warnings[i].change);
		H5Fclose(file);
		if (i > 0)
			seal(path);
		snprintf(expected, sizeof(expected), "%s: warning: %s\n%s: good: ", path,
			 warnings[i].expected, path);
		verify_to_text(path, false, 0, text, sizeof(text));
		cr_expect(!strncmp(text, expected, strlen(expected)),
			  "%s: found \"%s\", expected \"%s\"", warnings[i].what, text, expected);
		expect_error(path, PROBE_STRICT, warnings[i].what, warnings[i].expected);
	}
}

/* @sha256 is made right, too: only the positions are odd. */
Test(capture_damage, positions_that_the_mask_does_not_have_are_a_warning)
{
	static const int32_t odd[] = {5, 4};
	const char *path = in_folder("odd.h5");
	char text[2048], expected[512], hex[SHA256_TEXT];
	struct sha256 *sha = sha256_begin();
	hid_t file;

	fixture_write(path, CAPTURE_KERNEL_CALL, MLA_BF16, false);
	file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
	set_i32(file, "/steps/001/positions", 1, odd[1]);
	sha256_add(sha, odd, sizeof(odd));
	sha256_finish(sha, hex);
	set_text(file, "/steps/001/positions", "sha256", hex);
	H5Fclose(file);
	seal(path);
	snprintf(
		expected, sizeof(expected),
		"%s: warning: /steps/001/positions[1] = 4, expected 3 (q_pos0 of request 1 and the "
		"query's number)\n",
		path);
	verify_to_text(path, false, 0, text, sizeof(text));
	cr_expect(!strncmp(text, expected, strlen(expected)), "%s", text);
	expect_error(path, PROBE_STRICT, "positions", ": /steps/001/positions[1] = 4, expected 3");
}

Test(capture_damage, good_files_verify_strictly)
{
	for (int kind = CAPTURE_KERNEL_CALL; kind <= CAPTURE_SYNTHETIC; kind++) {
		const char *path = in_folder("good.h5");
		char text[512], expected[256];

		fixture_write(path, (enum capture_kind)kind, MLA_BF16, kind == CAPTURE_SYNTHETIC);
		verify_to_text(path, true, 0, text, sizeof(text));
		snprintf(expected, sizeof(expected), "%s: good: %s, 3 steps, 2 layers, ", path,
			 cap_kind_words[kind]);
		cr_expect(!strncmp(text, expected, strlen(expected)), "%s", text);
	}
}

Test(capture_damage, absorbed_queries_that_overflow_are_named)
{
	const char *path = in_folder("overflow.h5");
	hid_t file;

	fixture_write(path, CAPTURE_MODEL_FORWARD, MLA_F16, false);
	file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
	for (hsize_t d = 0; d < NOPE; d++) {
		set_u16(file, "/layers/002/w_uk", 1, d, 3, 0x7bff); /* 65504 */
		set_u16(file, "/steps/000/layers/002/q_nope", 4, 1, d, 0x4000);
	}
	H5Fclose(file);
	expect_error(path, PROBE_LOAD, "overflow", ": /steps/000/layers/002/q_nope: ");
	expect_error(path, PROBE_LOAD, "overflow",
		     " values overflow IEEE float16 once absorbed with W_UK");
}

/* ---- files that are not what they should be ------------------------------------------------- */

static void expect_bytes_error(const void *bytes, size_t size, const char *what,
			       const char *expected)
{
	const char *path = in_folder("bytes.h5");

	write_bytes(path, bytes, size);
	for (int how = PROBE_OPEN; how <= PROBE_VERIFY; how++)
		expect_error(path, how, what, expected);
}

Test(capture_damage, what_is_not_a_capture_is_named)
{
	static const char pointer[] =
		"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n";

	expect_error(in_folder("none.h5"), PROBE_OPEN, "missing", ": No such file or directory");
	expect_error(in_folder("none.h5"), PROBE_VERIFY, "missing", ": No such file or directory");
	expect_error(folder, PROBE_OPEN, "folder", ": not a regular file");
	expect_bytes_error("", 0, "empty", ": file is empty");
	expect_bytes_error("hello\033[2J", 9, "text",
			   ": not an HDF5 file (first bytes: \"hello.[2J\")");
	expect_bytes_error(pointer, sizeof(pointer) - 1, "pointer",
			   ": not an HDF5 file (first bytes: \"version https://git-lfs\"): this is "
			   "a Git LFS pointer, fetch the real file");
}

Test(capture_damage, every_truncation_is_named)
{
	size_t size;
	unsigned char *bytes;
	char expected[128];

	fixture_write(in_folder("good.h5"), CAPTURE_KERNEL_CALL, MLA_BF16, false);
	bytes = read_bytes(in_folder("good.h5"), &size);
	for (size_t cut = 60; cut < size; cut += 1 + size / 40) {
		snprintf(expected, sizeof(expected),
			 ": file is truncated: %zu bytes, header says %zu", cut, size);
		expect_bytes_error(bytes, cut, "truncated", expected);
	}
	expect_bytes_error(bytes, 20, "header cut", ": cannot be opened: ");
	free(bytes);
}

/* A writer that dies between two datasets leaves a file whose header points to nothing yet. */
Test(capture_damage, an_unclosed_file_is_named)
{
	const char *path = in_folder("unclosed.h5");
	const pid_t child = fork();

	if (child == 0) {
		const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
		hid_t file;

		H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V110);
		file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
		for (int i = 0; i < 4; i++) {
			const struct replacement as = {.type = H5T_STD_I32LE,
						       .rank = 1,
						       .extent = {1 << 14},
						       .chunk = {1 << 14},
						       .write_rows = 1 << 14};
			char name[32];

			snprintf(name, sizeof(name), "/data%d", i);
			H5Dclose(replace(file, name, &as));
		}
		_exit(0);
	}
	waitpid(child, NULL, 0);
	expect_error(path, PROBE_OPEN, "unclosed", ": not closed by its writer (");
	expect_error(path, PROBE_VERIFY, "unclosed", ": not closed by its writer (");
}

Test(capture_damage, a_user_block_is_named)
{
	size_t size;
	unsigned char *bytes, *moved;

	fixture_write(in_folder("good.h5"), CAPTURE_KERNEL_CALL, MLA_BF16, false);
	bytes = read_bytes(in_folder("good.h5"), &size);
	moved = calloc(1, size + 2048);
	memcpy(moved + 2048, bytes, size);
	expect_bytes_error(moved, size + 2048, "user block",
			   ": has a user block of 2048 bytes, expected HDF5 from the first byte");
	free(moved);
	free(bytes);
}

Test(capture_damage, a_file_that_is_being_written_is_named)
{
	const char *path = in_folder("written.h5");
	hid_t file;

	fixture_write(path, CAPTURE_KERNEL_CALL, MLA_BF16, false);
	file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
	cr_assert(file >= 0);
	expect_error(path, PROBE_OPEN, "locked",
		     ": cannot be opened: it is being written by another process");
	H5Fclose(file);
	cr_expect(!probe(path, PROBE_OPEN), "%s", mla_last_error());
}

/* Neither a pipe without a writer nor a folder is waited for. */
Test(capture_damage, what_is_no_regular_file_is_not_waited_for)
{
	const char *path = in_folder("pipe.h5");

	cr_assert(!mkfifo(path, 0600));
	for (int how = PROBE_OPEN; how <= PROBE_VERIFY; how++)
		expect_error(path, how, "pipe", ": not a regular file");
	cr_expect(!capture_is_hdf5(path));
}

/* Where the elements of a dataset lie in the file: it holds its bytes once. */
static size_t find_data(const unsigned char *bytes, size_t size, const void *data, size_t length)
{
	const unsigned char *found = memmem(bytes, size, data, length);

	cr_assert(found, "the data is not in the file");
	return (size_t)(found - bytes);
}

Test(capture_damage, a_flipped_bit_in_data_is_found_when_loading)
{
	const char *path = in_folder("flipped.h5");
	struct capture *capture;
	struct mla_case c;
	size_t size, where;
	unsigned char *bytes;

	fixture_write(path, CAPTURE_KERNEL_CALL, MLA_BF16, false);
	capture = open_good(path);
	load_good(capture, 0, 0, &c);
	capture_close(capture);
	bytes = read_bytes(path, &size);
	where = find_data(bytes, size, c.tensors.q_nope.data, 8 * HEADS * CKV * 2);
	case_free(&c);
	bytes[where + 33] ^= 0x10;
	write_bytes(path, bytes, size);
	free(bytes);
	expect_error(path, PROBE_LOAD, "flipped bit",
		     ": /steps/000/layers/002/q_nope: checksum error in chunk (fletcher32)");
	expect_error(path, PROBE_VERIFY, "flipped bit",
		     ": /steps/000/layers/002/q_nope: checksum error in chunk (fletcher32)");
}

/* However many steps there are, and however large a cache a small file claims. */
Test(capture_damage, what_needs_no_cache_reads_none)
{
	const char *path = in_folder("flipped.h5");
	struct capture *capture;
	struct mla_case c;
	size_t size;
	unsigned char *bytes;

	fixture_write(path, CAPTURE_MODEL_FORWARD, MLA_BF16, false);
	capture = open_good(path);
	load_good(capture, 0, 0, &c);
	capture_close(capture);
	bytes = read_bytes(path, &size);
	bytes[find_data(bytes, size, c.tensors.ckv.data, PAGE_SIZE * CKV * 2)] ^= 0x10;
	write_bytes(path, bytes, size);
	free(bytes);
	expect_error(path, PROBE_LOAD, "flipped bit", ": /layers/002/ckv_cache: checksum error");
	capture = open_good(path);
	cr_expect(!cap_check_loads(capture, 0), "%s", mla_last_error());
	case_free(&c);
	cr_expect(!capture_load_batch(capture, 1, 0, &c), "%s", mla_last_error());
	cr_expect_eq(c.batch.kv_len[0], fixture_steps[1].kv_len[0]);
	cr_expect(c.tensors.kv_indices && !c.tensors.ckv.data && !c.tensors.q_nope.data);
	case_free(&c);
	capture_close(capture);
}

/* What loading would refuse, verify refuses in the same words, of every kind. */
Test(capture_damage, a_case_that_takes_too_much_memory_is_named)
{
	for (int kind = CAPTURE_KERNEL_CALL; kind <= CAPTURE_SYNTHETIC; kind++) {
		const char *path = in_folder("large.h5");
		struct capture *capture;
		struct mla_case c;

		fixture_write(path, (enum capture_kind)kind, MLA_BF16, false);
		capture = open_good(path);
		capture->steps[1].num_pages = 20 << 20; /* of 32 bytes and 16 */
		cr_expect_eq(capture_load(capture, 1, 1, &c), MLA_INVALID);
		cr_expect(strstr(mla_last_error(), ": /steps/001/layers/005 would take 10066"),
			  "%s", mla_last_error());
		cr_expect_eq(cap_check_loads(capture, 1), MLA_INVALID);
		cr_expect(strstr(mla_last_error(), ": /steps/001/layers/005 would take 10066"),
			  "%s", mla_last_error());
		capture_close(capture);
	}
}

/* ---- a hostile parser run ------------------------------------------------------------------- */

/* Sends a signal to the process that parses, which is the keeper's watcher's child; as a crash or a
 * hang would end it. */
static bool kill_grandchild(int pid, int depth, int number, pid_t except)
{
	char list[64];
	FILE *stream;
	int child;

	snprintf(list, sizeof(list), "/proc/%d/task/%d/children", pid, pid);
	stream = fopen(list, "r");
	while (stream && fscanf(stream, "%d", &child) == 1)
		if (child != (int)except &&
		    (depth ? kill_grandchild(child, depth - 1, number, except)
			   : !kill(child, number))) {
			fclose(stream);
			return true;
		}
	if (stream)
		fclose(stream);
	return false;
}

static pid_t start_killer(pid_t parent, int number)
{
	const pid_t killer = fork();

	if (killer)
		return killer;
	while (!kill_grandchild((int)parent, 2, number, getpid()))
		;
	_exit(0);
}

static void expect_killed(const char *path, int number, const char *expected)
{
	const pid_t killer = start_killer(getpid(), number);

	cr_expect_eq(capture_verify(path, false, NULL), MLA_INVALID);
	kill(killer, SIGKILL);
	waitpid(killer, NULL, 0);
	cr_expect(strstr(mla_last_error(), expected), "found \"%s\", expected \"%s\"",
		  mla_last_error(), expected);
}

/* One query, and a cache of 41 MB. */
static void write_large(const char *path)
{
	static const int32_t qo_len[] = {1}, kv_len[] = {40000};
	const struct generate_spec spec = {
		.seed = 1,
		.config = {.struct_size = sizeof(mla_config),
			   .num_heads = 1,
			   .head_dim_ckv = 512,
			   .page_size = 64,
			   .sm_scale = 0.1},
		.batch_size = 1,
		.qo_len = qo_len,
		.kv_len = kv_len,
	};
	const struct capture_writing how = {.notes = "a test", .tool = "test"};
	struct mla_case c;

	cr_assert(!generate_case(&spec, &c));
	cr_assert(!put_capture(path, &c, &how), "%s", mla_last_error());
	case_free(&c);
}

Test(capture_damage, the_end_of_the_parsing_process_is_a_sentence)
{
	const char *path = in_folder("large.h5");

	write_large(path);
	expect_killed(
		path, SIGKILL,
		"parser crashed (signal 9) reading this file: treat it as hostile or damaged");
	expect_killed(path, SIGALRM,
		      "parser made no progress in 60 s: treat it as hostile or damaged");
	expect_killed(path, SIGPROF,
		      "parser made no progress in 4 s: treat it as hostile or damaged");
}

/* ---- a file that could not be verified ------------------------------------------------------- */

/* capture_verify while a resource is limited. */
static void expect_no_memory(const char *path, int resource, rlim_t most, const char *expected)
{
	struct rlimit before, limited;
	mla_status status;

	cr_assert(!getrlimit(resource, &before));
	limited = (struct rlimit){most, before.rlim_max};
	cr_assert(!setrlimit(resource, &limited));
	status = capture_verify(path, false, NULL);
	cr_assert(!setrlimit(resource, &before));
	cr_expect_eq(status, MLA_NO_MEMORY, "%s", mla_status_name(status));
	cr_expect(strstr(mla_last_error(), expected), "found \"%s\", expected \"%s\"",
		  mla_last_error(), expected);
}

Test(capture_damage, no_reading_process_is_no_verdict)
{
	fixture_write(in_folder("good.h5"), CAPTURE_SYNTHETIC, MLA_BF16, false);
	expect_no_memory(in_folder("good.h5"), RLIMIT_NOFILE, 4, "good.h5: Too many open files");
}

#ifndef __SANITIZE_ADDRESS__ /* which needs memory without end */
Test(capture_damage, too_little_memory_is_no_verdict)
{
	unsigned long total, resident, shared, text, library, data;
	FILE *stream = fopen("/proc/self/statm", "r");

	write_large(in_folder("large.h5"));
	cr_assert(stream && fscanf(stream, "%lu %lu %lu %lu %lu %lu", &total, &resident, &shared,
				   &text, &library, &data) == 6);
	fclose(stream);
	expect_no_memory(in_folder("large.h5"), RLIMIT_DATA,
			 (rlim_t)data * (rlim_t)sysconf(_SC_PAGESIZE) + (16 << 20),
			 "large.h5: out of memory");
}
#endif
