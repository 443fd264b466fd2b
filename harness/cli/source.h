/* source.h - where cases come from: capture files, the generator's sequence, a shape. */
#ifndef MLA_CLI_SOURCE_H
#define MLA_CLI_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "case/case.h"

struct cli_source {
	const char *file; /* NULL unless a capture file */
	struct capture *capture;
	const struct cli_shape *shape; /* NULL unless from flags */
	uint64_t seed;                 /* else generated: number first ... of the sequence */
	int first, count;
};
mla_status cli_source_file(struct cli_source *source, const char *file);
void cli_source_random(struct cli_source *source, uint64_t seed, int first, int count);
void cli_source_shape(struct cli_source *source, const struct cli_shape *shape);
void cli_source_close(struct cli_source *source);

/* "001/005" (step/layer), "random:7.3" (seed.number) or "shape". */
#define CLI_ID_SIZE 64
void cli_source_id(const struct cli_source *source, int index, char *id, size_t size);
/* Does -c choose this case? pattern NULL chooses all; else a shell pattern, or step/layer with or
 * without leading zeros. */
bool cli_id_matches(const char *id, const char *pattern);
/* "random:7.3" as a source of its own. */
bool cli_random_id(const char *pattern, struct cli_source *source);
/* What reports call the case: "file.h5:001/005", "generated shape". The caller frees it. */
char *cli_source_name(const struct cli_source *source, int index);

mla_status cli_source_load(const struct cli_source *source, int index, struct mla_case *c);
/* Says why the case could not be loaded; the exit code. */
int cli_source_fail(const struct cli_source *source, mla_status status);
/* Says that the pattern chooses no case; the exit code. */
int cli_source_lacks(const struct cli_source *source, const char *pattern);
/* The first case that the pattern chooses, loaded. An exit code: behind a sentence unless CLI_OK.
 */
int cli_source_first(const struct cli_source *source, const char *pattern, struct mla_case *c,
		     char *id, size_t size);
/* The same of a file, without tensors: config, batch and page table. */
int cli_source_first_batch(const struct cli_source *source, const char *pattern,
			   struct mla_case *c);

#endif
