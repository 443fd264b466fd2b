/* subjects.c - what -k chooses: CPU variants and kernels of the ladder.
 */
#include "cli/subjects.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "check/facts.h"
#include "cli/args.h"

/* Rungs of the ladder, variants, "auto", and the facts. */
struct known {
	const char **names; /* variants first, then kernels */
	int num_variants, count;
};

static struct known known_names(void)
{
	const int kernels = mla_kernel_count();
	struct known known = {.num_variants = variants_count};

	known.names = text_alloc((size_t)(variants_count + kernels + 2) * sizeof(*known.names));
	for (int i = 0; i < variants_count; i++)
		known.names[known.count++] = variants[i].name;
	for (int i = 0; i < kernels; i++) {
		mla_kernel_info info = {.struct_size = sizeof(info)};

		if (!mla_kernel_get(i, &info))
			known.names[known.count++] = info.name;
	}
	return known;
}

static const char automatic[] = "auto";

/* "02_splitk" is meant by itself, by "02", by "2" and by "splitk". */
static bool means(const char *word, const char *kernel)
{
	const char *idea = strchr(kernel, '_');

	if (!strcmp(word, kernel) || (idea && !strcmp(word, idea + 1)))
		return true;

	char *end;
	const long number = strtol(word, &end, 10);

	return word[0] >= '0' && word[0] <= '9' && !*end && idea &&
	       number == strtol(kernel, NULL, 10);
}

static void add(struct cli_subjects *subjects, const char *name, const struct variant *variant,
		bool named)
{
	for (int i = 0; i < subjects->count; i++)
		if (!strcmp(subjects->list[i].name, name))
			return;
	subjects->list[subjects->count++] = (struct cli_subject){
		.name = name,
		.variant = variant,
		.named = named,
	};
}

/* How many subjects the word adds. */
static int add_word(struct cli_subjects *subjects, const struct known *known, const char *word)
{
	const bool all = !strcmp(word, "all");
	const bool cpu = all || !strcmp(word, "cpu"), gpu = all || !strcmp(word, "gpu");
	int found = 0;

	for (int i = 0; i < known->count; i++) {
		const bool variant = i < known->num_variants;
		const bool named =
			variant ? !strcmp(word, known->names[i]) : means(word, known->names[i]);

		if (!named && !(variant ? cpu : gpu))
			continue;
		add(subjects, known->names[i], variant ? &variants[i] : NULL, named);
		found++;
	}

	const bool facts = !strcmp(word, FACTS_NAME);

	if (cpu || facts) {
		subjects->facts = true;
		subjects->facts_named |= facts;
		found++;
	}
	if (!strcmp(word, automatic)) {
		add(subjects, automatic, NULL, true);
		found++;
	}
	return found + gpu; /* "gpu" is a good word on an empty ladder */
}

mla_status cli_subjects_choose(const char *names, struct cli_subjects *subjects)
{
	const struct known known = known_names();
	struct cli_strings words = {0};
	mla_status status = MLA_OK;

	*subjects = (struct cli_subjects){0};
	cli_strings_split(&words, names ? names : "all");
	subjects->list =
		text_alloc((size_t)(known.count + words.count + 1) * sizeof(*subjects->list));
	for (int i = 0; i < words.count && !status; i++)
		if (!add_word(subjects, &known, words.values[i]))
			status = cli_unknown("-k: unknown implementation", words.values[i],
					     known.names, known.count, "\"mla list\" shows them");
	cli_strings_free(&words);
	free(known.names);
	if (status)
		cli_subjects_free(subjects);
	return status;
}

void cli_subjects_free(struct cli_subjects *subjects)
{
	free(subjects->list);
	*subjects = (struct cli_subjects){0};
}
