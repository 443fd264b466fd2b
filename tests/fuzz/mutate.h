/* mutate.h - a mutation fuzzer for captures: changes 1 to 4 bytes of a good file, then verifies it
 * and, in a child process, opens it and loads everything. Nothing may crash, nothing may hang, and
 * what verify calls good must load as the good file does.
 */
#ifndef MLA_FUZZ_MUTATE_H
#define MLA_FUZZ_MUTATE_H

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "../capture_fixture.h"

struct fuzz_outcome {
	long refused; /* verify said no, in words */
	long same;    /* verify said good, and everything loads as before */
	long silent;  /* verify said good, but something else is loaded */
	long crashed, hung;
};

static inline uint64_t fuzz_next(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Mostly bytes that are not 0: a file is full of unused space. */
static inline void mutate(unsigned char *data, size_t bytes, uint64_t *state)
{
	const int changes = 1 + (int)(fuzz_next(state) % 4);

	for (int i = 0; i < changes; i++) {
		size_t at = fuzz_next(state) % bytes;

		while (data[at] == 0 && fuzz_next(state) % 8)
			at = fuzz_next(state) % bytes;
		switch (fuzz_next(state) % 4) {
		case 0:
			data[at] = 0xff;
			break;
		case 1:
			data[at] ^= (unsigned char)(1u << fuzz_next(state) % 8);
			break;
		default:
			data[at] = (unsigned char)fuzz_next(state);
		}
	}
}

enum { LOAD_SAME, LOAD_OTHER, LOAD_REFUSED, LOAD_CRASHED, LOAD_HUNG };

/* The digest of a good file, computed in a child: OpenMP threads that the parent starts would be
 * missing in its later children, which would wait for them. */
static inline uint64_t digest_in_child(const char *path)
{
	uint64_t digest = 0;
	int ends[2];

	if (pipe(ends))
		abort();
	if (fork() == 0) {
		if (digest_file(path, &digest) ||
		    write(ends[1], &digest, sizeof(digest)) != sizeof(digest))
			_exit(1);
		_exit(0);
	}
	close(ends[1]);
	if (read(ends[0], &digest, sizeof(digest)) != sizeof(digest))
		abort();
	close(ends[0]);
	wait(NULL);
	return digest;
}

/* Opens and loads in a child, as a program would without verifying first. */
static inline int load_in_child(const char *path, uint64_t expected)
{
	int status;
	const pid_t child = fork();

	if (child == 0) {
		uint64_t digest;

		alarm(20);
		if (digest_file(path, &digest))
			_exit(LOAD_REFUSED);
		_exit(digest == expected ? LOAD_SAME : LOAD_OTHER);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		abort();
	if (WIFSIGNALED(status))
		return WTERMSIG(status) == SIGALRM ? LOAD_HUNG : LOAD_CRASHED;
	return WEXITSTATUS(status) <= LOAD_REFUSED ? WEXITSTATUS(status) : LOAD_CRASHED;
}

static inline void fuzz_once(const char *path, uint64_t expected, struct fuzz_outcome *outcome)
{
	const int loaded = load_in_child(path, expected);
	const bool good = !capture_verify(path, false, NULL);

	if (loaded == LOAD_CRASHED || (!good && strstr(mla_last_error(), "parser crashed")) ||
	    (!good && strstr(mla_last_error(), "parser ended")))
		outcome->crashed++;
	else if (loaded == LOAD_HUNG || (!good && strstr(mla_last_error(), "no progress")))
		outcome->hung++;
	else if (!good)
		outcome->refused++;
	else if (loaded == LOAD_SAME)
		outcome->same++;
	else
		outcome->silent++;
}

/* Keeps the file of an outcome that must not be. */
static inline void keep_file(const char *path, long number)
{
	char name[64];

	snprintf(name, sizeof(name), "fuzz-%ld.h5", number);
	copy_file(path, name);
	fprintf(stderr, "mutation %ld is kept as %s\n", number, name);
}

/* count mutations of a file that exists. Adds to outcome. */
static inline void fuzz_file(const char *good, long count, uint64_t seed, bool keep,
			     struct fuzz_outcome *outcome)
{
	const uint64_t expected = digest_in_child(good);
	uint64_t state = seed * 2654435761u + 1;
	size_t bytes;
	unsigned char *data = read_bytes(good, &bytes), *changed = malloc(bytes);
	const char *path = in_folder("mutation.h5");
	char own[160];

	snprintf(own, sizeof(own), "%s", path);
	if (!changed)
		abort();
	for (long i = 0; i < count; i++) {
		const long bad = outcome->crashed + outcome->hung + outcome->silent;

		memcpy(changed, data, bytes);
		mutate(changed, bytes, &state);
		write_bytes(own, changed, bytes);
		fuzz_once(own, expected, outcome);
		if (keep && outcome->crashed + outcome->hung + outcome->silent > bad)
			keep_file(own, i);
	}
	free(changed);
	free(data);
}

/* The three files that the fuzzer starts from. */
static inline void fuzz_all(long count, uint64_t seed, bool keep, struct fuzz_outcome *outcome)
{
	static const struct {
		enum capture_kind kind;
		int32_t dtype;
		bool compress;
	} bases[] = {
		{CAPTURE_MODEL_FORWARD, MLA_BF16, false},
		{CAPTURE_KERNEL_CALL, MLA_F16, false},
		{CAPTURE_SYNTHETIC, MLA_BF16, true},
	};

	for (size_t i = 0; i < COUNT(bases); i++) {
		char good[160];

		snprintf(good, sizeof(good), "%s", in_folder("good.h5"));
		fixture_write(good, bases[i].kind, bases[i].dtype, bases[i].compress);
		fuzz_file(good, count / (long)COUNT(bases), seed + i, keep, outcome);
	}
}

#endif
