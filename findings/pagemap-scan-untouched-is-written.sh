#!/usr/bin/env bash
# PAGEMAP_SCAN calls pages "written" that nobody ever touched.
#
# Seen:    Linux 6.18.44, x86-64; userfaultfd with WP_ASYNC and WP_UNPOPULATED over anonymous memory.
# Guessed: category PAGE_IS_WRITTEN (the successor of soft-dirty, for checkpointing in user space) leaves out a page that has no
#          page table entry: nobody can have written it.
# Is:      right after registration all pages are reported as written, until a scan with PM_SCAN_WP_MATCHING has marked them; and
#          MADV_DONTNEED of such a page, which held nothing, makes it written again. A read makes no difference.
# Matters: a checkpointer that takes the first report for its dirty set saves every hole of the address space; and giving memory
#          back enlarges the next checkpoint.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/scan.c" <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* From include/uapi/linux/{fs,userfaultfd}.h of 6.7 and later: Debian 12's headers are older. */
struct region { unsigned long long start, end, categories; };
struct scan {
    unsigned long long size, flags, start, end, walk_end, vec, vec_len, max_pages;
    unsigned long long category_inverted, category_mask, category_anyof_mask, return_mask;
};
enum { IS_WRITTEN = 2, WP_MATCHING = 1, CHECK_WPASYNC = 2, PAGES = 16 };
static const unsigned long long features = 1 << 15 /* WP_ASYNC */ | 1 << 13 /* WP_UNPOPULATED */;
static int pagemap;

static int written(char *memory, int protects) {
    struct region found[PAGES];
    struct scan scan = {sizeof scan, protects ? WP_MATCHING | CHECK_WPASYNC : 0, (unsigned long)memory,
                        (unsigned long)memory + PAGES * 4096, 0, (unsigned long)found, PAGES, 0, 0, IS_WRITTEN, 0, IS_WRITTEN};
    int count = ioctl(pagemap, _IOWR('f', 16, struct scan), &scan), pages = 0;
    if (count < 0) exit(77);
    for (int i = 0; i < count; i++) pages += (found[i].end - found[i].start) / 4096;
    return pages;
}

int main(void) {
    char *memory = mmap(0, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    pagemap = open("/proc/self/pagemap", O_RDONLY);
    int faults = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    struct uffdio_api api = {UFFD_API, features, 0};
    struct uffdio_register area = {{(unsigned long)memory, PAGES * 4096}, UFFDIO_REGISTER_MODE_WP, 0};
    if (faults < 0 || ioctl(faults, UFFDIO_API, &api) || ioctl(faults, UFFDIO_REGISTER, &area)) return 77;
    printf("registered, untouched: %d\n", written(memory, 0));
    written(memory, 1);
    printf("marked: %d\n", written(memory, 0));
    memory[0] = memory[8192] = 1;
    printf("two writes: %d\n", written(memory, 0));
    (void)*(volatile char *)(memory + 5 * 4096);
    printf("and a read: %d\n", written(memory, 0));
    madvise(memory + 8 * 4096, 4096, MADV_DONTNEED);
    printf("and MADV_DONTNEED of an untouched page: %d\n", written(memory, 0));
}
END
gcc -O1 -o "$tmp/scan" "$tmp/scan.c"
status=0
"$tmp/scan" >"$tmp/seen" || status=$?
if [ "$status" = 77 ]; then
    echo "this kernel ($(uname -r)) or user has no PAGEMAP_SCAN with userfaultfd"
    exit 77
fi
cat "$tmp/seen"
diff - "$tmp/seen" <<'END'
registered, untouched: 16
marked: 0
two writes: 2
and a read: 2
and MADV_DONTNEED of an untouched page: 3
END
