/* random.h - synthetic inputs as a function of seed and index: the same bits on the host and
 * on the GPU, whoever computes an element.
 */
#ifndef MLA_BASE_RANDOM_H
#define MLA_BASE_RANDOM_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define RANDOM_BOTH static inline __host__ __device__
#else
#define RANDOM_BOTH static inline
#endif

/* The finaliser of splitmix64. */
RANDOM_BOTH uint64_t random_mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

/* Number `index` of the sequence that the seed begins. */
RANDOM_BOTH uint64_t random_number(uint64_t seed, uint64_t index)
{
	return random_mix(seed + (index + 1) * 0x9e3779b97f4a7c15u);
}

/* A sequence of its own for each use of a seed. */
RANDOM_BOTH uint64_t random_stream(uint64_t seed, uint32_t use)
{
	return random_mix(random_mix(seed) + use);
}

/* The next number of a sequence, its state kept by who draws. */
RANDOM_BOTH uint64_t random_next(uint64_t *state)
{
	return random_mix(*state += 0x9e3779b97f4a7c15u);
}

/* A state for item `index` of stream `stream`. */
RANDOM_BOTH uint64_t random_state(uint64_t seed, uint64_t stream, uint64_t index)
{
	uint64_t state = seed + stream * 0xd1342543de82ef95u;
	uint64_t mixed = random_next(&state) ^ index;

	return random_next(&mixed);
}

RANDOM_BOTH int64_t random_below(uint64_t *state, int64_t n) /* 0 .. n - 1 */
{
	return (int64_t)(random_next(state) % (uint64_t)n);
}

/* bf16, mean 0, deviation 1, at most 3.46: the sum of four uniforms, because a Gaussian's log and
 * cos differ between libraries. One product of exact factors is rounded, then cut to bf16. */
RANDOM_BOTH uint16_t random_value(uint64_t seed, uint64_t index)
{
	const uint64_t x = random_number(seed, index);
	const int32_t sum =
		(int32_t)((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));
	const float value = (float)(sum - 131070) * (1.0f / 37837.2266f);
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

#endif
