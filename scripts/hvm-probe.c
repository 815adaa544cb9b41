// Runs one page of real-mode code on /dev/kvm and times exits: does this KVM work at all? Used by scripts/hvm-check --outer.
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

static void check(long result, const char *what) {
    if (result >= 0) return;
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

int main(void) {
    // A loop of 1000 port writes, then hlt.
    static const uint8_t code[] = {0xb9, 0xe8, 0x03, 0xe6, 0x80, 0xe2, 0xfc, 0xf4};
    int kvm = open("/dev/kvm", O_RDWR);
    check(kvm, "open /dev/kvm");
    int vm = ioctl(kvm, KVM_CREATE_VM, 0);
    check(vm, "KVM_CREATE_VM");
    uint8_t *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(memory, code, sizeof code);
    struct kvm_userspace_memory_region region = {.guest_phys_addr = 0x1000, .memory_size = 4096, .userspace_addr = (uintptr_t)memory};
    check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    check(vcpu, "KVM_CREATE_VCPU");
    int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    check(size, "KVM_GET_VCPU_MMAP_SIZE");
    struct kvm_run *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_sregs sregs;
    check(ioctl(vcpu, KVM_GET_SREGS, &sregs), "KVM_GET_SREGS");
    sregs.cs.base = 0;
    sregs.cs.selector = 0;
    check(ioctl(vcpu, KVM_SET_SREGS, &sregs), "KVM_SET_SREGS");
    struct kvm_regs regs = {.rip = 0x1000, .rflags = 2};
    check(ioctl(vcpu, KVM_SET_REGS, &regs), "KVM_SET_REGS");
    int exits = 0;
    double start = now();
    for (;;) {
        check(ioctl(vcpu, KVM_RUN, 0), "KVM_RUN");
        if (run->exit_reason != KVM_EXIT_IO) break;
        exits++;
    }
    double each = (now() - start) * 1e6 / (exits > 0 ? exits : 1);
    printf("kvm-probe: %d port exits, %.1f us each, then exit reason %u\n", exits, each, run->exit_reason);
    return exits == 1000 && run->exit_reason == KVM_EXIT_HLT ? 0 : 1;
}
