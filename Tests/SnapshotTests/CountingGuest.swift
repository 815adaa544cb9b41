import Foundation
import Linux
import Testing

@testable import AuroraVMM
@testable import Snapshot

/// A guest of some twenty instructions in hvm mode, all of whose memory is known from how far it has come.
///
/// It draws numbers (xorshift, by a seed in its code), writes each to the place in its data that the number itself names, counts, and
/// reads a port, so that it leaves the guest once in each round. No Linux, no compiler, and no hardware virtualization are needed.
final class CountingGuest {
    static let data = 0x200_0000
    static let counter = 0x180_0000
    static let dataPages = 1024
    let configuration: MachineConfiguration
    private let scratch = try? ScratchDirectory()

    /// Writes the guest's kernel.
    init(seed: UInt64) throws {
        let scratch = try #require(scratch)
        try Data(TinyKernel.file(CountingGuest.program(seed: seed))).write(to: URL(filePath: scratch.file("kernel")))
        var configuration = MachineConfiguration(memoryBytes: 64 << 20, kernelPath: scratch.file("kernel"))
        configuration.mode = .hvm
        self.configuration = configuration
    }

    private static func program(seed: UInt64) -> [UInt8] {
        var code: [UInt8] = [0x48, 0xb8]  // mov rax, seed
        withUnsafeBytes(of: seed.littleEndian) { code += Array($0) }
        return code + rounds
    }

    private static let rounds: [UInt8] = [
        0xbf, 0, 0, 0, 0x02, 0xbe, 0, 0, 0x80, 0x01, 0x31, 0xc9,  // mov edi, data; mov esi, counter; xor ecx, ecx
        0x48, 0x89, 0xc3, 0x48, 0xc1, 0xe3, 0x0d, 0x48, 0x31, 0xd8,  // next: rbx = rax << 13; rax ^= rbx
        0x48, 0x89, 0xc3, 0x48, 0xc1, 0xeb, 0x07, 0x48, 0x31, 0xd8,  // rbx = rax >> 7; rax ^= rbx
        0x48, 0x89, 0xc3, 0x48, 0xc1, 0xe3, 0x11, 0x48, 0x31, 0xd8,  // rbx = rax << 17; rax ^= rbx
        0x48, 0x89, 0xc3, 0x48, 0xc1, 0xeb, 0x14, 0x81, 0xe3, 0xf8, 0xff, 0x3f, 0,  // ebx = rax >> 20 & 0x3ffff8
        0x48, 0x89, 0x04, 0x1f, 0x48, 0xff, 0xc1, 0x48, 0x89, 0x0e,  // mov [rdi + rbx], rax; inc rcx; mov [rsi], rcx
        0x48, 0x89, 0xc3, 0xba, 0xfd, 0x03, 0, 0, 0xec, 0x48, 0x89, 0xd8,  // rbx = rax; in al, 0x3fd; rax = rbx
        0xeb, 0xbd,  // jmp next
    ]

    /// What the data must be after so many rounds.
    struct Model {
        private(set) var words = [UInt64](repeating: 0, count: dataPages * pageBytes / 8)
        private(set) var count: UInt64 = 0
        private var state: UInt64

        init(seed: UInt64) { state = seed }

        mutating func advance(to count: UInt64) {
            while self.count < count {
                state ^= state << 13
                state ^= state >> 7
                state ^= state << 17
                words[Int(state >> 20 & 0x3f_fff8) / 8] = state
                self.count += 1
            }
        }
    }

    /// What a checkpoint holds of the guest.
    struct Held {
        let count: UInt64
        let words: [UInt64]

        /// Nil when the backend does not keep the epoch any more: a busy machine may be late to look.
        init?(_ backend: MemoryBackend, _ number: EpochNumber) {
            var count: UInt64 = 0
            var words = [UInt64](repeating: 0, count: dataPages * pageBytes / 8)
            let isKept = backend.withPages(at: number) { key, bytes in
                guard key.map == PageKey.memory else { return }
                if key.page == counter / pageBytes { count = bytes.load(as: UInt64.self) }
                let index = key.page - data / pageBytes
                guard (0..<dataPages).contains(index) else { return }
                words.replaceSubrange(index * pageBytes / 8..<(index + 1) * pageBytes / 8, with: bytes.bindMemory(to: UInt64.self))
            }
            guard isKept else { return nil }
            self.count = count
            self.words = words
        }

        /// Whether the data is what the guest's counter says; between its two stores the data is a round ahead.
        func agrees(_ model: inout Model) -> Bool {
            model.advance(to: count)
            if words == model.words { return true }
            model.advance(to: count + 1)
            return words == model.words
        }
    }
}

/// The pages of an epoch in a backend.
struct BackendPages: PageSource {
    private let pages: [Int: [UInt8]]

    init(_ backend: MemoryBackend, _ number: EpochNumber) throws {
        var pages: [Int: [UInt8]] = [:]
        try #require(
            backend.withPages(at: number) { key, bytes in if key.map == PageKey.memory { pages[key.page] = Array(bytes) } })
        self.pages = pages
    }

    /// Pages that are not zero.
    var count: Int { pages.count }
    func has(_ page: Int) -> Bool { pages[page] != nil }

    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        for index in 0..<count {
            guard let bytes = pages[page + index] else { throw PageSourceError(page: page + index, reason: "there is no such page") }
            UnsafeMutableRawBufferPointer(rebasing: buffer[(index * pageBytes)...]).copyBytes(from: bytes)
        }
    }
}
