// What the virtio devices need of sockets and TAP interfaces: calls whose address or message structures Swift cannot
// build without casts. All return a result or -errno.
#ifndef CLINUX_DEVICES_H
#define CLINUX_DEVICES_H

#define CDEVICE_RESULT(expression)                     \
    do {                                               \
        long result_ = (long)(expression);             \
        return result_ == -1 ? -(long)errno : result_; \
    } while (0)

static inline long cdevice_unix_address(struct sockaddr_un *address, const char *path) {
    memset(address, 0, sizeof *address);
    address->sun_family = AF_UNIX;
    size_t length = strlen(path);
    if (length >= sizeof address->sun_path) return -ENAMETOOLONG;
    memcpy(address->sun_path, path, length);
    return 0;
}
static inline long cdevice_unix_socket(void) { CDEVICE_RESULT(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); }
static inline long cdevice_unix_bind(int fd, const char *path) {
    struct sockaddr_un address;
    long result = cdevice_unix_address(&address, path);
    if (result < 0) return result;
    CDEVICE_RESULT(bind(fd, (struct sockaddr *)&address, sizeof address));
}
static inline long cdevice_unix_connect(int fd, const char *path) {
    struct sockaddr_un address;
    long result = cdevice_unix_address(&address, path);
    if (result < 0) return result;
    CDEVICE_RESULT(connect(fd, (struct sockaddr *)&address, sizeof address));
}
static inline long cdevice_is_socket(const char *path) {
    struct stat info;
    if (lstat(path, &info) != 0) return -(long)errno;
    return S_ISSOCK(info.st_mode);
}
static inline long cdevice_listen(int fd, int backlog) { CDEVICE_RESULT(listen(fd, backlog)); }
static inline long cdevice_accept(int fd) { CDEVICE_RESULT(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)); }
static inline long cdevice_socketpair(int pair[2]) { CDEVICE_RESULT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair)); }
static inline long cdevice_shutdown_writing(int fd) { CDEVICE_RESULT(shutdown(fd, SHUT_WR)); }
static inline long cdevice_peek(int fd, void *buffer, size_t count) { CDEVICE_RESULT(recv(fd, buffer, count, MSG_PEEK | MSG_DONTWAIT)); }
static inline long cdevice_send(int fd, const void *buffer, size_t count) {
    CDEVICE_RESULT(send(fd, buffer, count, MSG_NOSIGNAL | MSG_DONTWAIT));
}
// Never raises SIGPIPE, never blocks.
static inline long cdevice_send_vectors(int fd, const struct iovec *vectors, int count) {
    struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = (size_t)count};
    CDEVICE_RESULT(sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT));
}
static inline long cdevice_receive_vectors(int fd, const struct iovec *vectors, int count) {
    struct msghdr message = {.msg_iov = (struct iovec *)vectors, .msg_iovlen = (size_t)count};
    CDEVICE_RESULT(recvmsg(fd, &message, MSG_DONTWAIT));
}
// Whether both directions of a socket are closed: 1 or 0.
static inline long cdevice_is_hung_up(int fd) {
    struct pollfd state = {.fd = fd, .events = 0};
    if (poll(&state, 1, 0) < 0) return -(long)errno;
    return (state.revents & (POLLHUP | POLLERR)) != 0;
}
static inline int64_t cdevice_monotonic_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
// Attaches an open /dev/net/tun to an interface: Ethernet frames, each behind a virtio-net header. The kernel writes
// the chosen name back.
static inline long cdevice_tap_attach(int tun, char name[IFNAMSIZ]) {
    struct ifreq request;
    memset(&request, 0, sizeof request);
    memcpy(request.ifr_name, name, IFNAMSIZ - 1);
    request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
    if (ioctl(tun, TUNSETIFF, &request) != 0) return -(long)errno;
    memcpy(name, request.ifr_name, IFNAMSIZ);
    return 0;
}

#endif
