// The whole of Aurora's C interop: Linux headers that the Glibc module map leaves out, ioctl request numbers that
// Swift cannot import because they are macros with arguments, and wrappers that return -errno so that no caller
// reads `errno` after the fact. No logic lives here.
#ifndef CLINUX_H
#define CLINUX_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "CLinuxSockets.h"
#include "CLinuxDevices.h"
#include "CLinuxTrees.h"
#include "CLinuxUserfaults.h"
#include "CLinuxInstances.h"

// MARK: - System calls, each returning a result or -errno

#define CLINUX_RESULT(expression)                  \
    do {                                           \
        long result_ = (long)(expression);         \
        return result_ == -1 ? -(long)errno : result_; \
    } while (0)

static inline long clinux_ioctl(int fd, unsigned long request, uintptr_t argument) { CLINUX_RESULT(ioctl(fd, request, argument)); }
static inline long clinux_eventfd(unsigned int value, int flags) { CLINUX_RESULT(eventfd(value, flags)); }
static inline long clinux_epoll_create(void) { CLINUX_RESULT(epoll_create1(EPOLL_CLOEXEC)); }
static inline long clinux_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    CLINUX_RESULT(epoll_ctl(epoll, operation, fd, &event));
}
static inline long clinux_epoll_wait(int epoll, struct epoll_event *events, int count, int timeout_ms) {
    CLINUX_RESULT(epoll_wait(epoll, events, count, timeout_ms));
}
static inline uint64_t clinux_epoll_data(const struct epoll_event *event) { return event->data.u64; }
static inline long clinux_memfd_create(const char *name, unsigned int flags) { CLINUX_RESULT(memfd_create(name, flags)); }
static inline long clinux_timerfd_create(int clock, int flags) { CLINUX_RESULT(timerfd_create(clock, flags)); }
static inline long clinux_timerfd_settime(int fd, int flags, int64_t value_ns, int64_t interval_ns) {
    struct itimerspec spec = {
        .it_value = {value_ns / 1000000000, value_ns % 1000000000},
        .it_interval = {interval_ns / 1000000000, interval_ns % 1000000000},
    };
    CLINUX_RESULT(timerfd_settime(fd, flags, &spec, NULL));
}
static inline long clinux_gettid(void) { return syscall(SYS_gettid); }
static inline long clinux_unshare(int flags) { CLINUX_RESULT(unshare(flags)); }
static inline long clinux_setns(int fd, int kind) { CLINUX_RESULT(setns(fd, kind)); }
static inline long clinux_fallocate(int fd, int mode, int64_t offset, int64_t length) {
    CLINUX_RESULT(fallocate(fd, mode, offset, length));
}
static inline long clinux_preadv(int fd, const struct iovec *iov, int count, int64_t offset) {
    CLINUX_RESULT(preadv(fd, iov, count, offset));
}
static inline long clinux_pwritev(int fd, const struct iovec *iov, int count, int64_t offset) {
    CLINUX_RESULT(pwritev(fd, iov, count, offset));
}
// Returns when these bytes, though not others of the file, survive a power cut.
static inline long clinux_pwritev_durably(int fd, const struct iovec *iov, int count, int64_t offset) {
    CLINUX_RESULT(pwritev2(fd, iov, count, offset, RWF_DSYNC));
}
static inline long clinux_readv(int fd, const struct iovec *iov, int count) { CLINUX_RESULT(readv(fd, iov, count)); }
static inline long clinux_writev(int fd, const struct iovec *iov, int count) { CLINUX_RESULT(writev(fd, iov, count)); }
static inline long clinux_read(int fd, void *buffer, size_t count) { CLINUX_RESULT(read(fd, buffer, count)); }
static inline long clinux_write(int fd, const void *buffer, size_t count) { CLINUX_RESULT(write(fd, buffer, count)); }
static inline long clinux_pread(int fd, void *buffer, size_t count, int64_t offset) { CLINUX_RESULT(pread(fd, buffer, count, offset)); }
static inline long clinux_pwrite(int fd, const void *buffer, size_t count, int64_t offset) {
    CLINUX_RESULT(pwrite(fd, buffer, count, offset));
}
static inline long clinux_open(const char *path, int flags, unsigned int mode) { CLINUX_RESULT(open(path, flags, mode)); }
static inline long clinux_fcntl(int fd, int command, long argument) { CLINUX_RESULT(fcntl(fd, command, argument)); }
static inline long clinux_flock(int fd, int operation) { CLINUX_RESULT(flock(fd, operation)); }
static inline long clinux_fdatasync(int fd) { CLINUX_RESULT(fdatasync(fd)); }
// Begins to write a range back, and does not wait for it.
static inline long clinux_begin_write_back(int fd, int64_t offset, int64_t length) {
    CLINUX_RESULT(sync_file_range(fd, offset, length, SYNC_FILE_RANGE_WRITE));
}
static inline long clinux_fsync(int fd) { CLINUX_RESULT(fsync(fd)); }
static inline long clinux_ftruncate(int fd, int64_t length) { CLINUX_RESULT(ftruncate(fd, length)); }
static inline long clinux_madvise(void *address, size_t length, int advice) { CLINUX_RESULT(madvise(address, length, advice)); }
static inline long clinux_getrandom(void *buffer, size_t count) { CLINUX_RESULT(getrandom(buffer, count, 0)); }
static inline long clinux_set_thread_name(const char *name) { CLINUX_RESULT(prctl(PR_SET_NAME, (unsigned long)name, 0, 0, 0)); }
static inline long clinux_set_timer_slack(unsigned long ns) { CLINUX_RESULT(prctl(PR_SET_TIMERSLACK, ns)); }
// The calling thread's time slice, for a kernel that takes one of each thread (Linux 6.12); an older one takes no notice of it.
static inline long clinux_set_time_slice(uint64_t ns) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attributes = {.size = 0};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) == -1) return -(long)errno;
    attributes.runtime = ns;
    CLINUX_RESULT(syscall(SYS_sched_setattr, 0, &attributes, 0));
}
static inline long clinux_tgkill(int pid, int tid, int signal) { CLINUX_RESULT(syscall(SYS_tgkill, pid, tid, signal)); }
static inline long clinux_futex_wait(const void *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    CLINUX_RESULT(syscall(SYS_futex, word, 128 /* FUTEX_WAIT_PRIVATE */, expected, timeout_ns < 0 ? NULL : &timeout, NULL, 0));
}
static inline long clinux_futex_wake(const void *word, int count) {
    CLINUX_RESULT(syscall(SYS_futex, word, 129 /* FUTEX_WAKE_PRIVATE */, count, NULL, NULL, 0));
}
// Open-file-description locks: they belong to the descriptor's open file, and die with it.
static inline long clinux_ofd_lock(int fd, short type, int64_t start, int64_t count, int wait) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = count, .l_pid = 0};
    CLINUX_RESULT(fcntl(fd, wait ? F_OFD_SETLKW : F_OFD_SETLK, &range));
}
// One when somebody else's lock conflicts with such a lock, zero when none does.
static inline long clinux_ofd_test(int fd, short type, int64_t start, int64_t count) {
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = count, .l_pid = 0};
    long result = fcntl(fd, F_OFD_GETLK, &range);
    return result == -1 ? -(long)errno : range.l_type != F_UNLCK;
}
static inline long clinux_fstat(int fd, struct stat *status) { CLINUX_RESULT(fstat(fd, status)); }
// When a file was made, in nanoseconds since 1970; 0 where the file system does not say.
static inline int64_t clinux_birth_ns(int fd) {
    struct statx found;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &found) != 0 || !(found.stx_mask & STATX_BTIME)) return 0;
    return found.stx_btime.tv_sec * 1000000000 + found.stx_btime.tv_nsec;
}
// How large a file this process may write, in bytes; -1 for no limit.
static inline int64_t clinux_file_size_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur > INT64_MAX) return -1;
    return (int64_t)limit.rlim_cur;
}
static inline uint64_t clinux_rdtsc(void) {
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return (uint64_t)high << 32 | low;
}
// One if the processor has the leaf, else zero; the registers are eax, ebx, ecx, edx.
static inline int clinux_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t *registers) {
    return __get_cpuid_count(leaf, subleaf, registers, registers + 1, registers + 2, registers + 3);
}
// The state components that the host's kernel has enabled (XCR0). Only for a processor with XSAVE, as every one with AVX is.
static inline uint64_t clinux_extended_control(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}
static inline int64_t clinux_clock_ns(int clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static inline void clinux_pause(void) { __asm__ volatile("pause"); }
static inline long clinux_renameat2(const char *from, const char *to, unsigned int flags) {
    CLINUX_RESULT(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags));
}
static const unsigned int CLINUX_RENAME_EXCHANGE = 1 << 1; // RENAME_EXCHANGE of linux/fs.h, which clashes with sys/mount.h
static const int CLINUX_O_TMPFILE = O_TMPFILE;
static inline char **clinux_environment(void) { return environ; }
static inline int clinux_errno(void) { return errno; }

// MARK: - KVM request numbers (macros with arguments are not imported)

static const unsigned long CKVM_GET_API_VERSION = KVM_GET_API_VERSION;
static const unsigned long CKVM_CREATE_VM = KVM_CREATE_VM;
static const unsigned long CKVM_GET_MSR_INDEX_LIST = KVM_GET_MSR_INDEX_LIST;
static const unsigned long CKVM_CHECK_EXTENSION = KVM_CHECK_EXTENSION;
static const unsigned long CKVM_GET_VCPU_MMAP_SIZE = KVM_GET_VCPU_MMAP_SIZE;
static const unsigned long CKVM_GET_SUPPORTED_CPUID = KVM_GET_SUPPORTED_CPUID;
static const unsigned long CKVM_CREATE_VCPU = KVM_CREATE_VCPU;
static const unsigned long CKVM_GET_DIRTY_LOG = KVM_GET_DIRTY_LOG;
static const unsigned long CKVM_SET_USER_MEMORY_REGION = KVM_SET_USER_MEMORY_REGION;
static const unsigned long CKVM_SET_TSS_ADDR = KVM_SET_TSS_ADDR;
static const unsigned long CKVM_SET_IDENTITY_MAP_ADDR = KVM_SET_IDENTITY_MAP_ADDR;
static const unsigned long CKVM_CREATE_IRQCHIP = KVM_CREATE_IRQCHIP;
static const unsigned long CKVM_GET_IRQCHIP = KVM_GET_IRQCHIP;
static const unsigned long CKVM_SET_IRQCHIP = KVM_SET_IRQCHIP;
static const unsigned long CKVM_CREATE_PIT2 = KVM_CREATE_PIT2;
static const unsigned long CKVM_IRQ_LINE = KVM_IRQ_LINE;
static const unsigned long CKVM_SET_GSI_ROUTING = KVM_SET_GSI_ROUTING;
static const unsigned long CKVM_IRQFD = KVM_IRQFD;
static const unsigned long CKVM_IOEVENTFD = KVM_IOEVENTFD;
static const unsigned long CKVM_SIGNAL_MSI = KVM_SIGNAL_MSI;
static const unsigned long CKVM_GET_CLOCK = KVM_GET_CLOCK;
static const unsigned long CKVM_SET_CLOCK = KVM_SET_CLOCK;
static const unsigned long CKVM_RUN = KVM_RUN;
static const unsigned long CKVM_GET_REGS = KVM_GET_REGS;
static const unsigned long CKVM_SET_REGS = KVM_SET_REGS;
static const unsigned long CKVM_GET_SREGS = KVM_GET_SREGS;
static const unsigned long CKVM_SET_SREGS = KVM_SET_SREGS;
static const unsigned long CKVM_GET_MSRS = KVM_GET_MSRS;
static const unsigned long CKVM_SET_MSRS = KVM_SET_MSRS;
static const unsigned long CKVM_SET_CPUID2 = KVM_SET_CPUID2;
static const unsigned long CKVM_GET_LAPIC = KVM_GET_LAPIC;
static const unsigned long CKVM_SET_LAPIC = KVM_SET_LAPIC;
static const unsigned long CKVM_GET_XCRS = KVM_GET_XCRS;
static const unsigned long CKVM_SET_XCRS = KVM_SET_XCRS;
static const unsigned long CKVM_GET_XSAVE = KVM_GET_XSAVE;
static const unsigned long CKVM_GET_XSAVE2 = KVM_GET_XSAVE2;
static const unsigned long CKVM_SET_XSAVE = KVM_SET_XSAVE;
static const unsigned long CKVM_GET_VCPU_EVENTS = KVM_GET_VCPU_EVENTS;
static const unsigned long CKVM_SET_VCPU_EVENTS = KVM_SET_VCPU_EVENTS;
static const unsigned long CKVM_GET_DEBUGREGS = KVM_GET_DEBUGREGS;
static const unsigned long CKVM_SET_DEBUGREGS = KVM_SET_DEBUGREGS;
static const unsigned long CKVM_GET_MP_STATE = KVM_GET_MP_STATE;
static const unsigned long CKVM_SET_MP_STATE = KVM_SET_MP_STATE;
static const unsigned long CKVM_GET_TSC_KHZ = KVM_GET_TSC_KHZ;
static const unsigned long CKVM_SET_TSC_KHZ = KVM_SET_TSC_KHZ;
static const unsigned long CKVM_ENABLE_CAP = KVM_ENABLE_CAP;
static const unsigned long CKVM_RESET_DIRTY_RINGS = KVM_RESET_DIRTY_RINGS;
static const unsigned long CKVM_DIRTY_RING_OFFSET = KVM_DIRTY_LOG_PAGE_OFFSET * 4096UL; // of a vCPU's descriptor
// The registers that KVM left in the run page (kvm_sync_regs: regs, sregs, events).
static inline const void *ckvm_left_registers(const struct kvm_run *run) { return &run->s.regs; }
static const unsigned long CKVM_SET_SIGNAL_MASK = KVM_SET_SIGNAL_MASK;

// MARK: - Block devices

static const unsigned long CBLK_GETSIZE64 = 0x80081272; // BLKGETSIZE64 of linux/fs.h, which clashes with sys/mount.h
static const unsigned long CBLK_DISCARD = 0x1277;       // BLKDISCARD
static const int CLINUX_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
static const int CLINUX_O_DIRECT = O_DIRECT;              // only with _GNU_SOURCE

// MARK: - TUN/TAP request numbers

static const unsigned long CTUN_SETIFF = TUNSETIFF;
static const unsigned long CTUN_SETOFFLOAD = TUNSETOFFLOAD;
static const unsigned long CTUN_SETVNETHDRSZ = TUNSETVNETHDRSZ;

#endif
