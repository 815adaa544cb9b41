import Linux

@testable import AuroraVMM

/// An ELF kernel of a few instructions, for tests of the boot.
enum TinyKernel {
    static let start: UInt64 = 0x100_0000

    /// Prints the command line byte by byte on the serial port; finds it by the boot parameters.
    static let printBytes: [UInt8] = [
        0x8b, 0xbe, 0x28, 0x02, 0, 0,  // mov edi, [rsi + 0x228]
        0x8a, 0x07, 0x84, 0xc0, 0x74, 0x0a,  // next: mov al, [rdi]; test al, al; jz done
        0x66, 0xba, 0xf8, 0x03, 0xee,  // mov dx, 0x3f8; out dx, al
        0x48, 0xff, 0xc7, 0xeb, 0xf0,  // inc rdi; jmp next
    ]

    /// Prints the command line by one string instruction.
    static let printString: [UInt8] = [
        0x8b, 0x8e, 0x38, 0x02, 0, 0,  // mov ecx, [rsi + 0x238]
        0x8b, 0xb6, 0x28, 0x02, 0, 0,  // mov esi, [rsi + 0x228]
        0x66, 0xba, 0xf8, 0x03, 0xf3, 0x6e,  // mov dx, 0x3f8; rep outsb
    ]

    /// Goes on only if no device answers at a port, and the serial port is ready.
    static let probePorts: [UInt8] = [
        0x66, 0xba, 0x70, 0x00, 0xed, 0x83, 0xf8, 0xff, 0x75, 0xfe,  // mov dx, 0x70; in eax, dx; cmp eax, -1; jne .
        0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xfe,  // mov dx, 0x3fd; in al, dx; test al, 0x20; jz .
    ]

    static let undefinedInstruction: [UInt8] = [0x0f, 0x0b]

    /// Writes a byte to a port, then halts.
    static func write(_ value: UInt8, to port: UInt16) -> [UInt8] {
        [0x66, 0xba, UInt8(port & 255), UInt8(port >> 8), 0xb0, value, 0xee, 0xf4, 0xeb, 0xfd]
    }

    /// The ELF file of a program.
    ///
    /// - Parameter memoryBytes: what the kernel claims to occupy, at least the program.
    static func file(_ program: [UInt8], at address: UInt64 = start, entry: UInt64? = nil, memoryBytes: UInt64 = 4096) -> [UInt8] {
        var file = [UInt8](repeating: 0, count: 64 + 56)
        file.put(UInt32(0x464c_457f), at: 0)
        file.put(UInt16(0x0102), at: 4)
        file.put(UInt16(62), at: 18)
        file.put(entry ?? address, at: 24)
        file.put(UInt64(64), at: 32)
        file.put(UInt16(56), at: 54)
        file.put(UInt16(1), at: 56)
        file.put(UInt32(1), at: 64)
        file.put(UInt64(64 + 56), at: 72)
        file.put(address, at: 88)
        file.put(UInt64(program.count), at: 96)
        file.put(memoryBytes, at: 104)
        return file + program
    }

    /// The kernel itself, from memory.
    static func image(_ file: [UInt8]) throws -> KernelImage {
        let mapping = try Mapping.anonymous(count: (file.count + 4095) / 4096 * 4096, what: "a test kernel")
        file.withUnsafeBytes { mapping.bytes.copyMemory(from: $0) }
        return try KernelImage(file: mapping, fileBytes: file.count, name: "a test kernel")
    }
}
