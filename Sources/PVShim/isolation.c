// Strict isolation: what the tables of programs show of the shim. The kernel makes two top tables for each process, as Xen
// wants them, and keeps the user half of both the same; the second one maps nothing else.

#include "shim.h"

#define TABLE 0x67ull // present, writable, user, accessed, dirty
#define SHIM_SLOT 262

void load_user_table(u64 address) {
    if (!cpu.strict) return;
    cpu.user_cr3 = address < params.ram_bytes ? address : 0; // zero: kernel threads, which never leave for user code
    if (!cpu.user_cr3) return;
    u64 *entry = (u64 *)physical(address) + SHIM_SLOT;
    if (*entry != (params.l3_user | TABLE)) *entry = params.l3_user | TABLE;
}
