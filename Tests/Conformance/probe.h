// The probe: what a processor and its kernel do to a program, a row an instruction. probe.c runs the rows, rows-*.c hold them.

#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

typedef uint64_t u64;

// Fixed addresses below 4 GiB, so that output is the same everywhere and 32-bit code reaches them.
#define SCRATCH 0x20000000ul // readable and writable, %rdi of every row
#define STACK_TOP 0x30010000ul // the stack of every row; unmapped above
#define UNMAPPED 0x40000000ul

enum mode {
    ONCE = 0, // the first signal ends the row
    STEPS = 1, // a SIGTRAP is noted and the row goes on
};

struct row {
    const char *name;
    const char *code, *end;
    u64 (*function)(const struct row *); // instead of running the code: it may run it
    void (*alter)(ucontext_t *); // changes the frame of the first signal, and returns from it
    enum mode mode;
    bool as_root;
};

// Runs the row's code: %rdi SCRATCH, all other registers 0, flags 0x202, a stack of its own. Returns %rax.
u64 run(const struct row *row);
// Adds to the row's line.
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
// How output names an address: "+n" in the row's code, a number elsewhere.
const char *place(const struct row *row, u64 address);
// "EPERM" or "0".
const char *outcome(long result);

#define ROW_(line, title, text, ...)                                                                        \
    __asm__(".pushsection .text\n.balign 16\ncode_" #line ":\n" text "\nret\nend_" #line ":\n.popsection"); \
    extern const char code_##line[], end_##line[];                                                          \
    static const struct row row_##line = {.name = title, .code = code_##line, .end = end_##line, __VA_ARGS__}; \
    static const struct row *const entry_##line __attribute__((section("rows"), used)) = &row_##line;
#define ROW(line, ...) ROW_(line, __VA_ARGS__)

// An instruction, or a few; what the first signal says, or %rax, is the output.
#define INSTRUCTION(title, text) ROW(__LINE__, title, text, .mode = ONCE)
#define ROOT_INSTRUCTION(title, text) ROW(__LINE__, title, text, .as_root = true)
#define STEPPED(title, text) ROW(__LINE__, title, text, .mode = STEPS)
#define FUNCTION(title, text, which) ROW(__LINE__, title, text, .function = which)
// The first signal's frame is altered; the output is what follows when its handler returns.
#define FRAME(title, text, which) ROW(__LINE__, title, text, .alter = which)
// 32-bit code between two far jumps.
#define COMPAT(title, text)                                                                                             \
    INSTRUCTION(title, "push $0x23\npush $1f\nlretq\n.code32\n1: mov $0x2b, %ecx\nmov %ecx, %ds\nmov %ecx, %es\n" text \
                       "\nljmp $0x33, $2f\n.code64\n2:")
#define SET_FLAGS(bits) "pushfq\norl $" #bits ", (%rsp)\npopfq\n"
#define CLEAR_FLAGS(bits) "pushfq\nandl $~" #bits ", (%rsp)\npopfq\n"
