import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM
@testable import Snapshot

/// Blocks of a base: some zero, some said to be damaged.
final class ArraySource: PageSource, @unchecked Sendable {
    // Safety: set up before use, used by one thread in these tests.
    let bytes: [UInt8]
    var damaged: Set<Int> = []
    init(_ bytes: [UInt8]) { self.bytes = bytes }
    var blocks: Int { bytes.count / pageBytes }
    func has(_ page: Int) -> Bool {
        precondition(page < blocks, "asked for a block that it does not have")
        return bytes[page * pageBytes..<(page + 1) * pageBytes].contains { $0 != 0 }
    }
    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        if damaged.contains(page) { throw PageSourceError(page: page, reason: "checksum does not match") }
        buffer.copyBytes(from: bytes[page * pageBytes..<(page + count) * pageBytes])
    }
}

/// A base whose blocks cannot be read yet.
private final class HeldSource: PageSource {
    let isAsked = Atomic(false)
    let isHeld = Atomic(true)
    private let blocks: Int

    init(blocks: Int) { self.blocks = blocks }

    func has(_ page: Int) -> Bool { page < blocks }

    func read(page: Int, count: Int, into buffer: UnsafeMutableRawBufferPointer) throws(PageSourceError) {
        isAsked.store(true, ordering: .releasing)
        while isHeld.load(ordering: .acquiring) { usleep(500) }
        buffer.initializeMemory(as: UInt8.self, repeating: 1)
    }
}

/// A scratch storage whose N-th operation fails: once, or from then on.
final class FaultyScratch: ScratchStorage, @unchecked Sendable {
    // Safety: used by one thread in these tests.
    let inner: ScratchFile
    var operations = 0
    var failsAt = Int.max
    var isSticky = false
    var errno = Errno.noSpace
    init() throws { inner = try ScratchFile(in: nil) }
    private func step() throws(SystemError) {
        operations += 1
        if operations == failsAt || (isSticky && operations > failsAt) { throw SystemError("write", "scratch", errno: errno) }
    }
    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try step()
        try inner.read(buffers, at: offset)
    }
    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        do throws(SystemError) { try step() } catch {
            // Half of it arrives.
            var half = IOVectors()
            half.assign(buffers, from: 0, limit: buffers.byteCount / 2)
            if half.byteCount > 0 { try inner.write(half, at: offset) }
            throw error
        }
        try inner.write(buffers, at: offset)
    }
    func zero(at offset: Int64, count: Int64) throws(SystemError) {
        try step()
        try inner.zero(at: offset, count: count)
    }
    func reset() throws(SystemError) {
        try step()
        try inner.reset()
    }
}

extension CheckpointedVolume {
    func bytes(at offset: Int, count: Int) throws -> [UInt8] {
        var result = [UInt8](repeating: 0xee, count: count)
        try result.withUnsafeMutableBytes { try read(Self.vectors($0), at: Int64(offset)) }
        return result
    }

    func put(_ bytes: [UInt8], at offset: Int) throws {
        var bytes = bytes
        try bytes.withUnsafeMutableBytes { try write(Self.vectors($0), at: Int64(offset)) }
    }

    /// The buffer in pieces, as guests give them.
    private static func vectors(_ buffer: UnsafeMutableRawBufferPointer) -> IOVectors {
        var vectors = IOVectors()
        guard let base = buffer.baseAddress else { return vectors }
        let first = min(512, buffer.count)
        vectors.append(base: base, count: first)
        if buffer.count > first { vectors.append(base: base + first, count: buffer.count - first) }
        return vectors
    }

    /// Applies the oldest frozen generation to a checkpoint's contents.
    func collect(into image: inout [UInt8]) throws -> Bool {
        guard frozenCount > 0 else { return false }
        var copy = image
        let rest = try collect { block, fill in
            try copy.withUnsafeMutableBytes { try fill(.init(rebasing: $0[block * pageBytes..<(block + 1) * pageBytes])) }
        }
        image = copy
        return rest == nil
    }
}

/// Volumes against a model: an array, and a copy of it at each freeze.
struct VolumeTests {
    private static let blocks = 24
    private static let baseBlocks = 17

    private static func base(_ generator: inout some RandomNumberGenerator) -> ArraySource {
        var bytes = [UInt8](repeating: 0, count: baseBlocks * pageBytes)
        for block in 0..<baseBlocks where block % 4 != 0 {
            for index in 0..<pageBytes { bytes[block * pageBytes + index] = UInt8.random(in: 0...255, using: &generator) }
        }
        return ArraySource(bytes)
    }

    private static func volume(_ base: ArraySource, _ scratch: any ScratchStorage) throws -> CheckpointedVolume {
        try CheckpointedVolume(byteCount: Int64(blocks * pageBytes), base: base, baseBlocks: base.blocks, scratch: scratch)
    }

    private static func padded(_ bytes: [UInt8]) -> [UInt8] { bytes + [UInt8](repeating: 0, count: blocks * pageBytes - bytes.count) }

    /// A base that takes its time keeps whoever hands it over, and neither a stop nor the guest's writes.
    @Test func aStopDoesNotWaitForTheBase() throws {
        let source = HeldSource(blocks: Self.baseBlocks)
        let volume = try CheckpointedVolume(
            byteCount: Int64(Self.blocks * pageBytes), base: source, baseBlocks: Self.baseBlocks, scratch: try ScratchFile(in: nil))
        let streaming = try Thread(name: "stream") {
            _ = try? volume.stream(from: 0, lookingAt: 3, atMost: 1, withBase: true) { _, fill in
                let block = UnsafeMutableRawBufferPointer.allocate(byteCount: pageBytes, alignment: pageBytes)
                defer { block.deallocate() }
                try fill(block)
            }
        }
        while !source.isAsked.load(ordering: .acquiring) { usleep(500) }
        try volume.put([UInt8](repeating: 7, count: pageBytes), at: 0)
        volume.freeze()
        #expect(volume.dirtyBlocks == 0)
        source.isHeld.store(false, ordering: .releasing)
        streaming.join()
    }

    /// Random writes, discards, freezes and collections, interleaved, also in the middle of a collection.
    @Test(arguments: 0..<40)
    func aModelAgrees(round: Int) throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        var generator = TestGenerator(state: seed)
        let source = Self.base(&generator)
        let volume = try Self.volume(source, try ScratchFile(in: round % 2 == 0 ? nil : NSTemporaryDirectory()))
        var model = Self.padded(source.bytes)
        var image = model
        var frozen: [[UInt8]] = []
        for _ in 0..<300 {
            switch Int.random(in: 0..<20, using: &generator) {
            case 0..<9: try Self.change(volume, &model, &generator)
            case 9..<14:
                let (offset, count) = Self.range(&generator)
                #expect(try volume.bytes(at: offset, count: count) == Array(model[offset..<offset + count]))
            case 14..<17 where frozen.count < 4:
                volume.freeze()
                frozen.append(model)
            case 17, 18:
                guard !frozen.isEmpty else { continue }
                // The guest writes while the frozen blocks are read out, some at a time.
                #expect(volume.frozenCount == frozen.count)
                var position: Int? = 0
                while let from = position {
                    var (most, count) = (Int.random(in: 1...8, using: &generator), 0)
                    if Bool.random(using: &generator) { most = .max }
                    position = try volume.collect(from: from, atMost: most) { block, fill in
                        count += 1
                        if Bool.random(using: &generator) { try Self.change(volume, &model, &generator) }
                        try image.withUnsafeMutableBytes { try fill(.init(rebasing: $0[block * pageBytes..<(block + 1) * pageBytes])) }
                    }
                    #expect(count <= most)
                }
                #expect(image == frozen.removeFirst())
            case 19 where Int.random(in: 0..<5, using: &generator) == 0:
                try volume.reset(to: source, baseBlocks: source.blocks)
                model = Self.padded(source.bytes)
                image = model
                frozen = []
                #expect(volume.dirtyBlocks == 0)
            default: break
            }
        }
        while try volume.collect(into: &image) { #expect(image == frozen.removeFirst()) }
        #expect(frozen.isEmpty)
        #expect(try Self.streamed(volume) == model)
    }

    private static func range(_ generator: inout some RandomNumberGenerator) -> (Int, Int) {
        let sectors = blocks * pageBytes / 512
        let first = Int.random(in: 0..<sectors, using: &generator)
        let count = Int.random(in: 1...min(40, sectors - first), using: &generator)
        return Bool.random(using: &generator) ? (first * 512, count * 512) : (first / 8 * pageBytes, pageBytes)
    }

    private static func change(_ volume: CheckpointedVolume, _ model: inout [UInt8], _ generator: inout some RandomNumberGenerator) throws {
        let (offset, count) = range(&generator)
        if Int.random(in: 0..<4, using: &generator) == 0 {
            try volume.discard(at: Int64(offset), count: Int64(count))
            model.replaceSubrange(offset..<offset + count, with: repeatElement(0, count: count))
        } else {
            let bytes = [UInt8](repeating: UInt8.random(in: 1...255, using: &generator), count: count)
            try volume.put(bytes, at: offset)
            model.replaceSubrange(offset..<offset + count, with: bytes)
        }
    }

    private static func streamed(_ volume: CheckpointedVolume) throws -> [UInt8] {
        var image = [UInt8](repeating: 0, count: blocks * pageBytes)
        var position: Int? = 0
        while let start = position {
            position = try volume.stream(from: start, lookingAt: 7, atMost: 5, withBase: true) { block, fill in
                try image.withUnsafeMutableBytes { try fill(.init(rebasing: $0[block * pageBytes..<(block + 1) * pageBytes])) }
            }
        }
        return image
    }

    /// Every scratch operation of a fixed workload fails, once and for good: the error reaches the guest, a block reads as old
    /// or new (or torn where the write itself failed), and what was frozen is what it was.
    @Test(arguments: [false, true], [Errno.noSpace, Errno.inputOutput])
    func faults(isSticky: Bool, errno: Errno) throws {
        var generator = TestGenerator(state: 7)
        let source = Self.base(&generator)
        var failures = 0
        for number in 1... {
            let scratch = try FaultyScratch()
            let volume = try Self.volume(source, scratch)
            for block in stride(from: 0, to: Self.blocks, by: 2) {
                try volume.put([UInt8](repeating: UInt8(block + 1), count: pageBytes), at: block * pageBytes)
            }
            let expected = try volume.bytes(at: 0, count: Self.blocks * pageBytes)
            volume.freeze()
            scratch.operations = 0
            scratch.failsAt = number
            scratch.isSticky = isSticky
            scratch.errno = errno
            let failed = Self.overwriteEverything(volume)
            if failed.isEmpty { break }
            failures += 1
            #expect(isSticky || failed.count == 1)
            scratch.failsAt = .max
            // The checkpoint is as frozen, whatever became of later writes.
            var image = Self.padded(source.bytes)
            #expect(try volume.collect(into: &image))
            #expect(image == expected, "operation \(number)")
            // What the guest reads now is what the next checkpoint holds.
            volume.freeze()
            #expect(try volume.collect(into: &image))
            #expect(try volume.bytes(at: 0, count: image.count) == image, "operation \(number)")
        }
        #expect(failures > 20)
    }

    /// Whole blocks, parts of blocks, and discards; answers which failed.
    private static func overwriteEverything(_ volume: CheckpointedVolume) -> [Int] {
        (0..<blocks).filter { block in
            do {
                switch block % 3 {
                case 0: try volume.put([UInt8](repeating: 0x77, count: pageBytes), at: block * pageBytes)
                case 1: try volume.put([UInt8](repeating: 0x78, count: 1024), at: block * pageBytes + 512)
                default: try volume.discard(at: Int64(block * pageBytes), count: 2048)
                }
                return false
            } catch { return true }
        }
    }

    @Test func damagedBlocksAreErrors() throws {
        var generator = TestGenerator(state: 9)
        let source = Self.base(&generator)
        source.damaged = [5]
        let volume = try Self.volume(source, try ScratchFile(in: nil))
        let error = #expect(throws: SystemError.self) { try volume.bytes(at: 5 * pageBytes, count: 512) }
        #expect(error?.description.contains("block 5") == true && error?.description.contains("checksum") == true)
        #expect(throws: SystemError.self) { try volume.put([1, 2] + [UInt8](repeating: 0, count: 510), at: 5 * pageBytes) }
        #expect(volume.dirtyBlocks == 0)
        // A block that is written whole needs no base.
        try volume.put([UInt8](repeating: 3, count: pageBytes), at: 5 * pageBytes)
        #expect(try volume.bytes(at: 5 * pageBytes, count: 512) == [UInt8](repeating: 3, count: 512))
    }

    @Test func sizesThatCannotBeAreRefused() throws {
        let source = ArraySource([])
        for bytes in [0, -4096, 512, 4097, CheckpointedVolume.bytesMax + 4096] as [Int64] {
            #expect(throws: SystemError.self) {
                try CheckpointedVolume(byteCount: bytes, base: source, baseBlocks: 0, scratch: try ScratchFile(in: nil))
            }
        }
    }
}

/// A small generator of known numbers (splitmix64).
struct TestGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}

extension VolumeTests {
    /// A kernel that reads and writes less than it was asked for, or is interrupted: all bytes arrive, or there is an error.
    @Test(arguments: 0..<10)
    func shortTransfersAreContinued(round: Int) throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        let generator = Mutex(TestGenerator(state: seed))
        let shortened = Mutex(0)
        // Answers in the first piece of the buffers, at most: sometimes one byte.
        let cut: @Sendable (UnsafePointer<iovec>) -> (count: Int, isInterrupted: Bool) = { vectors in
            generator.withLock { generator in
                shortened.withLock { $0 += 1 }
                return (Int.random(in: 1...max(1, vectors[0].iov_len), using: &generator), Int.random(in: 0..<4, using: &generator) == 0)
            }
        }
        let scratch = try ScratchFile(in: nil)
        scratch.calls = FileTransfer.Calls(
            read: { file, vectors, _, offset in
                let part = cut(vectors)
                return part.isInterrupted ? -Int(EINTR) : clinux_pread(file, vectors[0].iov_base, part.count, offset)
            },
            write: { file, vectors, _, offset in
                let part = cut(vectors)
                return part.isInterrupted ? -Int(EINTR) : clinux_pwrite(file, vectors[0].iov_base, part.count, offset)
            })
        let volume = try Self.volume(ArraySource([]), scratch)
        var model = [UInt8](repeating: 0, count: Self.blocks * pageBytes)
        for _ in 0..<20 {
            let count = 512 * generator.withLock { Int.random(in: 1...40, using: &$0) }
            let offset = 512 * generator.withLock { Int.random(in: 0...(model.count - count) / 512, using: &$0) }
            let bytes = generator.withLock { generator in (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) } }
            try volume.put(bytes, at: offset)
            model.replaceSubrange(offset..<offset + count, with: bytes)
            #expect(try volume.bytes(at: 0, count: model.count) == model)
        }
        #expect(shortened.withLock { $0 } > 100)
        // A device that takes nothing is an error, not an endless loop.
        scratch.calls.write = { _, _, _, _ in 0 }
        #expect(throws: SystemError.self) { try volume.put([UInt8](repeating: 1, count: 512), at: 0) }
    }
}
