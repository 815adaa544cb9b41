// Embedded Swift's hashing asks for random bytes by this BSD name, which musl does not have.
#include <stddef.h>
#include <sys/random.h>

void arc4random_buf(void *buffer, size_t count) {
    unsigned char *next = buffer;
    while (count > 0) {
        ssize_t got = getrandom(next, count, 0);
        if (got <= 0) continue;
        next += got;
        count -= (size_t)got;
    }
}
