/* validate.h - every value that enters the library is checked here, in one place; each message
 * names the argument, the index, what was found and what was expected.
 */
#ifndef MLA_VALIDATE_H
#define MLA_VALIDATE_H

#include <stdbool.h>

#include "mla.h"

/* Keys, positions and queries stay below these, so that sums of them fit 32 bits. */
#define MLA_MAX_KV_LEN  (1 << 30)
#define MLA_MAX_QUERIES (1 << 29)

/* A number that must lie in [least, most]. */
struct mla_range {
	const char *name;
	int64_t value, least, most;
};
mla_status mla_check_ranges(const struct mla_range *ranges, size_t count);

mla_status mla_check_config(const mla_config *config);
mla_status mla_check_device(const mla_device *device);
mla_status mla_check_traits(const mla_traits *traits);
mla_status mla_check_batch(const mla_config *config, const mla_batch *batch);
mla_status mla_check_problem(const mla_config *config, const mla_batch *batch); /* both */

/* What mla_check_tensors needs besides the tensors. */
struct mla_expect {
	const mla_config *config;
	int64_t queries;    /* rows that q, out and lse must hold at least */
	int64_t pages;      /* entries that kv_indices must hold at least */
	int32_t align;      /* of addresses and strides; 0: an element's size */
	const char *reason; /* why so many queries or pages, for the message */
};
mla_status mla_check_tensors(const struct mla_expect *expect, const mla_tensors *tensors);
/* Does kv_indices hold as many entries as the batch (already checked) reads? */
mla_status mla_check_table(const mla_batch *batch, const mla_tensors *tensors);
mla_status mla_check_merge_args(const mla_merge_args *args);

/* First key that query i of the request does not see, ignoring kv_len: q_pos0 + i + 1. */
int32_t mla_first_position(const mla_config *config, const mla_batch *batch, int32_t request);

#endif
