#!/usr/bin/env bash
# KVM_RESET_DIRTY_RINGS ends at a signal, and answers with success.
#
# Seen:    Linux 6.18.44, x86-64, dirty ring of 16,384 entries; said to be so since 6.17.
# Guessed: one call resets all entries that user space has marked as taken, and answers their number; a call that a signal
#          interrupts fails with EINTR, as KVM_RUN does.
# Is:      a signal that is pending in the caller ends the call after some of the entries, with their number and no error. The rest
#          stays marked until somebody calls again.
# Matters: a checkpointer that compares the number with what it took must call again, and not take a smaller one for a lost ring;
#          one that does not look leaves pages unprotected, whose next write nobody is told of.
set -euo pipefail
[ -r /dev/kvm ] && [ -w /dev/kvm ] || { echo "no access to /dev/kvm"; exit 77; }
case "$(uname -r)" in [1-5].* | 6.[0-9].* | 6.1[0-6].*) echo "this kernel ($(uname -r)) is older"; exit 77 ;; esac
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/reset.c" <<'END'
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ENTRIES = 16384, ROUNDS = 200, MEMORY = 64 << 20 };

/* 16-bit code that adds one to the first byte of each of 8,192 pages from 1 MiB on. */
static const unsigned char code[] = {
    0x66, 0xbb, 0x00, 0x00, 0x10, 0x00,       /*    mov $0x100000, %ebx */
    0x66, 0xb9, 0x00, 0x20, 0x00, 0x00,       /*    mov $8192, %ecx     */
    0x67, 0xfe, 0x03,                         /* 1: incb (%ebx)         */
    0x66, 0x81, 0xc3, 0x00, 0x10, 0x00, 0x00, /*    add $4096, %ebx     */
    0x66, 0x49, 0x75, 0xf2,                   /*    dec %ecx; jnz 1b    */
    0xf4};                                    /*    hlt                 */
static pthread_t caller;
static volatile int goes_on;

static void nothing(int number) { (void)number; }

static void *send_signals(void *unused) {
    while (goes_on) {
        pthread_kill(caller, SIGUSR1);
        usleep(20);
    }
    return unused;
}

static int ok(int result) {
    if (result < 0) {
        perror("kvm");
        exit(77);
    }
    return result;
}

/* Runs the guest from its first instruction until it halts. */
static void run_guest(int cpu, struct kvm_run *run) {
    struct kvm_sregs special;
    struct kvm_regs registers = {.rip = 0x1000, .rflags = 2};
    ok(ioctl(cpu, KVM_GET_SREGS, &special));
    struct kvm_segment *segments[] = {&special.cs, &special.ds, &special.es, &special.ss};
    for (int i = 0; i < 4; i++) {
        segments[i]->base = segments[i]->selector = 0;
        segments[i]->limit = 0xffffffff;
        segments[i]->g = 1;
    }
    ok(ioctl(cpu, KVM_SET_SREGS, &special));
    ok(ioctl(cpu, KVM_SET_REGS, &registers));
    ok(ioctl(cpu, KVM_RUN, 0));
    if (run->exit_reason != KVM_EXIT_HLT) exit(77);
}

int main(void) {
    int kvm = ok(open("/dev/kvm", O_RDWR | O_CLOEXEC)), vm = ok(ioctl(kvm, KVM_CREATE_VM, 0));
    /* KVM_CAP_DIRTY_LOG_RING_ACQ_REL, else KVM_CAP_DIRTY_LOG_RING: Debian 12's header has only one of them. */
    struct kvm_enable_cap ring_on = {.cap = ioctl(vm, KVM_CHECK_EXTENSION, 223) > 0 ? 223 : 192};
    ring_on.args[0] = ENTRIES * sizeof(struct kvm_dirty_gfn);
    ok(ioctl(vm, KVM_ENABLE_CAP, &ring_on));
    char *memory = mmap(0, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(memory + 0x1000, code, sizeof code);
    struct kvm_userspace_memory_region slot = {0, KVM_MEM_LOG_DIRTY_PAGES, 0, MEMORY, (uintptr_t)memory};
    ok(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot));
    int cpu = ok(ioctl(vm, KVM_CREATE_VCPU, 0));
    struct kvm_run *run = mmap(0, ok(ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)), PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
    struct kvm_dirty_gfn *ring =
        mmap(0, ring_on.args[0], PROT_READ | PROT_WRITE, MAP_SHARED, cpu, KVM_DIRTY_LOG_PAGE_OFFSET * 4096);
    if (memory == MAP_FAILED || run == MAP_FAILED || ring == MAP_FAILED) return 77;
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGUSR1, &action, 0);
    caller = pthread_self();

    unsigned next = 0, calls = 0, cut_short = 0, failed = 0;
    for (int round = 0; round <= ROUNDS; round++) {
        pthread_t sender;
        int taken = 0;
        run_guest(cpu, run);
        for (; ring[next % ENTRIES].flags & KVM_DIRTY_GFN_F_DIRTY; next++, taken++) ring[next % ENTRIES].flags = KVM_DIRTY_GFN_F_RESET;
        goes_on = round > 0;
        if (goes_on) pthread_create(&sender, 0, send_signals, 0);
        for (int left = taken; left > 0 && calls < 1000000; calls++) {
            int count = ioctl(vm, KVM_RESET_DIRTY_RINGS, 0);
            failed += count < 0;
            if (count > 0) left -= count;
            cut_short += count >= 0 && left > 0;
        }
        if (round == 0) printf("no signal: %d taken, %u call\n", taken, calls);
        if (goes_on) {
            goes_on = 0;
            pthread_join(sender, 0);
        }
    }
    printf("signals: calls that answered with fewer: %s, that failed: %s\n", cut_short ? "some" : "none", failed ? "some" : "none");
    fprintf(stderr, "%u of %u calls\n", cut_short, calls);
}
END
gcc -O1 -pthread -o "$tmp/reset" "$tmp/reset.c"
status=0
timeout 120 "$tmp/reset" >"$tmp/seen" || status=$?
cat "$tmp/seen"
if [ "$status" = 77 ]; then
    echo "this KVM does not run it"
    exit 77
fi
diff - "$tmp/seen" <<'END'
no signal: 8192 taken, 1 call
signals: calls that answered with fewer: some, that failed: none
END
