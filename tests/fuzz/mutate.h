/* mutate.h - a mutation fuzzer for captures: changes 1 to 4 bytes of a good file, then opens, loads
 * and verifies it. Nothing may crash, nothing may hang, and what verify calls good must load as the
 * good file does.
 */
#ifndef MLA_FUZZ_MUTATE_H
#define MLA_FUZZ_MUTATE_H

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "../capture_fixture.h"
#include "repair.h"

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

/* One to three places of the metadata become what a parser may stumble over; the checksums are made
 * right again. */
static inline void mutate_metadata(unsigned char *data, size_t bytes, const struct blocks *blocks,
				   uint64_t *state)
{
	static const unsigned char odd[] = {0, 1, 2, 3, 4, 8, 16, 64, 127, 128, 192, 254, 255};
	const int changes = 1 + (int)(fuzz_next(state) % 3);

	for (int i = 0; i < changes; i++) {
		const struct block *b = &blocks->list[fuzz_next(state) % blocks->count];
		const size_t head = b->begin ? 4 : 8; /* the signature stays */
		const size_t at = b->begin + head + fuzz_next(state) % (b->end - b->begin - head);
		const uint64_t many = fuzz_next(state) % 2 ? fuzz_next(state) : bytes;
		const size_t width = (size_t)2 << fuzz_next(state) % 3;

		switch (fuzz_next(state) % 5) {
		case 0:
			data[at] ^= (unsigned char)(1u << fuzz_next(state) % 8);
			break;
		case 1:
			data[at] = odd[fuzz_next(state) % sizeof(odd)];
			break;
		case 2:
			data[at] = (unsigned char)fuzz_next(state);
			break;
		case 3:
			data[at] = (unsigned char)(data[at] + (fuzz_next(state) % 2 ? 1 : 255));
			break;
		default:
			memcpy(data + at, &many, at + width <= bytes ? width : 1);
		}
	}
	repair(data, blocks);
}

/* What became of a mutation. */
enum fuzz_end {
	END_REFUSED, /* verify said no, in words */
	END_SAME,    /* verify said good, and everything loads as before */
	END_SILENT,  /* verify said good, but something else is loaded, or nothing */
	END_CRASHED,
	END_HUNG,
	NUM_ENDS
};

/* In a child, whose threads are its own and whose crash is seen. */
static inline int end_of(const char *path, uint64_t expected)
{
	uint64_t digest;
	mla_status loaded;

	loaded = digest_file(path, &digest);
	if (capture_verify(path, false, NULL))
		return END_REFUSED;
	return !loaded && digest == expected ? END_SAME : END_SILENT;
}

static inline void fuzz_once(const char *path, uint64_t expected, long ends[NUM_ENDS])
{
	const pid_t child = fork();
	int status;

	if (child == 0) {
		alarm(30);
		_exit(end_of(path, expected));
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		abort();
	if (WIFSIGNALED(status))
		ends[WTERMSIG(status) == SIGALRM ? END_HUNG : END_CRASHED]++;
	else
		ends[WEXITSTATUS(status) < END_CRASHED ? WEXITSTATUS(status) : END_CRASHED]++;
}

static inline long bad_ends(const long ends[NUM_ENDS])
{
	return ends[END_SILENT] + ends[END_CRASHED] + ends[END_HUNG];
}

/* The digest of a good file; in a child, since later ones are not to inherit threads. */
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

/* Keeps the file of an outcome that must not be. */
static inline void keep_file(const char *path, long number)
{
	char name[64];

	snprintf(name, sizeof(name), "fuzz-%ld.h5", number);
	copy_file(path, name);
	fprintf(stderr, "mutation %ld is kept as %s\n", number, name);
}

/* count mutations of a file that exists. repaired: of its metadata, checksums made right again.
 * Adds to ends. */
static inline void fuzz_file(const char *good, long count, uint64_t seed, bool repaired, bool keep,
			     long ends[NUM_ENDS])
{
	static struct blocks blocks;
	const uint64_t expected = digest_in_child(good);
	uint64_t state = seed * 2654435761u + 1;
	size_t bytes;
	unsigned char *data = read_bytes(good, &bytes), *changed = malloc(bytes);
	const char *path = in_folder("mutation.h5");
	char own[160];

	snprintf(own, sizeof(own), "%s", path);
	if (!changed)
		abort();
	find_blocks(data, bytes, &blocks);
	if (!blocks.count)
		abort();
	for (long i = 0; i < count; i++) {
		const long bad = bad_ends(ends);

		memcpy(changed, data, bytes);
		if (repaired)
			mutate_metadata(changed, bytes, &blocks, &state);
		else
			mutate(changed, bytes, &state);
		write_bytes(own, changed, bytes);
		fuzz_once(own, expected, ends);
		if (keep && bad_ends(ends) > bad)
			keep_file(own, i);
	}
	free(changed);
	free(data);
}

/* The three files that the fuzzer starts from. */
static inline void fuzz_all(long count, uint64_t seed, bool repaired, bool keep,
			    long ends[NUM_ENDS])
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
		fuzz_file(good, count / (long)COUNT(bases), seed + i, repaired, keep, ends);
	}
}

#endif
