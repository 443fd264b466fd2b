/* matrix.h - fragments of matrix instructions, and their product. */
#pragma once

#include "emulator/asynchronous.h"

namespace emulator
{
static inline float widen(uint16_t x, element type)
{
	return type == BF16 ? __bfloat162float({x}) : __half2float({x});
}

/* Where lane l holds element (row, column) of an accumulator of 16 rows. */
static inline int d_lane(int row, int column)
{
	return row % 8 * 4 + column % 8 / 2;
}
static inline int d_index(int row, int column)
{
	return column / 8 * 4 + row / 8 * 2 + column % 2;
}

/* Register i of lane l of an A fragment. */
static inline void a_fragment(float (*a)[16], int l, int i, uint32_t pair, element type)
{
	const int row = l / 4 + i % 2 * 8, k = l % 4 * 2 + i / 2 * 8;

	a[row][k] = widen((uint16_t)pair, type);
	a[row][k + 1] = widen((uint16_t)(pair >> 16), type);
}

/* d[16][n] += a[16][16] b[n][16]: the 16 products are exact, their sum is in double, rounded once.
 * The hardware aligns the products to the largest and cuts; both lie within the bounds that are
 * checked. */
static inline void multiply(float *d, const float (*a)[16], const float (*b)[16], int n)
{
	for (int i = 0; i < 16; i++)
		for (int j = 0; j < n; j++) {
			double sum = 0;

			for (int k = 0; k < 16; k++)
				sum += (double)a[i][k] * (double)b[j][k];
			d[i * n + j] = (float)((double)d[i * n + j] + sum);
		}
}
} // namespace emulator
