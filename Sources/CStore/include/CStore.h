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

// liburing's inline functions, and completions as plain numbers: a byte count or -errno.
static inline int cstore_ring_open(struct io_uring *ring, unsigned entries) { return io_uring_queue_init(entries, ring, 0); }
static inline void cstore_ring_close(struct io_uring *ring) { io_uring_queue_exit(ring); }
static inline int cstore_ring_write(
    struct io_uring *ring, int fd, const struct iovec *parts, unsigned count, uint64_t offset, uint64_t tag) {
    struct io_uring_sqe *entry = io_uring_get_sqe(ring);
    if (!entry) return -EBUSY;
    io_uring_prep_writev(entry, fd, parts, count, offset);
    entry->user_data = tag;
    return 0;
}
static inline int cstore_ring_submit(struct io_uring *ring, unsigned wait_for) { return io_uring_submit_and_wait(ring, wait_for); }
// Takes one completion; -errno when waiting failed, zero when `tag` and `result` are set.
static inline int cstore_ring_complete(struct io_uring *ring, uint64_t *tag, int *result) {
    struct io_uring_cqe *completion;
    int status = io_uring_wait_cqe(ring, &completion);
    if (status < 0) return status;
    *tag = completion->user_data;
    *result = completion->res;
    io_uring_cqe_seen(ring, completion);
    return 0;
}
// The same for one that is there already, without a system call.
static inline int cstore_ring_peek(struct io_uring *ring, uint64_t *tag, int *result) {
    struct io_uring_cqe *completion;
    int status = io_uring_peek_cqe(ring, &completion);
    if (status < 0) return status;
    *tag = completion->user_data;
    *result = completion->res;
    io_uring_cqe_seen(ring, completion);
    return 0;
}
