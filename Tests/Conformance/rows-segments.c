// Segment registers, far transfers, local descriptors, the bases of FS and GS.

#define _GNU_SOURCE
#include "probe.h"
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>



INSTRUCTION("mov 7, %es", "mov $7, %eax\nmov %eax, %es")
INSTRUCTION("mov 7, %ds", "mov $7, %eax\nmov %eax, %ds")
INSTRUCTION("mov 7, %fs", "mov $7, %eax\nmov %eax, %fs")
INSTRUCTION("mov 7, %gs", "mov $7, %eax\nmov %eax, %gs")
INSTRUCTION("mov 7, %ss", "mov $7, %eax\nmov %eax, %ss")
INSTRUCTION("mov 4, %es", "mov $4, %eax\nmov %eax, %es")
INSTRUCTION("mov 0x47, %es", "mov $0x47, %eax\nmov %eax, %es")
INSTRUCTION("mov 0xffff, %ds", "mov $0xffff, %eax\nmov %eax, %ds")
INSTRUCTION("mov 0xfff8, %ds", "mov $0xfff8, %eax\nmov %eax, %ds")
INSTRUCTION("mov 0x10, %ds", "mov $0x10, %eax\nmov %eax, %ds")
INSTRUCTION("mov 0x18, %ds", "mov $0x18, %eax\nmov %eax, %ds")
INSTRUCTION("mov 0x2b, %ds", "mov $0x2b, %eax\nmov %eax, %ds\nmov %ds, %eax")
INSTRUCTION("mov 0x63, %fs (no TLS entry)", "mov $0x63, %eax\nmov %eax, %fs")
INSTRUCTION("mov 0, %ss", "xor %eax, %eax\nmov %eax, %ss")
INSTRUCTION("mov 3, %ss", "mov $3, %eax\nmov %eax, %ss")
INSTRUCTION("mov 0x18, %ss", "mov $0x18, %eax\nmov %eax, %ss")
INSTRUCTION("mov 0x33, %ss", "mov $0x33, %eax\nmov %eax, %ss")
INSTRUCTION("mov 0x2b, %ss", "mov $0x2b, %eax\nmov %eax, %ss\nmov %ss, %eax")
INSTRUCTION("mov 3, %es", "mov $3, %eax\nmov %eax, %es\nmov %es, %eax")
INSTRUCTION("mov to %cs", "xor %eax, %eax\n.byte 0x8e, 0xc8")
INSTRUCTION("pop %fs, 7", "push $7\npop %fs")
INSTRUCTION("lss, 7", "movw $7, 4(%rdi)\nlss (%rdi), %eax")
INSTRUCTION("lfs, 7", "movw $7, 4(%rdi)\nlfs (%rdi), %eax")
INSTRUCTION("lretq to 0x33", "push $0x33\npush $1f\nlretq\n1: mov %cs, %eax")
INSTRUCTION("lretq to 7", "push $7\npush $1f\nlretq\n1: mov %cs, %eax")
INSTRUCTION("lretq to 0x10", "push $0x10\npush $1f\nlretq\n1: mov %cs, %eax")
INSTRUCTION("lretq to 0x2b", "push $0x2b\npush $1f\nlretq\n1: mov %cs, %eax")
INSTRUCTION("lretq to 0", "push $0\npush $1f\nlretq\n1: mov %cs, %eax")
INSTRUCTION("iretq to itself", "mov %rsp, %rdx\npush $0x2b\npush %rdx\npushfq\npush $0x33\npush $1f\niretq\n1: mov %cs, %eax")
INSTRUCTION("iretq to cs 0x10", "mov %rsp, %rdx\npush $0x2b\npush %rdx\npushfq\npush $0x10\npush $1f\niretq\n1: mov %cs, %eax")
INSTRUCTION("iretq to cs 7", "mov %rsp, %rdx\npush $0x2b\npush %rdx\npushfq\npush $7\npush $1f\niretq\n1: mov %cs, %eax")
INSTRUCTION("iretq to ss 0x18", "mov %rsp, %rdx\npush $0x18\npush %rdx\npushfq\npush $0x33\npush $1f\niretq\n1: mov %cs, %eax")
INSTRUCTION("iretq with NT", SET_FLAGS(0x4000) "push $0\npush $0\npush $0\npush $0\npush $0\niretq")
INSTRUCTION("ljmp to 7 through memory", "movl $1f, (%rdi)\nmovw $7, 4(%rdi)\nljmp *(%rdi)\n1: nop")
INSTRUCTION("lar of 0x33", "mov $0x33, %ecx\nlar %ecx, %eax\njz 1f\nmov $-1, %rax\n1:")
INSTRUCTION("lar of 7", "mov $7, %ecx\nmov $1, %eax\nlar %ecx, %eax\njz 1f\nmov $-1, %rax\n1:")
INSTRUCTION("verr of 7", "mov $7, %ecx\nverr %cx\nsetz %al")
INSTRUCTION("selectors", "mov %ss, %eax\nshl $16, %eax\nmov %cs, %ax")
INSTRUCTION("data segments are null", "mov %ds, %eax\nmov %es, %ecx\nor %ecx, %eax\nmov %fs, %ecx\nor %ecx, %eax\nmov %gs, %ecx\n"
    "or %ecx, %eax")

static struct user_desc descriptor(unsigned entry) {
    return (struct user_desc){.entry_number = entry, .base_addr = SCRATCH, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1,
        .useable = 1};
}

// Works, or fails: a descriptor that was set can be loaded and is used.
static u64 local_descriptor(const struct row *row) {
    struct user_desc wanted = descriptor(0);
    long set = syscall(SYS_modify_ldt, 1, &wanted, sizeof wanted);
    say("modify_ldt %s", outcome(set));
    return set ? 0 : run(row);
}
FUNCTION("modify_ldt, gs uses it", "movl $0x5678, (%rdi)\nmov $7, %eax\nmov %eax, %gs\nmov %gs:0, %eax\nxor %ecx, %ecx\n"
    "mov %ecx, %gs", local_descriptor)
FUNCTION("modify_ldt, es takes it", "mov $7, %eax\nmov %eax, %es\nmov %es, %eax", local_descriptor)
FUNCTION("modify_ldt, selector kept over a system call", "mov $7, %eax\nmov %eax, %es\nmov $24, %eax\nsyscall\n"
    "mov %es, %eax", local_descriptor)
FUNCTION("modify_ldt, the next entry is empty", "mov $0xf, %eax\nmov %eax, %es", local_descriptor)
static u64 read_local_descriptors(const struct row *row) {
    (void)row;
    char table[64];
    long got = syscall(SYS_modify_ldt, 0, table, sizeof table);
    say("reads %ld", got);
    return 0;
}
FUNCTION("modify_ldt, empty table", "nop", read_local_descriptors)

// TLS descriptors: set_thread_area is a 32-bit call (243).
INSTRUCTION("set_thread_area, gs uses it", "movl $-1, (%rdi)\nmovl $0x20000000, 4(%rdi)\nmovl $0xfffff, 8(%rdi)\nmovl $0x51, 12(%rdi)\n"
    "movl $0x5678, 64(%rdi)\nmov %edi, %ebx\nmov $243, %eax\nint $0x80\ntest %eax, %eax\njnz 1f\n"
    "mov (%rdi), %eax\nlea 3(,%eax,8), %eax\nmov %eax, %gs\nmov %gs:64, %eax\n1:")

INSTRUCTION("arch_prctl sets gs", "mov $0x1001, %edi\nmov $0x20000000, %esi\nmov $158, %eax\nsyscall\nmovl $0x5678, (%rsi)\n"
    "mov %gs:0, %eax")
INSTRUCTION("arch_prctl gs, not canonical", "mov $0x1001, %edi\nmovabs $0x8000000000000000, %rsi\nmov $158, %eax\nsyscall")

// FSGSBASE: kept by the kernel, or #UD. The last: does what the kernel says of it hold?
#define ACROSS "push $1000\npush $0\nmov %rsp, %rdi\nxor %esi, %esi\nmov $35, %eax\nsyscall\npop %rcx\npop %rcx\n" // nanosleep of 1 µs
// Beside a process that has other bases and runs now and then. 1: kept.
static u64 beside_another(const struct row *row) {
    pid_t pid = fork();
    if (pid == 0) {
        syscall(SYS_arch_prctl, ARCH_SET_GS, 0x30000000ul);
        for (;;) usleep(50);
    }
    usleep(2000);
    u64 result = run(row);
    kill(pid, SIGKILL);
    return result;
}
FUNCTION("wrgsbase, kept while others run", "mov $0x20000000, %edx\nwrgsbase %rdx\n" ACROSS "rdgsbase %rcx\nxor %eax, %eax\n"
    "cmp %rdx, %rcx\nsete %al", beside_another)
FUNCTION("wrfsbase, kept while others run", "rdfsbase %r12\nmov $0x20000000, %edx\nwrfsbase %rdx\n" ACROSS "rdfsbase %rcx\n"
    "wrfsbase %r12\n"
    "xor %eax, %eax\ncmp %rdx, %rcx\nsete %al", beside_another)
INSTRUCTION("wrgsbase, not canonical", "movabs $0x8000000000000000, %rdx\nwrgsbase %rdx")
static u64 fsgsbase_hint(const struct row *row) {
    (void)row;
    unsigned eax = 7, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    bool processor = ebx & 1, kernel = getauxval(AT_HWCAP2) & 2;
    say("cpuid and HWCAP2 %s", processor == kernel ? "agree" : "differ");
    return 0;
}
FUNCTION("FSGSBASE as it is announced", "nop", fsgsbase_hint)
