// 32-bit code: between far jumps in a 64-bit program, and a 32-bit program of its own.

#define _GNU_SOURCE
#include "probe.h"
#include <elf.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

COMPAT("32-bit code", "mov %cs, %eax")
COMPAT("32-bit ud2", "ud2")
COMPAT("32-bit divide by zero", "xor %ecx, %ecx\ndiv %ecx")
COMPAT("32-bit read unmapped", "mov 0x40000123, %eax")
COMPAT("32-bit write through null %ds", "xor %eax, %eax\nmov %eax, %ds\nmov %eax, 0x20000000")
COMPAT("32-bit int3", "int3")
COMPAT("32-bit into with OF", "mov $0x7fffffff, %eax\nadd $1, %eax\ninto")
COMPAT("32-bit into without OF", "xor %eax, %eax\ninto")
COMPAT("32-bit bound, out of range", "movl $1, 0x20000000\nmovl $2, 0x20000004\nmov $3, %eax\nbound %eax, 0x20000000")
COMPAT("32-bit bound, in range", "movl $1, 0x20000000\nmovl $2, 0x20000004\nmov $1, %eax\nbound %eax, 0x20000000")
COMPAT("32-bit int 0x80, getuid", "mov $199, %eax\nint $0x80")
COMPAT("32-bit int 0x80, no such call", "mov $100000, %eax\nint $0x80")
// What a C library's start uses.
COMPAT("32-bit cpuid", "xor %eax, %eax\ncpuid\nxor %eax, %eax")
COMPAT("32-bit xgetbv", "xor %ecx, %ecx\nxgetbv\nand $3, %eax")
COMPAT("32-bit rdtsc", "rdtsc\nxor %eax, %eax")
COMPAT("32-bit SSE", "mov $7, %eax\nmovd %eax, %xmm0\npaddd %xmm0, %xmm0\nmovd %xmm0, %eax")
COMPAT("32-bit x87", "fninit\nfld1\nfld1\nfaddp\nfistpl 0x20000000\nmov 0x20000000, %eax")
COMPAT("32-bit cmov, cmpxchg, xadd", "mov $3, %edx\nmov $3, %eax\nmovl $3, 0x20000000\nlock cmpxchg %edx, 0x20000000\n"
    "cmove %edx, %eax\nlock xadd %eax, 0x20000000")
COMPAT("32-bit string move", "mov $0x20000000, %esi\nmov $0x20000040, %edi\nmov $16, %ecx\ncld\nrep movsb\nmov 0x20000040, %eax")
COMPAT("32-bit push, call, ret", "push $7\ncall 3f\njmp 4f\n3: ret\n4: pop %eax")
COMPAT("32-bit int 0x20", "int $0x20")
COMPAT("32-bit hlt", "hlt")
COMPAT("32-bit mov 7, %es", "mov $7, %eax\nmov %eax, %es")
COMPAT("32-bit lret to 7", "push $7\npush $1b\nlret")
COMPAT("32-bit stack segment 0", "xor %eax, %eax\nmov %eax, %ss")
STEPPED("32-bit steps", "push $0x23\npush $1f\nlretq\n.code32\n1: push $0x302\npopf\nnop\nnop\npush $0x2\npopf\nljmp $0x33, $2f\n"
    ".code64\n2:")

// An ELF program of one page that calls exit(42) by `int $0x80`.
static u64 program32(const struct row *row) {
    struct {
        Elf32_Ehdr header;
        Elf32_Phdr segment;
        unsigned char code[64];
    } file = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_EXEC,
        .e_machine = EM_386,
            .e_version = EV_CURRENT, .e_phoff = sizeof(Elf32_Ehdr), .e_ehsize = sizeof(Elf32_Ehdr), .e_phentsize = sizeof(Elf32_Phdr),
        .e_phnum = 1},
        .segment = {.p_type = PT_LOAD, .p_vaddr = 0x10000, .p_flags = PF_R | PF_X, .p_align = 0x1000},
    };
    unsigned length = (unsigned)(row->end - row->code);
    memcpy(file.code, row->code, length);
    file.segment.p_filesz = file.segment.p_memsz = sizeof file;
    file.header.e_entry = 0x10000 + sizeof file.header + sizeof file.segment;
    int image = memfd_create("program32", MFD_CLOEXEC);
    if (write(image, &file, sizeof file) != sizeof file) return 1;
    pid_t pid = fork();
    if (pid == 0) {
        fexecve(image, (char *[]){"program32", NULL}, (char *[]){NULL});
        _exit(99);
    }
    int status;
    waitpid(pid, &status, 0);
    if (WIFEXITED(status)) say("exit %d", WEXITSTATUS(status));
    if (WIFSIGNALED(status)) say("SIG%s", sigabbrev_np(WTERMSIG(status)));
    return 0;
}
FUNCTION("32-bit program, exit(42)", ".code32\nmov $42, %ebx\nmov $1, %eax\nint $0x80\n.code64\nnop", program32)
FUNCTION("32-bit program, its selectors", ".code32\nmov %ds, %ebx\nmov %ss, %ecx\nxor %ecx, %ebx\nmov %cs, %ecx\nxor %ecx, %ebx\n"
    "mov $1, %eax\nint $0x80\n.code64\nnop", program32)
FUNCTION("32-bit program, a page fault", ".code32\nmov 0x40000000, %eax\n.code64\nnop", program32)
// uname(122) writes to the stack, sigaltstack(186) takes an address; exit tells what came back.
FUNCTION("32-bit program, a call with a pointer", ".code32\nsub $400, %esp\nmov %esp, %ebx\nmov $122, %eax\nint $0x80\n"
    "movzbl (%esp), %ebx\nmov $1, %eax\nint $0x80\n.code64\nnop", program32)
// set_thread_area(243), then a load through the new selector: 0x55.
FUNCTION("32-bit program, thread-local data", ".code32\npush $0x51\npush $0xfffff\npush %esp\npush $-1\nmov %esp, %ebx\n"
    "mov $243, %eax\nint $0x80\n"
    "mov (%esp), %eax\nlea 3(,%eax,8), %eax\nmov %eax, %gs\nmov $0x55, %ebx\nand %gs:4, %ebx\nmov $1, %eax\nint $0x80\n.code64\n"
    "nop", program32)
FUNCTION("32-bit program through its vDSO", ".code32\n1: pop %eax\ntest %eax, %eax\njnz 1b\n2: pop %eax\ntest %eax, %eax\njnz 2b\n"
    "3: pop %ecx\npop %edx\ncmp $32, %ecx\nje 4f\ntest %ecx, %ecx\njnz 3b\nhlt\n4: mov $7, %ebx\nmov $1, %eax\njmp *%edx\n.code64\n"
    "nop", program32)
