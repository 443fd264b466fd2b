/* cells.h - which cells a verb is about: --suite, --cells, --cell-seed, and -c among them.
 */
#ifndef MLA_CLI_CELLS_H
#define MLA_CLI_CELLS_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>

#include "case/cell.h"
#include "cli/args.h"

struct cli_cells {
	const struct cell_suite *suite; /* NULL unless --suite */
	struct cli_strings names;       /* of --cells, each of which is a cell */
	uint64_t seed;                  /* of values, lengths and page order */
};
/* A child for argp: its input is a struct cli_cells that cli_cells_init filled. */
extern const struct argp cli_cells_argp;
void cli_cells_init(struct cli_cells *cells);
void cli_cells_free(struct cli_cells *cells);
bool cli_cells_given(const struct cli_cells *cells);

/* Is the cell of this name chosen by -c, a shell pattern or NULL? */
bool cli_cells_match(const char *name, const char *pattern);

#endif
