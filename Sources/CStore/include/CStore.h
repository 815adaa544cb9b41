// The libraries the store stands on: xxHash (inlined), zstd, liburing. No logic.
#pragma once
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>
#include <liburing.h>
#include <string.h>

// xxHash renames its inlined functions by macros that Swift does not see.
static inline XXH128_hash_t cstore_xxh3_128(const void *bytes, size_t count, uint64_t seed) {
    return XXH3_128bits_withSeed(bytes, count, seed);
}

// Whether bytes are all zero: almost always answered by the first few.
static inline int cstore_is_zero(const void *bytes, size_t count) {
    const unsigned char *at = bytes;
    return count == 0 || (at[0] == 0 && memcmp(at, at + 1, count - 1) == 0);
}
