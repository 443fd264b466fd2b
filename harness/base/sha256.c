/* sha256.c - libcrypto's context under a name of ours, so that only this file includes its headers.
 */
#include "base/sha256.h"

#include <openssl/evp.h>
#include <stdio.h>

struct sha256 *sha256_begin(void)
{
	EVP_MD_CTX *context = EVP_MD_CTX_new();

	if (context && !EVP_DigestInit_ex(context, EVP_sha256(), NULL)) {
		EVP_MD_CTX_free(context);
		context = NULL;
	}
	return (struct sha256 *)context;
}

void sha256_add(struct sha256 *sha, const void *data, size_t bytes)
{
	EVP_DigestUpdate((EVP_MD_CTX *)sha, data, bytes);
}

void sha256_finish(struct sha256 *sha, char *hex)
{
	unsigned char digest[EVP_MAX_MD_SIZE];

	if (hex) {
		EVP_DigestFinal_ex((EVP_MD_CTX *)sha, digest, NULL);
		for (int i = 0; i < 32; i++)
			snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	}
	EVP_MD_CTX_free((EVP_MD_CTX *)sha);
}
