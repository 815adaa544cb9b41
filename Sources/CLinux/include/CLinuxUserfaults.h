// userfaultfd: requests with the structures that Swift cannot build without casts. All return a result or -errno.
#ifndef CLINUX_USERFAULTS_H
#define CLINUX_USERFAULTS_H

#include <linux/userfaultfd.h>
#include <sys/resource.h>

#ifndef USERFAULTFD_IOC_NEW // linux/userfaultfd.h of Linux 6.1
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
#endif

#define CUFFD_RESULT(expression)                       \
    do {                                               \
        long result_ = (long)(expression);             \
        return result_ == -1 ? -(long)errno : result_; \
    } while (0)

// A descriptor whose faults include those of the kernel's own accesses, as KVM's are.
static inline long cuffd_open(void) { CUFFD_RESULT(syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)); }
// The same for whoever may open /dev/userfaultfd.
static inline long cuffd_open_device(void) {
    int device = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
    if (device < 0) return -(long)errno;
    long result = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    if (result == -1) result = -(long)errno;
    close(device);
    return result;
}
static inline long cuffd_agree(int fd) {
    struct uffdio_api api = {.api = UFFD_API};
    CUFFD_RESULT(ioctl(fd, UFFDIO_API, &api));
}
static inline long cuffd_register_missing(int fd, const void *start, uint64_t count) {
    struct uffdio_register range = {.range = {(uintptr_t)start, count}, .mode = UFFDIO_REGISTER_MODE_MISSING};
    CUFFD_RESULT(ioctl(fd, UFFDIO_REGISTER, &range));
}
// Also wakes everybody who waits.
// Linux 6.7: write protection that the kernel resolves by itself. Whatever it watches is faulted in page by page, without neighbours.
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif
static inline long cuffd_agree_asynchronous(int fd) {
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_WP_ASYNC};
    CUFFD_RESULT(ioctl(fd, UFFDIO_API, &api));
}
static inline long cuffd_register_writes(int fd, const void *start, uint64_t count) {
    struct uffdio_register range = {.range = {(uintptr_t)start, count}, .mode = UFFDIO_REGISTER_MODE_WP};
    CUFFD_RESULT(ioctl(fd, UFFDIO_REGISTER, &range));
}
static inline long cuffd_unregister(int fd, const void *start, uint64_t count) {
    struct uffdio_range range = {(uintptr_t)start, count};
    CUFFD_RESULT(ioctl(fd, UFFDIO_UNREGISTER, &range));
}
// Bytes filled, or -errno if there were none.
static inline long cuffd_copy(int fd, void *target, const void *source, uint64_t count) {
    struct uffdio_copy copy = {.dst = (uintptr_t)target, .src = (uintptr_t)source, .len = count};
    if (ioctl(fd, UFFDIO_COPY, &copy) == 0) return (long)count;
    return copy.copy > 0 ? (long)copy.copy : -(long)errno;
}
static inline long cuffd_zero(int fd, void *target, uint64_t count) {
    struct uffdio_zeropage zero = {.range = {(uintptr_t)target, count}};
    if (ioctl(fd, UFFDIO_ZEROPAGE, &zero) == 0) return (long)count;
    return zero.zeropage > 0 ? (long)zero.zeropage : -(long)errno;
}
static inline long cuffd_wake(int fd, void *start, uint64_t count) {
    struct uffdio_range range = {(uintptr_t)start, count};
    CUFFD_RESULT(ioctl(fd, UFFDIO_WAKE, &range));
}
// The addresses of up to `count` faults that wait; their number, or -errno.
static inline long cuffd_read(int fd, uint64_t *addresses, int count) {
    struct uffd_msg messages[16];
    if (count > 16) count = 16;
    long bytes = read(fd, messages, (size_t)count * sizeof messages[0]);
    if (bytes < 0) return -(long)errno;
    long faults = 0;
    for (long index = 0; index < bytes / (long)sizeof messages[0]; index++)
        if (messages[index].event == UFFD_EVENT_PAGEFAULT) addresses[faults++] = messages[index].arg.pagefault.address;
    return faults;
}
// Waits until one of two descriptors can be read: bit 0 and bit 1.
static inline long clinux_poll_two(int first, int second, int timeout_ms) {
    struct pollfd both[2] = {{.fd = first, .events = POLLIN}, {.fd = second, .events = POLLIN}};
    if (poll(both, 2, timeout_ms) < 0) return -(long)errno;
    return (both[0].revents != 0) | (both[1].revents != 0) << 1;
}
// The calling thread runs when nobody else wants to.
static inline long clinux_be_idle(void) {
    struct sched_param parameters = {0};
    CUFFD_RESULT(sched_setscheduler(0, SCHED_IDLE, &parameters));
}

#endif
