/* cells.c - the flags that choose cells.
 */
#include "cli/cells.h"

#include <fnmatch.h>

enum { OPT_SUITE = 0xc00, OPT_CELLS, OPT_CELL_SEED };

static const struct argp_option options[] = {
	{"suite", OPT_SUITE, "NAME", 0, "smoke, peers or sweep: cells measured one by one", 0},
	{"cells", OPT_CELLS, "LIST", 0,
	 "Cells of your own: b4_1000_h16 is 4 requests of 1000 keys, 16 heads; "
	 "b128_8Kv_h128_q2_p16 "
	 "has lengths varied around 8192, 2 queries per request (causal), pages of 16 keys",
	 0},
	{"cell-seed", OPT_CELL_SEED, "N", 0, "Values, lengths and page order of cells (default 1)",
	 0},
	{0},
};

void cli_cells_init(struct cli_cells *cells)
{
	*cells = (struct cli_cells){.seed = 1};
}

void cli_cells_free(struct cli_cells *cells)
{
	cli_strings_free(&cells->names);
}

bool cli_cells_given(const struct cli_cells *cells)
{
	return cells->suite || cells->names.count > 0;
}

bool cli_cells_match(const char *name, const char *pattern)
{
	return !pattern || !fnmatch(pattern, name, 0);
}

static const struct cell_suite *parse_suite(const char *arg, struct argp_state *state)
{
	const char *names[8];

	for (int i = 0; i < cell_num_suites; i++)
		names[i] = cell_suites[i].name;
	return &cell_suites[cli_choice(state, "--suite", arg, names, cell_num_suites)];
}

static void parse_names(struct cli_cells *cells, const char *arg, struct argp_state *state)
{
	struct cell cell;

	if (cells->names.count)
		cli_error(state, "--cells: one list is enough");
	cli_strings_split(&cells->names, arg);
	for (int i = 0; i < cells->names.count; i++)
		if (cell_parse(cells->names.values[i], &cell))
			cli_error(state, "--cells: %s", mla_last_error());
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
	struct cli_cells *cells = state->input;

	switch (key) {
	case OPT_SUITE:
		cells->suite = parse_suite(arg, state);
		return 0;
	case OPT_CELLS:
		parse_names(cells, arg, state);
		return 0;
	case OPT_CELL_SEED:
		cells->seed = (uint64_t)cli_integer(state, "--cell-seed", arg, 0, INT64_MAX);
		return 0;
	}
	return ARGP_ERR_UNKNOWN;
}

const struct argp cli_cells_argp = {.options = options, .parser = parse};
