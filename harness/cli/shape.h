/* shape.h - a generated case from flags: --batch, --heads, --kv-len ... */
#ifndef MLA_CLI_SHAPE_H
#define MLA_CLI_SHAPE_H

#include "case/generate.h"
#include "cli/args.h"

struct cli_shape {
	struct generate_spec spec; /* qo_len, kv_len and q_pos0 are the lists below */
	struct cli_ints qo_len, kv_len, q_pos0;
	long batch_size; /* 0: as long as the lists are */
	long low, high;  /* --kv-len uniform:LOW-HIGH; high < 0 if not asked for */
	bool given;      /* a flag of the shape was used */
};
/* A child for argp: its input is a struct cli_shape that cli_shape_init filled. */
extern const struct argp cli_shape_argp;
void cli_shape_init(struct cli_shape *shape);
void cli_shape_free(struct cli_shape *shape);

#endif
