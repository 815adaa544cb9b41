internal import CLinux
import Linux

/// Redirects the two functions of a Xen-PV kernel that enter the hypervisor, `xen_hypercall_pv` and `xen_iret`, into the
/// shim: a call costs nanoseconds where their `syscall` costs 1.3 µs.
///
/// The functions are found by their instructions. A five-byte jump replaces the beginning of each: no more, because the
/// kernel itself rewrites the `ret` that follows at boot. It leads to a far jump at the kernel's native entry point,
/// code that a paravirtual kernel never runs.
enum KernelPatch {
    // push %rcx; push %r11; syscall; pop %r11; pop %rcx
    private static let hypercall: [UInt8] = [0x51, 0x41, 0x53, 0x0f, 0x05, 0x41, 0x5b, 0x59]
    // push $0; push %rcx; push %r11; push %rax; mov $23, %eax; syscall
    private static let interruptReturn: [UInt8] = [0x6a, 0x00, 0x51, 0x41, 0x53, 0x50, 0xb8, 0x17, 0, 0, 0, 0x0f, 0x05]
    // this_cpu_cmpxchg16b_emu: pushf; cli; cmp %gs:(%rsi), %rax. Used thousands of times until the kernel has patched in
    // the real instruction; each `cli` would trap for nothing, since events are off that early.
    private static let emulatedExchange: [UInt8] = [0x9c, 0xfa, 0x65, 0x48, 0x3b, 0x06, 0x75]
    // The end of __rdgsbase_inactive: swapgs; rdgsbase %rax; swapgs. Before it: mov $MSR_KERNEL_GS_BASE, %edi; call; jmp.
    private static let inactiveBase: [UInt8] = [0x0f, 0x01, 0xf8, 0xf3, 0x48, 0x0f, 0xae, 0xc8, 0x0f, 0x01, 0xf8]
    private static let inactiveBaseOfXen: [UInt8] = [0xbf, 0x02, 0x01, 0x00, 0xc0, 0xff, 0x15]
    private static let inactiveBaseOfXenBytes = 16
    private static let inactiveBaseOffset = (5 + inactiveBaseOfXenBytes) % 16
    private static let farJumpBytes: UInt64 = 16

    /// Patches a kernel that was loaded into guest memory.
    ///
    /// - Returns: whether it now reads user code's GS base without a trap, so that it can be told of FSGSBASE.
    /// - Throws: `MachineError.kernel` when a function is not found exactly once.
    static func apply(to kernel: KernelImage, in memory: GuestMemory, shim: ShimImage) throws(MachineError) -> Bool {
        let bytes = UnsafeRawBufferPointer(kernel.file.bytes)
        for site in find(emulatedExchange + [0x18], in: bytes, kernel.segments) {
            do throws(GuestMemoryError) { try memory.store(UInt8(0x90), at: GuestAddress(site + 1)) } catch { throw .kernel("\(error)") }
        }
        try limitP2M(kernel, memory)
        for (index, (pattern, target)) in [(hypercall, shim.hypercall), (interruptReturn, shim.interruptReturn)].enumerated() {
            let sites = find(pattern, in: bytes, kernel.segments)
            guard sites.count == 1 else {
                let what = index == 0 ? "hypercall function" : "xen_iret"
                throw .kernel("its \(what) was found \(sites.count) times; this kernel is not supported in pv mode")
            }
            let trampoline = kernel.entry + UInt64(index) * farJumpBytes
            let distance = Int64(trampoline) - Int64(sites[0] + 5)
            let near: [UInt8] = [0xe9] + littleEndian(UInt64(bitPattern: distance)).prefix(4)
            let far: [UInt8] = [0xff, 0x25, 0, 0, 0, 0] + littleEndian(target)  // jmp *0(%rip)
            do throws(GuestMemoryError) {
                try memory.write(GuestAddress(sites[0]), near)
                try memory.write(GuestAddress(trampoline), far)
            } catch {
                throw .kernel("\(error)")
            }
        }
        return try readInactiveBase(kernel, memory, shim)
    }

    /// __rdgsbase_inactive reads a model-specific register in a Xen domain: a trap of 10 µs at every switch of tasks.
    ///
    /// Its other half, for a processor that may `swapgs`, is never used there: it becomes a load of the shim's word, and what
    /// read the register a jump to it.
    private static func readInactiveBase(_ kernel: KernelImage, _ memory: GuestMemory, _ shim: ShimImage) throws(MachineError) -> Bool {
        let file = UnsafeRawBufferPointer(kernel.file.bytes)
        let sites = find(inactiveBase, in: file, kernel.segments, offset: inactiveBaseOffset).filter { place in
            let before = place - UInt64(inactiveBaseOfXenBytes)
            guard let bytes = try? memory.bytes(GuestAddress(before), count: inactiveBaseOfXen.count) else { return false }
            return bytes == inactiveBaseOfXen
        }
        guard sites.count == 1, let site = sites.first else { return false }
        let word = shim.cpu + UInt64(ShimLayout.cpuUserGS)
        do throws(GuestMemoryError) {
            try memory.write(GuestAddress(site), [0x48, 0xa1] + littleEndian(word) + [0xc3])  // mov word, %rax; ret
            try memory.write(GuestAddress(site - UInt64(inactiveBaseOfXenBytes)), [0xeb, UInt8(inactiveBaseOfXenBytes - 2)])  // jmp
        } catch {
            throw .kernel("\(error)")
        }
        return true
    }

    /// xen_vmalloc_p2m_tree prepares for memory hot-plugged up to 512 GiB and walks that many entries at boot, for 0.15
    /// s.
    ///
    /// Aurora plugs nothing in: the limit becomes the least the function accepts, one page of the table.
    private static func limitP2M(_ kernel: KernelImage, _ memory: GuestMemory) throws(MachineError) {
        let pattern: [UInt8] = [0xba, 0, 0, 0, 0x08, 0x48, 0xc7, 0x05]  // mov $0x8000000, %edx; movq
        guard let segment = kernel.segments.last, segment.fileBytes > pattern.count else { return }
        let file = UnsafeRawBufferPointer(kernel.file.bytes)
        let found: Int? = pattern.withUnsafeBytes { pattern in
            guard let start = file.baseAddress, let needle = pattern.baseAddress else { return nil }
            let base = start + segment.offset
            return memmem(base, segment.fileBytes, needle, pattern.count).map { UnsafeRawPointer($0) - base }
        }
        guard let found else { return }
        do throws(GuestMemoryError) {
            try memory.store(UInt32(512), at: GuestAddress(segment.address + UInt64(found) + 1))
        } catch {
            throw .kernel("\(error)")
        }
    }

    private static func littleEndian(_ value: UInt64) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * $0)) } }

    /// Physical addresses of a pattern in the loadable segments.
    ///
    /// Functions are aligned to 16 bytes; `offset` is the pattern's place from such an address.
    private static func find(
        _ pattern: [UInt8], in bytes: UnsafeRawBufferPointer, _ segments: [KernelImage.Segment], offset start: Int = 0
    ) -> [UInt64] {
        var found: [UInt64] = []
        pattern.withUnsafeBytes { pattern in
            let word = pattern.loadUnaligned(as: UInt64.self)
            for segment in segments {
                var offset = start
                while offset + pattern.count <= segment.fileBytes {
                    defer { offset += 16 }
                    let here = segment.offset + offset
                    guard bytes.loadUnaligned(fromByteOffset: here, as: UInt64.self) == word else { continue }
                    if pattern.indices.allSatisfy({ bytes[here + $0] == pattern[$0] }) { found.append(segment.address + UInt64(offset)) }
                }
            }
        }
        return found
    }
}
