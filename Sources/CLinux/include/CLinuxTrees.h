// Operations on trees of files relative to an open directory, which follow no link out of it; part of CLinux.h.
#ifndef CLINUX_TREES_H
#define CLINUX_TREES_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CLINUX_TREE_RESULT(expression)                 \
    do {                                               \
        long result_ = (long)(expression);             \
        return result_ == -1 ? -(long)errno : result_; \
    } while (0)

// Resolves a path as chroot(2) to the directory would: absolute links and ".." stay inside.
static inline long clinux_open_in_root(int root, const char *path, int flags) {
    struct open_how how;
    memset(&how, 0, sizeof how);
    how.flags = (uint64_t)(unsigned int)(flags | O_CLOEXEC);
    how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    CLINUX_TREE_RESULT(syscall(SYS_openat2, root, path, &how, sizeof how));
}
static inline long clinux_openat(int directory, const char *name, int flags, unsigned int mode) {
    CLINUX_TREE_RESULT(openat(directory, name, flags | O_CLOEXEC | O_NOFOLLOW, mode));
}
static inline long clinux_mkdirat(int directory, const char *name, unsigned int mode) {
    CLINUX_TREE_RESULT(mkdirat(directory, name, mode));
}
static inline long clinux_unlinkat(int directory, const char *name, int flags) { CLINUX_TREE_RESULT(unlinkat(directory, name, flags)); }
static inline long clinux_symlinkat(const char *target, int directory, const char *name) {
    CLINUX_TREE_RESULT(symlinkat(target, directory, name));
}
static inline long clinux_linkat(int from, const char *old, int to, const char *name) {
    CLINUX_TREE_RESULT(linkat(from, old, to, name, 0));
}
static inline long clinux_mknodat(
    int directory, const char *name, unsigned int mode, unsigned int major_number, unsigned int minor_number) {
    CLINUX_TREE_RESULT(mknodat(directory, name, mode, makedev(major_number, minor_number)));
}
static inline long clinux_fchown(int fd, unsigned int user, unsigned int group) { CLINUX_TREE_RESULT(fchown(fd, user, group)); }
static inline long clinux_lchownat(int directory, const char *name, unsigned int user, unsigned int group) {
    CLINUX_TREE_RESULT(fchownat(directory, name, user, group, AT_SYMLINK_NOFOLLOW));
}
static inline long clinux_fchmod(int fd, unsigned int mode) { CLINUX_TREE_RESULT(fchmod(fd, mode)); }
// Only for what was just made and is no link.
static inline long clinux_fchmodat(int directory, const char *name, unsigned int mode) {
    CLINUX_TREE_RESULT(fchmodat(directory, name, mode, 0));
}
static inline long clinux_fsetxattr(int fd, const char *name, const void *value, size_t count) {
    CLINUX_TREE_RESULT(fsetxattr(fd, name, value, count, 0));
}
static inline long clinux_set_modified(int directory, const char *name, int64_t seconds, uint32_t nanoseconds) {
    struct timespec times[2] = {{.tv_sec = seconds, .tv_nsec = nanoseconds}, {.tv_sec = seconds, .tv_nsec = nanoseconds}};
    CLINUX_TREE_RESULT(utimensat(directory, name, times, AT_SYMLINK_NOFOLLOW));
}
static inline long clinux_lstatat(int directory, const char *name, struct stat *status) {
    CLINUX_TREE_RESULT(fstatat(directory, name, status, AT_SYMLINK_NOFOLLOW));
}
static inline long clinux_readlink(const char *path, char *buffer, size_t count) { CLINUX_TREE_RESULT(readlink(path, buffer, count)); }
static inline long clinux_copy_file_range(int from, int64_t from_offset, int to, int64_t to_offset, size_t count) {
    CLINUX_TREE_RESULT(copy_file_range(from, (off64_t *)&from_offset, to, (off64_t *)&to_offset, count, 0));
}
#endif
