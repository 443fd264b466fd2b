/* plain.c - what of a text is fit for a terminal, and escapes for the rest. */
#include "lib/plain.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Neither shown as a character of its own nor part of one, in order. */
static const struct {
	uint32_t first, last;
} steering[] = {
	{0x0000, 0x001f},   /* C0 */
	{0x007f, 0x009f},   /* DEL, C1 */
	{0x061c, 0x061c},   /* Arabic letter mark */
	{0x180e, 0x180e},   /* vowel separator without width */
	{0x200b, 0x200b},   /* space without width */
	{0x200e, 0x200f},   /* marks of direction */
	{0x2028, 0x202e},   /* line, paragraph, embeddings and overrides of direction */
	{0x2060, 0x206f},   /* joiner of words, invisible operators, isolates of direction */
	{0xd800, 0xdfff},   /* surrogates, which UTF-8 does not have */
	{0xfdd0, 0xfdef},   /* no characters */
	{0xfeff, 0xfeff},   /* byte order mark */
	{0xfff0, 0xfffb},   /* not assigned, annotations */
	{0xe0000, 0xe00ff}, /* tags */
};

static int is_steering(uint32_t code)
{
	if ((code & 0xfffe) == 0xfffe) /* the last two of each plane are no characters */
		return 1;
	for (size_t i = 0; i < sizeof(steering) / sizeof(steering[0]); i++)
		if (code >= steering[i].first && code <= steering[i].last)
			return 1;
	return 0;
}

/* The code point at text and its bytes; 0 bytes if that is no UTF-8, or longer than need be. */
static size_t decode(const unsigned char *text, uint32_t *code)
{
	static const struct {
		unsigned char mask, lead;
		uint32_t least;
	} forms[] = {
		{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};

	for (size_t more = 0; more < 4; more++) {
		if ((text[0] & forms[more].mask) != forms[more].lead)
			continue;
		*code = text[0] & (unsigned char)~forms[more].mask;
		for (size_t i = 1; i <= more; i++) {
			if ((text[i] & 0xc0) != 0x80) /* the end of the text, too */
				return 0;
			*code = *code << 6 | (text[i] & 0x3f);
		}
		if (*code < forms[more].least || *code > 0x10ffff || (*code & ~0x7ffu) == 0xd800)
			return 0;
		return more + 1;
	}
	return 0;
}

size_t plain_step(const char *text, char escape[PLAIN_ESCAPE])
{
	uint32_t code = 0;
	const size_t bytes = decode((const unsigned char *)text, &code);

	escape[0] = 0;
	if (bytes == 0 || (bytes == 1 && is_steering(code)))
		snprintf(escape, PLAIN_ESCAPE, "\\x%02x", (unsigned char)text[0]);
	else if (is_steering(code))
		snprintf(escape, PLAIN_ESCAPE, code > 0xffff ? "\\U%08x" : "\\u%04x", code);
	return bytes ? bytes : 1;
}

void plain_copy(char *out, size_t size, const char *text)
{
	static const char cut[] = "...";
	size_t used = 0, fits = 0; /* fits: where what was cut off is told */

	while (*text) {
		char escape[PLAIN_ESCAPE];
		const size_t step = plain_step(text, escape);
		const size_t bytes = *escape ? strlen(escape) : step;

		if (used + bytes >= size) {
			used = fits;
			for (size_t i = 0; cut[i] && used + 1 < size; i++)
				out[used++] = cut[i];
			break;
		}
		memcpy(out + used, *escape ? escape : text, bytes);
		used += bytes;
		text += step;
		if (used + sizeof(cut) <= size)
			fits = used;
	}
	if (size)
		out[used] = 0;
}
