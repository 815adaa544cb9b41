import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// Kernel files that are not what they should be.
///
/// No /dev/kvm is needed.
struct KernelImageTests {
    private static let noteOffset = 64 + 2 * 56
    private static let bytes = 8192

    /// A small kernel that is right in every respect: one segment, Xen's three notes.
    private func goodKernel() -> [UInt8] {
        var file = [UInt8](repeating: 0, count: Self.bytes)
        func put<Value: FixedWidthInteger>(_ value: Value, _ offset: Int) {
            withUnsafeBytes(of: value.littleEndian) { file.replaceSubrange(offset..<offset + $0.count, with: $0) }
        }
        put(UInt32(0x464c_457f), 0)
        put(UInt16(0x0102), 4)
        put(UInt16(62), 18)
        put(UInt64(0x100_0000), 24)
        put(UInt64(64), 32)
        put(UInt16(56), 54)
        put(UInt16(2), 56)
        for (offset, kind, start, count) in [(64, 1, 4096, 4096), (120, 4, Self.noteOffset, 3 * 24)] as [(Int, UInt32, Int, Int)] {
            put(kind, offset)
            put(UInt64(start), offset + 8)
            put(UInt64(0x100_0000), offset + 24)
            put(UInt64(count), offset + 32)
            put(UInt64(count), offset + 40)
        }
        for (index, kind) in ([1, 3, 15] as [UInt32]).enumerated() {
            let note = Self.noteOffset + index * 24
            put(UInt32(4), note)
            put(UInt32(8), note + 4)
            put(kind, note + 8)
            put(UInt32(0x006e_6558), note + 12)
            put(UInt64(0xffff_ffff_8000_0000), note + 16)
        }
        return file
    }

    private func read(_ bytes: [UInt8]) throws -> KernelImage {
        let mapping = try Mapping.anonymous(count: max(pageBytes, (bytes.count + 4095) / 4096 * 4096), what: "a kernel file")
        mapping.bytes.copyBytes(from: bytes)
        return try KernelImage(file: mapping, fileBytes: bytes.count, name: "test kernel")
    }

    @Test func aGoodOneIsRead() throws {
        let kernel = try read(goodKernel())
        #expect(kernel.xenEntry != nil && kernel.virtualBase != nil && kernel.initialP2M != nil)
        #expect(kernel.segments.count == 1)
    }

    @Test func whatIsWrongIsTold() throws {
        let cases: [(String, (inout [UInt8]) -> Void)] = [
            ("not an ELF file", { $0[0] = 0 }),
            ("not a little-endian x86-64", { $0[18] = 3 }),
            ("program headers", { $0[56] = 0 }),
            ("unknown size", { $0[54] = 55 }),
            ("truncated", { $0.removeLast(5000) }),
            ("nothing to load", { $0[64] = 9 }),
        ]
        for (words, change) in cases {
            var bytes = goodKernel()
            change(&bytes)
            let error = #expect(throws: MachineError.self) { _ = try read(bytes) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(words))
        }
    }

    @Test func withoutXenNotesPVModeSaysSo() throws {
        var bytes = goodKernel()
        bytes[120] = 0
        let kernel = try read(bytes)
        let platform = try PVPlatform(memoryBytes: 64 << 20, console: ConsoleLog())
        let memory = GuestMemory(regions: try platform.memoryRegions)
        let error = #expect(throws: MachineError.self) { _ = try DomainBuilder(memory: memory, memoryBytes: 64 << 20, kernel: kernel) }
        #expect("\(error.map { "\($0)" } ?? "")".contains("Xen-PV notes"))
    }

    /// Damaged at random: an error, or a kernel whose segments lie inside of its file.
    @Test func damagedFiles() throws {
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 0...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        var generator = SeededGenerator(seed: seed)
        let memory = GuestMemory(regions: [.init(start: GuestAddress(0), mapping: try .anonymous(count: 32 << 20, what: "memory"))])
        for _ in 0..<3000 {
            var bytes = goodKernel()
            for _ in 0...generator.below(4) {
                let place = generator.below(Self.noteOffset + 80)
                let value: UInt8 = [0, 0xff, 0x7f, 0x80, UInt8(truncatingIfNeeded: generator.next())][generator.below(5)]
                for index in place..<min(bytes.count, place + [1, 4, 8][generator.below(3)]) { bytes[index] = value }
            }
            if generator.below(4) == 0 { bytes.removeLast(generator.below(bytes.count)) }
            guard let kernel = try? read(bytes) else { continue }
            for segment in kernel.segments { #expect(segment.offset + segment.fileBytes <= bytes.count) }
            _ = kernel.start
            _ = kernel.end
            try? kernel.load(into: memory)
        }
    }
}
