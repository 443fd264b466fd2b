/* geometry.h - pages, and which keys a query sees: the library's and the programs' one reading of
 * mla.h. The reference, the proof of plans and the kernels keep readings of their own: agreeing
 * with this one is what they are worth.
 */
#ifndef MLA_LIB_GEOMETRY_H
#define MLA_LIB_GEOMETRY_H

#include "mla.h"

/* Pages that so many keys take. */
int64_t geometry_pages(const mla_config *config, int64_t keys);

/* Key position of a request's query 0: q_pos0, or kv_len - qo_len. It is what a causal query sees
 * last; without causal it only names a place in the sequence. */
int64_t geometry_position(const mla_batch *batch, int32_t request);

/* Keys of its request that a query (counted inside the request) sees: the first so many. */
int64_t geometry_seen(const mla_config *config, const mla_batch *batch, int32_t request,
		      int64_t query);

/* Which keys count as in use. Three sets on purpose: they differ where a request has no queries, or
 * fewer than its last key needs. */
enum geometry_reach {
	GEOMETRY_SEEN,    /* keys that some query sees: what has to be read */
	GEOMETRY_QUERIED, /* all keys of requests with queries: what may be read */
	GEOMETRY_KEPT,    /* all keys of all requests: what a capture has to hold */
};

/* Raises slots[page] to the slots of each page that are in use, counted from the page's start.
 * slots: [num_pages], set by the caller, zeros at first. Page ids are not checked here. */
void geometry_mark(const mla_config *config, const mla_batch *batch, const int32_t *kv_indices,
		   enum geometry_reach reach, int32_t *slots);

#endif
