// The libraries the store stands on: xxHash (inlined), zstd, liburing. No logic.
#pragma once
#define XXH_INLINE_ALL
#include <xxhash.h>
#include <zstd.h>
#include <liburing.h>

// xxHash renames its inlined functions by macros that Swift does not see.
static inline XXH128_hash_t cstore_xxh3_128(const void *bytes, size_t count, uint64_t seed) {
    return XXH3_128bits_withSeed(bytes, count, seed);
}
