// A program of four threads for `scripts/guest-gdb`, which steps through it in a guest.

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
static int total;
static pthread_barrier_t barrier;
static int square(int value) { int result = value * value; return result; }
static void *work(void *argument) {
    int number = (int)(long)argument;
    pthread_barrier_wait(&barrier);
    for (;;) pause();
    return (void *)(long)number;
}
static void count(void) {
    for (int i = 1; i <= 3; i++) {
        int part = square(i);
        total += part;
    }
}
int main(void) {
    pthread_t threads[3];
    pthread_barrier_init(&barrier, 0, 4);
    for (long i = 0; i < 3; i++) pthread_create(&threads[i], 0, work, (void *)i);
    pthread_barrier_wait(&barrier);
    count();
    printf("total %d\n", total);
    return 0;
}
