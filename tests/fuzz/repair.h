/* repair.h - HDF5's checksums of its own metadata, found and set right again, so that a changed
 * byte reaches the parser instead of being refused as damage.
 *
 * Blocks begin with a signature and end with a checksum, Jenkins' lookup3 of all before it (HDF5
 * file format specification 3.0, "checksum"); where a block ends is found by trying. A direct block
 * of a fractal heap (FHDB) has its checksum in its head, over the block with that field 0.
 */
#ifndef MLA_FUZZ_REPAIR_H
#define MLA_FUZZ_REPAIR_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_BLOCKS = 1024, LONGEST_BLOCK = 4096, CHECKSUM_BYTES = 4 };

struct block {
	size_t begin, end; /* what the checksum is over */
	size_t checksum;   /* where it lies */
};

struct blocks {
	struct block list[MOST_BLOCKS];
	size_t count;
};

static inline uint32_t rotate(uint32_t x, int k)
{
	return x << k | x >> (32 - k);
}

static inline void mix(uint32_t *a, uint32_t *b, uint32_t *c)
{
	static const int turns[6] = {4, 6, 8, 16, 19, 4};
	uint32_t *x = a, *y = b, *z = c;

	for (int i = 0; i < 6; i++) {
		uint32_t *const first = x;

		*x = (*x - *z) ^ rotate(*z, turns[i]);
		*z += *y;
		x = y;
		y = z;
		z = first;
	}
}

static inline void finish(uint32_t *a, uint32_t *b, uint32_t *c)
{
	static const int turns[7] = {14, 11, 25, 16, 4, 14, 24};
	uint32_t *x = c, *y = b, *z = a; /* x ^= y, x -= y turned; then z ^= x, ... */

	for (int i = 0; i < 7; i++) {
		uint32_t *const first = x;

		*x = (*x ^ *y) - rotate(*y, turns[i]);
		x = z;
		z = y;
		y = first;
	}
}

static inline uint32_t lookup3(const unsigned char *data, size_t bytes)
{
	uint32_t a = 0xdeadbeef + (uint32_t)bytes, b = a, c = a, word[3];

	if (!bytes)
		return c;
	for (; bytes > 12; bytes -= 12, data += 12) {
		memcpy(word, data, 12);
		a += word[0];
		b += word[1];
		c += word[2];
		mix(&a, &b, &c);
	}
	memset(word, 0, sizeof(word));
	memcpy(word, data, bytes);
	a += word[0];
	b += word[1];
	c += word[2];
	finish(&a, &b, &c);
	return c;
}

static inline uint32_t load_u32(const unsigned char *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return value;
}

static inline void add_block(struct blocks *blocks, size_t begin, size_t end, size_t checksum)
{
	if (blocks->count < MOST_BLOCKS)
		blocks->list[blocks->count++] = (struct block){begin, end, checksum};
}

static inline void find_end(const unsigned char *data, size_t bytes, size_t begin,
			    struct blocks *blocks)
{
	for (size_t end = begin + 8; end + CHECKSUM_BYTES <= bytes && end - begin <= LONGEST_BLOCK;
	     end++)
		if (lookup3(data + begin, end - begin) == load_u32(data + end)) {
			add_block(blocks, begin, end, end);
			return;
		}
}

/* The checksum over a block, taking that field as 0. */
static inline uint32_t sum_without(const unsigned char *data, const struct block *block)
{
	static unsigned char copy[LONGEST_BLOCK];
	const size_t length = block->end - block->begin;

	memcpy(copy, data + block->begin, length);
	if (block->checksum < block->end)
		memset(copy + (block->checksum - block->begin), 0, CHECKSUM_BYTES);
	return lookup3(copy, length);
}

static inline void find_direct_block(const unsigned char *data, size_t bytes, size_t begin,
				     struct blocks *blocks)
{
	for (size_t length = 128; length <= LONGEST_BLOCK && begin + length <= bytes; length *= 2)
		for (size_t at = begin + 14; at < begin + 22; at++) {
			const struct block block = {begin, begin + length, at};

			if (sum_without(data, &block) == load_u32(data + at)) {
				add_block(blocks, block.begin, block.end, block.checksum);
				return;
			}
		}
}

static inline void find_blocks(const unsigned char *data, size_t bytes, struct blocks *blocks)
{
	static const char signatures[][5] = {"OHDR", "OCHK", "BTHD", "BTIN", "BTLF", "FRHP",
					     "FHIB", "FSHD", "FSSE", "SMTB", "SMLI", "FAHD",
					     "FADB", "EAHD", "EAIB", "EASB", "EADB"};
	enum { KINDS = sizeof(signatures) / sizeof(*signatures) };

	blocks->count = 0;
	find_end(data, bytes, 0, blocks); /* the superblock */
	for (size_t at = 8; at + 8 < bytes; at++) {
		for (size_t k = 0; k < KINDS; k++)
			if (!memcmp(data + at, signatures[k], 4))
				find_end(data, bytes, at, blocks);
		if (!memcmp(data + at, "FHDB", 4))
			find_direct_block(data, bytes, at, blocks);
	}
}

static inline void repair(unsigned char *data, const struct blocks *blocks)
{
	for (size_t i = 0; i < blocks->count; i++) {
		const uint32_t sum = sum_without(data, &blocks->list[i]);

		memcpy(data + blocks->list[i].checksum, &sum, sizeof(sum));
	}
}

#endif
