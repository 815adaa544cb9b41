// System calls for the guest agent. Embedded Swift cannot import a libc module, so the agent sees Linux through this
// header alone. Every wrapper returns a result or -errno; no logic lives here. Compiled against musl's headers.
#ifndef CAGENT_H
#define CAGENT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define SYS_RESULT(expression)                         \
    do {                                               \
        long result_ = (long)(expression);             \
        return result_ == -1 ? -(long)errno : result_; \
    } while (0)

// MARK: - Files

static inline long sys_open(const char *path, int flags, unsigned int mode) { SYS_RESULT(open(path, flags | O_CLOEXEC, mode)); }
static inline long sys_close(int fd) { SYS_RESULT(close(fd)); }
static inline long sys_read(int fd, void *buffer, size_t count) { SYS_RESULT(read(fd, buffer, count)); }
static inline long sys_write(int fd, const void *buffer, size_t count) { SYS_RESULT(write(fd, buffer, count)); }
static inline void sys_close_inherited(void) { syscall(SYS_close_range, 3, ~0U, 0); }
static inline long sys_dup2(int from, int to) { SYS_RESULT(dup2(from, to)); }
static inline long sys_raise_descriptor(int fd, int minimum) { SYS_RESULT(fcntl(fd, F_DUPFD_CLOEXEC, minimum)); }
static inline long sys_set_nonblocking(int fd) { SYS_RESULT(fcntl(fd, F_SETFL, O_NONBLOCK)); }
static inline long sys_pipe(int *ends) { SYS_RESULT(pipe2(ends, O_CLOEXEC)); }
static inline long sys_set_pipe_size(int fd, int bytes) { SYS_RESULT(fcntl(fd, F_SETPIPE_SZ, bytes)); }
static inline long sys_mkdir(const char *path, unsigned int mode) { SYS_RESULT(mkdir(path, mode)); }
static inline long sys_unlink(const char *path) { SYS_RESULT(unlink(path)); }
static inline long sys_symlink(const char *target, const char *path) { SYS_RESULT(symlink(target, path)); }
static inline long sys_chdir(const char *path) { SYS_RESULT(chdir(path)); }
static inline long sys_chroot(const char *path) { SYS_RESULT(chroot(path)); }
static inline long sys_access_execute(const char *path) { SYS_RESULT(access(path, X_OK)); }
static inline long sys_readlink(const char *path, char *buffer, size_t count) { SYS_RESULT(readlink(path, buffer, count)); }
static inline long sys_readlinkat(int folder, const char *path, char *buffer, size_t count) {
    SYS_RESULT(readlinkat(folder, path, buffer, count));
}
static inline long sys_openat(int folder, const char *path, int flags) { SYS_RESULT(openat(folder, path, flags | O_CLOEXEC)); }
static inline long sys_fchown(int fd, unsigned int uid, unsigned int gid) { SYS_RESULT(fchown(fd, uid, gid)); }

struct sys_file_facts {
    uint64_t device, inode, size, links;
    uint32_t mode, uid, gid;
};
static inline long sys_fstatat(int folder, const char *path, struct sys_file_facts *facts) {
    struct stat s;
    if (fstatat(folder, path, &s, 0) != 0) return -(long)errno;
    *facts = (struct sys_file_facts){s.st_dev, s.st_ino, (uint64_t)s.st_size, s.st_nlink, s.st_mode, s.st_uid, s.st_gid};
    return 0;
}
static inline long sys_getdents(int fd, void *buffer, size_t count) { SYS_RESULT(syscall(SYS_getdents64, fd, buffer, count)); }

// MARK: - Mounts, modules, machine

static inline long sys_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *options) {
    SYS_RESULT(mount(source, target, type, flags, options));
}
static inline long sys_umount(const char *path, int flags) { SYS_RESULT(umount2(path, flags)); }
static inline long sys_finit_module(int fd, const char *parameters) { SYS_RESULT(syscall(SYS_finit_module, fd, parameters, 0)); }
static inline void sys_sync(void) { sync(); }
static inline long sys_reboot(int command) { SYS_RESULT(reboot(command)); }
static inline long sys_sethostname(const char *name, size_t count) { SYS_RESULT(sethostname(name, count)); }
static inline long sys_kernel_release(char *buffer, size_t count) {
    struct utsname names;
    if (uname(&names) != 0) return -(long)errno;
    return (long)strlcpy(buffer, names.release, count);
}
static inline int64_t sys_clock(int clock) {
    struct timespec now = {0, 0};
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static inline long sys_set_wall_clock(int64_t nanoseconds) {
    struct timespec now = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    SYS_RESULT(clock_settime(CLOCK_REALTIME, &now));
}
static inline void sys_sleep(int64_t nanoseconds) {
    struct timespec time = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    nanosleep(&time, NULL);
}
// random(4): RNDADDENTROPY takes {int bits; int bytes; data}, RNDRESEEDCRNG nothing.
static inline long sys_add_entropy(int fd, const void *bytes, uint32_t count) {
    struct { int bits, bytes; unsigned char data[512]; } request = {0};
    if (count > sizeof request.data) return -EINVAL;
    request.bits = (int)count * 8;
    request.bytes = (int)count;
    memcpy(request.data, bytes, count);
    SYS_RESULT(ioctl(fd, _IOW('R', 0x03, int[2]), &request));
}
static inline long sys_reseed(int fd) { SYS_RESULT(ioctl(fd, _IO('R', 0x07))); }

// MARK: - Events

static inline long sys_epoll_create(void) { SYS_RESULT(epoll_create1(EPOLL_CLOEXEC)); }
static inline long sys_epoll_ctl(int epoll, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    SYS_RESULT(epoll_ctl(epoll, operation, fd, &event));
}
struct sys_event {
    uint64_t data;
    uint32_t events;
};
// Waits for one event at a time: a handler may close any other source, so a batch could hold stale entries.
static inline long sys_epoll_wait(int epoll, struct sys_event *result, int timeout_ms) {
    struct epoll_event event;
    int count = epoll_wait(epoll, &event, 1, timeout_ms);
    if (count < 0) return -(long)errno;
    if (count == 1) *result = (struct sys_event){event.data.u64, event.events};
    return count;
}
static inline sigset_t sys_agent_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGUSR2);
    return set;
}
static inline long sys_signal_descriptor(void) {
    sigset_t set = sys_agent_signals();
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0) return -(long)errno;
    signal(SIGPIPE, SIG_IGN);
    SYS_RESULT(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}
static inline long sys_read_signal(int fd) {
    struct signalfd_siginfo information;
    long count = read(fd, &information, sizeof information);
    return count == (long)sizeof information ? (long)information.ssi_signo : -(long)errno;
}

// MARK: - Processes

static inline long sys_fork(void) { SYS_RESULT(fork()); }
static inline long sys_kill(int pid, int signal) { SYS_RESULT(kill(pid, signal)); }
static inline long sys_wait_any(int *status) { SYS_RESULT(waitpid(-1, status, WNOHANG)); }
static inline int sys_exited(int status) { return WIFEXITED(status); }
static inline int sys_exit_code(int status) { return WEXITSTATUS(status); }
static inline int sys_term_signal(int status) { return WTERMSIG(status); }
static inline long sys_setsid(void) { SYS_RESULT(setsid()); }
static inline long sys_take_terminal(int fd) { SYS_RESULT(ioctl(fd, TIOCSCTTY, 0)); }
static inline long sys_setgroups(size_t count, const gid_t *groups) { SYS_RESULT(syscall(SYS_setgroups, count, groups)); }
static inline long sys_setgid(gid_t gid) { SYS_RESULT(setresgid(gid, gid, gid)); }
static inline long sys_setuid(uid_t uid) { SYS_RESULT(setresuid(uid, uid, uid)); }
static inline long sys_execve(const char *path, char *const *arguments, char *const *environment) {
    SYS_RESULT(execve(path, arguments, environment));
}
// A child starts as if from a login: default actions for all signals, none blocked.
static inline void sys_default_signals(void) {
    sigset_t none;
    // The kernel's own form: musl keeps some real-time signals from signal(3), but a child may have inherited them ignored.
    uint64_t action[4] = {0};
    for (int number = 1; number < 65; number++) syscall(SYS_rt_sigaction, number, action, NULL, sizeof action[0]);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}
static inline long sys_limit_descriptors(uint64_t soft, uint64_t hard) {
    struct rlimit limit = {soft, hard};
    SYS_RESULT(setrlimit(RLIMIT_NOFILE, &limit));
}
_Noreturn static inline void sys_exit(int code) { _exit(code); }
static inline int sys_getpid(void) { return getpid(); }

// MARK: - Terminals

static inline long sys_unlock_terminal(int master) {
    int zero = 0;
    SYS_RESULT(ioctl(master, TIOCSPTLCK, &zero));
}
static inline long sys_open_peer(int master) { SYS_RESULT(ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)); }
static inline long sys_set_window(int fd, uint16_t rows, uint16_t columns) {
    struct winsize size = {rows, columns, 0, 0};
    SYS_RESULT(ioctl(fd, TIOCSWINSZ, &size));
}

// MARK: - Sockets

// <linux/vm_sockets.h> needs kernel headers that musl's include path does not have.
struct sys_sockaddr_vm {
    uint16_t family, reserved;
    uint32_t port, cid;
    uint8_t flags, zero[3];
};
static inline long sys_listen_vsock(uint32_t port) {
    int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -(long)errno;
    struct sys_sockaddr_vm address = {AF_VSOCK, 0, port, 0xffffffff, 0, {0}};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 128) != 0) {
        long error = -(long)errno;
        close(fd);
        return error;
    }
    return fd;
}
static inline long sys_listen_unix(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlcpy(address.sun_path, path, sizeof address.sun_path) >= sizeof address.sun_path) return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -(long)errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 128) != 0) {
        long error = -(long)errno;
        close(fd);
        return error;
    }
    return fd;
}
static inline long sys_listen_loopback(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -(long)errno;
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 16) != 0) {
        long error = -(long)errno;
        close(fd);
        return error;
    }
    return fd;
}
static inline void sys_set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}
static inline long sys_accept(int fd) { SYS_RESULT(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)); }
static inline long sys_connect_loopback(uint16_t port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -(long)errno;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        long error = -(long)errno;
        close(fd);
        return error;
    }
    return fd;
}
static inline int sys_socket_error(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}
static inline long sys_shutdown_write(int fd) { SYS_RESULT(shutdown(fd, SHUT_WR)); }

// MARK: - Network interfaces (netdevice(7))

static inline long sys_inet_socket(void) { SYS_RESULT(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); }
static inline long sys_interface_up(int fd, const char *name) {
    struct ifreq request = {0};
    strlcpy(request.ifr_name, name, sizeof request.ifr_name);
    if (ioctl(fd, SIOCGIFFLAGS, &request) != 0) return -(long)errno;
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    SYS_RESULT(ioctl(fd, SIOCSIFFLAGS, &request));
}
static inline struct sockaddr sys_address(uint32_t address) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr = {address}};
    struct sockaddr result;
    memcpy(&result, &in, sizeof result);
    return result;
}
static inline long sys_interface_address(int fd, const char *name, uint32_t address, uint32_t mask) {
    struct ifreq request = {0};
    strlcpy(request.ifr_name, name, sizeof request.ifr_name);
    request.ifr_addr = sys_address(address);
    if (ioctl(fd, SIOCSIFADDR, &request) != 0) return -(long)errno;
    request.ifr_netmask = sys_address(mask);
    SYS_RESULT(ioctl(fd, SIOCSIFNETMASK, &request));
}
static inline long sys_default_route(int fd, uint32_t gateway) {
    struct rtentry route = {0};
    route.rt_dst = sys_address(0);
    route.rt_genmask = sys_address(0);
    route.rt_gateway = sys_address(gateway);
    route.rt_flags = RTF_UP | RTF_GATEWAY;
    SYS_RESULT(ioctl(fd, SIOCADDRT, &route));
}

// MARK: - Socket diagnostics (sock_diag(7))

static inline long sys_diag_socket(void) { SYS_RESULT(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 4)); }
static inline long sys_send(int fd, const void *bytes, size_t count) { SYS_RESULT(send(fd, bytes, count, MSG_NOSIGNAL)); }
static inline long sys_receive(int fd, void *bytes, size_t count) { SYS_RESULT(recv(fd, bytes, count, MSG_DONTWAIT)); }

// MARK: - What Embedded Swift's runtime asks of a libc and musl does not have

void arc4random_buf(void *buffer, size_t count);

#endif
