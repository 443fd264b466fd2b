/* cli.c - how the verbs say what went wrong: the one map from a status to an exit code.
 */
#include "cli/cli.h"

#include <stdio.h>

#include "base/text.h"

static void say(const char *who)
{
	text_print(stderr, "%s: %s\n", who, mla_last_error());
}

int cli_fail(const char *who, mla_status status)
{
	static const int codes[] = {
		[MLA_INVALID] = CLI_USAGE,   [MLA_REFUSED] = CLI_SKIPPED,
		[MLA_CAPACITY] = CLI_FAILED, [MLA_NO_MEMORY] = CLI_FAILED,
		[MLA_CUDA] = CLI_FAILED,     [MLA_NO_CUDA] = CLI_SKIPPED,
	};

	say(who);
	return codes[status];
}

int cli_fail_file(const char *who)
{
	say(who);
	return CLI_BAD_FILE;
}

int cli_fail_output(const char *who, mla_status status)
{
	say(who);
	return status == MLA_REFUSED ? CLI_USAGE : CLI_BAD_FILE;
}
