/* instrument.h - does the benchmark itself tell the truth? For the GPU suite: called only where a
 * GPU is.
 */
#ifndef MLA_SUITE_INSTRUMENT_H
#define MLA_SUITE_INSTRUMENT_H

#include "suite/suite.h"

/* A wait of known length is timed in both modes, inputs made on the GPU are those made on the host,
 * the comparison finds planted errors, the checksum finds a changed byte. A line per test. */
void suite_instrument(struct suite_result *result);

#endif
