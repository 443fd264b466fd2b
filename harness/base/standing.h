/* standing.h - what a file holds that an output would replace. */
#ifndef MLA_BASE_STANDING_H
#define MLA_BASE_STANDING_H

#include "base/output.h"

/* May the plan's output replace this regular file? It may if that is empty or of the kind that is
 * written, by its contents. Else MLA_REFUSED. name: as the user said it. */
mla_status standing_check(const char *path, const char *name, const struct output_plan *plan);

#endif
