/* json.h - the JSON that goes with what the verbs show.
 */
#ifndef MLA_REPORT_JSON_H
#define MLA_REPORT_JSON_H

#include <jansson.h>

#include "base/stats.h"
#include "check/check.h"

/* {schema, schema_version, program, environment}, ready for more. */
json_t *report_json_new(const char *schema);
/* JSON has no NaN and no infinity: those become the strings "nan", "inf" and "-inf". */
json_t *report_json_number(double value);
/* A text that is not UTF-8 (file names may hold any bytes) is shown, as base/text.h has it. */
json_t *report_json_string(const char *text);
json_t *report_json_verdict(const char *name, const struct check_verdict *verdict);
json_t *report_json_case(const struct mla_case *c, const char *id);
json_t *report_json_stats(const struct stats *stats);
/* The bounds of check/check.h by which outputs are judged. */
json_t *report_json_tolerances(void);
/* Puts value under key; exits if memory ran out, so that no report lacks a part silently. */
void report_json_set(json_t *object, const char *key, json_t *value);
void report_json_append(json_t *array, json_t *value);
/* On standard output, in ASCII: what a terminal would obey is an escape. */
void report_json_print(const json_t *root);

#endif
