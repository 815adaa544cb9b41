// Sockets, network interfaces, file locks and signals: wrappers that return -errno, with the address structures made
// here because Swift imports neither the casts between them nor the request macros.
#ifndef CLINUX_SOCKETS_H
#define CLINUX_SOCKETS_H

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>

#define CLINUX_ANSWER(expression)                      \
    do {                                               \
        long result_ = (long)(expression);             \
        return result_ == -1 ? -(long)errno : result_; \
    } while (0)

// MARK: - Sockets

static inline long clinux_socket(int domain, int type) { CLINUX_ANSWER(socket(domain, type | SOCK_CLOEXEC, 0)); }
static inline long clinux_socket_stream(int domain) { return clinux_socket(domain, SOCK_STREAM); }
static inline long clinux_socketpair(int pair[2]) { CLINUX_ANSWER(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)); }
static inline long clinux_listen(int fd, int backlog) { CLINUX_ANSWER(listen(fd, backlog)); }
static inline long clinux_accept_nonblocking(int fd) { CLINUX_ANSWER(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)); }
static inline long clinux_accept_blocking(int fd) { CLINUX_ANSWER(accept4(fd, NULL, NULL, SOCK_CLOEXEC)); }
static inline long clinux_shutdown(int fd, int how) { CLINUX_ANSWER(shutdown(fd, how)); }
static inline long clinux_send(int fd, const void *buffer, size_t count) { CLINUX_ANSWER(send(fd, buffer, count, MSG_NOSIGNAL)); }
static inline long clinux_recv(int fd, void *buffer, size_t count) { CLINUX_ANSWER(recv(fd, buffer, count, 0)); }

static inline long clinux_unix_address(struct sockaddr_un *address, const char *path) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    size_t length = strlen(path);
    if (length >= sizeof address->sun_path) return -ENAMETOOLONG;
    memcpy(address->sun_path, path, length);
    return 0;
}
static inline long clinux_unix_bind(int fd, const char *path) {
    struct sockaddr_un address;
    long result = clinux_unix_address(&address, path);
    if (result < 0) return result;
    CLINUX_ANSWER(bind(fd, (struct sockaddr *)&address, sizeof address));
}
static inline long clinux_unix_connect(int fd, const char *path) {
    struct sockaddr_un address;
    long result = clinux_unix_address(&address, path);
    if (result < 0) return result;
    CLINUX_ANSWER(connect(fd, (struct sockaddr *)&address, sizeof address));
}

/// The address has the byte order of the host: 127.0.0.1 is 0x7f000001.
static inline struct sockaddr_in clinux_inet_address(uint32_t address, uint16_t port) {
    struct sockaddr_in result;
    memset(&result, 0, sizeof result);
    result.sin_family = AF_INET;
    result.sin_addr.s_addr = htonl(address);
    result.sin_port = htons(port);
    return result;
}
static inline long clinux_inet_bind(int fd, uint32_t address, uint16_t port) {
    struct sockaddr_in name = clinux_inet_address(address, port);
    CLINUX_ANSWER(bind(fd, (struct sockaddr *)&name, sizeof name));
}
static inline long clinux_inet_connect(int fd, uint32_t address, uint16_t port) {
    struct sockaddr_in name = clinux_inet_address(address, port);
    CLINUX_ANSWER(connect(fd, (struct sockaddr *)&name, sizeof name));
}
static inline long clinux_inet_port(int fd) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &length) != 0) return -(long)errno;
    return ntohs(name.sin_port);
}

/// The port of the other side, and its address in the host's byte order; fails for a socket that is not of IPv4.
static inline long clinux_inet_peer(int fd, uint32_t *address) {
    struct sockaddr_in name;
    socklen_t length = sizeof name;
    if (getpeername(fd, (struct sockaddr *)&name, &length) != 0) return -(long)errno;
    if (length < sizeof name || name.sin_family != AF_INET) return -EAFNOSUPPORT;
    *address = ntohl(name.sin_addr.s_addr);
    return ntohs(name.sin_port);
}

static inline long clinux_socket_option(int fd, int level, int option, int value) {
    CLINUX_ANSWER(setsockopt(fd, level, option, &value, sizeof value));
}
/// The pending error of a socket as a positive number (a finished connect, for example), zero for none.
static inline long clinux_socket_error(int fd) {
    int value = 0;
    socklen_t length = sizeof value;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length) != 0) return -(long)errno;
    return value;
}
/// Closing then sends a reset instead of an orderly end.
static inline long clinux_socket_reset_on_close(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    CLINUX_ANSWER(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
}
/// Limits how long one blocking read or write may take.
static inline long clinux_socket_timeouts(int fd, int milliseconds) {
    struct timeval value = {milliseconds / 1000, (milliseconds % 1000) * 1000};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &value, sizeof value) != 0) return -(long)errno;
    CLINUX_ANSWER(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof value));
}
static inline long clinux_poll(struct pollfd *descriptors, unsigned long count, int timeout_ms) {
    CLINUX_ANSWER(poll(descriptors, count, timeout_ms));
}

// MARK: - Network interfaces

/// Names the interface of an open /dev/net/tun: Ethernet frames, each after a virtio-net header.
static inline long clinux_tap_attach(int tun, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    CLINUX_ANSWER(ioctl(tun, TUNSETIFF, &request));
}
/// `socket` is any socket of the namespace; the mask is given by its prefix length.
static inline long clinux_interface_address(int socket, const char *name, uint32_t address, int prefix) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    struct sockaddr_in value = clinux_inet_address(address, 0);
    memcpy(&request.ifr_addr, &value, sizeof value);
    if (ioctl(socket, SIOCSIFADDR, &request) != 0) return -(long)errno;
    value = clinux_inet_address(prefix <= 0 ? 0 : 0xffffffffu << (32 - prefix), 0);
    memcpy(&request.ifr_netmask, &value, sizeof value);
    CLINUX_ANSWER(ioctl(socket, SIOCSIFNETMASK, &request));
}
/// Gives an Ethernet device its hardware address, six bytes; the device must not be up.
static inline long clinux_interface_hardware_address(int socket, const char *name, const uint8_t *address) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    request.ifr_hwaddr.sa_family = 1;  // ARPHRD_ETHER
    memcpy(request.ifr_hwaddr.sa_data, address, 6);
    CLINUX_ANSWER(ioctl(socket, SIOCSIFHWADDR, &request));
}
static inline long clinux_interface_up(int socket, const char *name) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
    if (ioctl(socket, SIOCGIFFLAGS, &request) != 0) return -(long)errno;
    request.ifr_flags |= IFF_UP | IFF_RUNNING;
    CLINUX_ANSWER(ioctl(socket, SIOCSIFFLAGS, &request));
}

// MARK: - Files

/// Takes an exclusive lock that belongs to the open file, so that a child that inherits the descriptor keeps it.
static inline long clinux_lock_take(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    CLINUX_ANSWER(fcntl(fd, F_OFD_SETLK, &lock));
}
/// Whether another open file holds the lock: 1 or 0. Takes nothing, so that two who ask do not disturb each other.
static inline long clinux_lock_is_held(int fd) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_GETLK, &lock) != 0) return -(long)errno;
    return lock.l_type != F_UNLCK;
}
static inline long clinux_rename_exclusive(const char *from, const char *to) {
    CLINUX_ANSWER(syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 1 /* RENAME_NOREPLACE */));
}
static inline long clinux_rename(const char *from, const char *to) { CLINUX_ANSWER(rename(from, to)); }
static inline long clinux_mkdir(const char *path, unsigned int mode) { CLINUX_ANSWER(mkdir(path, mode)); }
static inline long clinux_unlink(const char *path) { CLINUX_ANSWER(unlink(path)); }
static inline long clinux_access(const char *path, int mode) { CLINUX_ANSWER(access(path, mode)); }

/// Bytes that an ordinary user may still write to the file system that holds `path`.
static inline long clinux_free_bytes(const char *path) {
    struct statvfs info;
    if (statvfs(path, &info) != 0) return -(long)errno;
    return (long)(info.f_bavail * info.f_frsize);
}
static inline long clinux_memory_bytes(void) {
    struct sysinfo info;
    if (sysinfo(&info) != 0) return -(long)errno;
    return (long)(info.totalram * info.mem_unit);
}
/// Size of a regular file; -EISDIR for a directory, -EINVAL for anything else.
static inline long clinux_file_bytes(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) return -(long)errno;
    if (S_ISDIR(info.st_mode)) return -EISDIR;
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) return -EINVAL;
    return (long)info.st_size;
}
static inline long clinux_file_identity(int fd) {
    struct stat info;
    if (fstat(fd, &info) != 0) return -(long)errno;
    return (long)info.st_ino;
}
static inline long clinux_path_identity(const char *path) {
    struct stat info;
    if (stat(path, &info) != 0) return -(long)errno;
    return (long)info.st_ino;
}
static inline long clinux_kvm_version(int fd) { CLINUX_ANSWER(ioctl(fd, KVM_GET_API_VERSION, 0)); }

// MARK: - Signals, terminals, processes

static inline void clinux_signal_set(sigset_t *set, const int *signals, int count) {
    sigemptyset(set);
    for (int index = 0; index < count; index++) sigaddset(set, signals[index]);
}
/// Blocks the signals in this thread (and those it starts later) and returns a descriptor that reports them.
static inline long clinux_signal_descriptor(const int *signals, int count) {
    sigset_t set;
    clinux_signal_set(&set, signals, count);
    int result = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (result != 0) return -(long)result;
    CLINUX_ANSWER(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}
/// The next signal of such a descriptor, or -EAGAIN.
static inline long clinux_signal_read(int fd) {
    struct signalfd_siginfo info;
    long result = read(fd, &info, sizeof info);
    if (result < 0) return -(long)errno;
    return result == (long)sizeof info ? (long)info.ssi_signo : -EIO;
}
static inline long clinux_window_size(int fd, uint16_t *rows, uint16_t *columns) {
    struct winsize size;
    if (ioctl(fd, TIOCGWINSZ, &size) != 0) return -(long)errno;
    *rows = size.ws_row;
    *columns = size.ws_col;
    return 0;
}
static inline long clinux_descriptor_limit_raise(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -(long)errno;
    limit.rlim_cur = limit.rlim_max;
    CLINUX_ANSWER(setrlimit(RLIMIT_NOFILE, &limit));
}
/// Raises the limit of a file's size as far as it goes.
static inline long clinux_file_limit_raise(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) != 0) return -(long)errno;
    limit.rlim_cur = limit.rlim_max;
    CLINUX_ANSWER(setrlimit(RLIMIT_FSIZE, &limit));
}
static inline void clinux_ignore_signal(int number) { signal(number, SIG_IGN); }
static inline long clinux_kill(int pid, int signal) { CLINUX_ANSWER(kill(pid, signal)); }
/// Ends with a session of its own: what a process needs to outlive the terminal it was started from.
static inline long clinux_setsid(void) { CLINUX_ANSWER(setsid()); }
static inline int64_t clinux_monotonic_milliseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
static inline int64_t clinux_monotonic_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
static inline int64_t clinux_wall_nanoseconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
