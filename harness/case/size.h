/* size.h - how large a batch is, counted in 64 bits before anything is made of it. Options that are
 * each in range have sums and products that are not. */
#ifndef MLA_CASE_SIZE_H
#define MLA_CASE_SIZE_H

#include <stdint.h>

#include "mla.h"

struct case_size {
	int64_t queries;
	int64_t pages; /* of all requests, a shared one counted for each */
};

/* Of requests with these lengths, [batch_size] each. MLA_INVALID, with what is too many, if 32 bits
 * do not count it. */
mla_status case_size_of(const mla_config *config, int32_t batch_size, const int32_t *qo_len,
			const int32_t *kv_len, struct case_size *size);

/* Bytes of a contiguous tensor; extent[ndim]. INT64_MAX if that is beyond 64 bits. */
int64_t case_tensor_bytes(int32_t dtype, int32_t ndim, const int64_t *extent);

/* Bytes of the inputs: queries, pages (those of the cache: as many as num_pages), their index. */
int64_t case_input_bytes(const mla_config *config, const struct case_size *size, int64_t num_pages);

#endif
