// Prints by how many whole seconds CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, and the wall clock's seconds. Used by scripts/hvm-commands.
#include <stdio.h>
#include <time.h>

int main(void) {
    struct timespec boot, monotonic, real;
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_REALTIME, &real);
    printf("%ld %ld\n", (long)(boot.tv_sec - monotonic.tv_sec), (long)real.tv_sec);
    return 0;
}
