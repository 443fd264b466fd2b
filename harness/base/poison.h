/* poison.h - what stands where nothing may be read or written. */
#ifndef MLA_BASE_POISON_H
#define MLA_BASE_POISON_H

enum {
	POISON_BYTE = 0xff,       /* two or four of them are a NaN of every dtype */
	POISON_PAGE = 2147480000, /* a page id that no cache has */
	GUARD_BYTE = 0xa5,
	GUARD_BYTES = 8192, /* on either side of an output */
};

#endif
