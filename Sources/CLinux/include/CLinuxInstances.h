// What instances of functions need of the kernel: forks, descriptors passed between processes, pages mapped ahead.
#ifndef CLINUX_INSTANCES_H
#define CLINUX_INSTANCES_H

#include <fcntl.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
static const int CLINUX_MADV_POPULATE_READ = MADV_POPULATE_READ;
static const int CLINUX_MADV_POPULATE_WRITE = MADV_POPULATE_WRITE;

#define CLINUX_INSTANCE_RESULT(expression)             \
    do {                                               \
        long result_ = (long)(expression);             \
        return result_ == -1 ? -(long)errno : result_; \
    } while (0)

// Only for a process with one thread: the child has no other.
static inline long clinux_fork(void) { CLINUX_INSTANCE_RESULT(fork()); }
// The calling process is killed when its parent ends; -ESRCH when it has ended already.
static inline long clinux_die_with_parent(int parent) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0) return -(long)errno;
    return getppid() == parent ? 0 : -(long)ESRCH;
}
// The process id of a child that has ended, 0 when none has; its status as waitpid tells it.
static inline long clinux_reap(int *status) { CLINUX_INSTANCE_RESULT(waitpid(-1, status, WNOHANG)); }
// Waits for one child.
static inline long clinux_wait_for(int pid, int *status) { CLINUX_INSTANCE_RESULT(waitpid(pid, status, 0)); }
static const int CLINUX_MADV_WILLNEED = MADV_WILLNEED;
// Whether the page at an address is in memory, mapped or not: 1 or 0.
static inline long clinux_page_is_in_memory(void *address) {
    unsigned char state = 0;
    if (mincore(address, 1, &state) != 0) return -(long)errno;
    return state & 1;
}
// Gives the kernel back what the heap does not use.
static inline long clinux_heap_trim(void) { return malloc_trim(0); }
static inline long clinux_forget_cached(int fd) { return -(long)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }
static inline long clinux_unblock_all_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    return -(long)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

#define CLINUX_PASSED_MAX 4

static inline long clinux_message_socketpair(int pair[2]) {
    CLINUX_INSTANCE_RESULT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
}

// Sends bytes, and descriptors with the first of them; never raises SIGPIPE.
static inline long clinux_send_with(int fd, const void *bytes, size_t count, const int *passed, int passed_count, int waits) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * CLINUX_PASSED_MAX)];
    } control;
    if (passed_count < 0 || passed_count > CLINUX_PASSED_MAX) return -(long)EINVAL;
    memset(&control, 0, sizeof control);
    struct iovec vector = {.iov_base = (void *)bytes, .iov_len = count};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (passed_count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)passed_count);
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)passed_count);
        memcpy(CMSG_DATA(header), passed, sizeof(int) * (size_t)passed_count);
    }
    CLINUX_INSTANCE_RESULT(sendmsg(fd, &message, MSG_NOSIGNAL | (waits ? 0 : MSG_DONTWAIT)));
}

// Receives bytes and at most CLINUX_PASSED_MAX descriptors, close-on-exec; what is more is closed by the kernel.
static inline long clinux_receive_with(int fd, void *bytes, size_t count, int *passed, int *passed_count, int waits) {
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * CLINUX_PASSED_MAX)];
    } control;
    struct iovec vector = {.iov_base = bytes, .iov_len = count};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    *passed_count = 0;
    long result = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | (waits ? 0 : MSG_DONTWAIT));
    if (result < 0) return -(long)errno;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header != NULL; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
        int got = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        for (int index = 0; index < got; index++) {
            int descriptor;
            memcpy(&descriptor, CMSG_DATA(header) + sizeof(int) * (size_t)index, sizeof descriptor);
            if (*passed_count < CLINUX_PASSED_MAX) passed[(*passed_count)++] = descriptor;
            else close(descriptor);
        }
    }
    return result;
}

#endif
