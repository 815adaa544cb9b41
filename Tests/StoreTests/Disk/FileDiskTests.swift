import CLinux
import Testing

@testable import Store

/// A directory of a test, removed with everything in it when the test lets go.
final class TemporaryDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/aurora-store-XXXXXX".utf8CString)
        path = try #require(
            template.withUnsafeMutableBufferPointer { buffer in
                buffer.baseAddress.flatMap { mkdtemp($0) }.map { String(cString: $0) }
            })
    }

    deinit {
        guard let directory = opendir(path) else { return }
        while let entry = readdir(directory) {
            let name = withUnsafePointer(to: &entry.pointee.d_name) {
                $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != ".", name != ".." { unlink("\(path)/\(name)") }
        }
        closedir(directory)
        rmdir(path)
    }
}

@Suite struct FileDiskTests {
    @Test(arguments: [true, false]) func writesManyPartsAndReadsThemBack(useRing: Bool) throws {
        let directory = try TemporaryDirectory()
        _ = try FileDisk.create("\(directory.path)/disk", byteCount: 64 << 20)
        let disk = try FileDisk.open("\(directory.path)/disk", useRing: useRing)
        if !useRing { #expect(disk.ringRefusal != nil) }
        #expect(disk.byteCount == 64 << 20)
        // More parts than one call takes, of uneven lengths, some empty.
        let parts = (0..<5000).map { [UInt8](repeating: UInt8($0 % 251), count: $0 % 97) }
        let expected = parts.flatMap { $0 }
        let buffers = parts.map { part in
            let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: part.count, alignment: 1)
            buffer.copyBytes(from: part)
            return buffer
        }
        defer { for buffer in buffers { buffer.deallocate() } }
        try disk.write(buffers.map { UnsafeRawBufferPointer($0) }, at: 12_345)
        try disk.flush()
        var read = [UInt8](repeating: 0, count: expected.count)
        try read.withUnsafeMutableBytes { try disk.read(at: 12_345, into: $0) }
        #expect(read == expected)
        try disk.discard(at: 16_384, count: 4096)
        try read.withUnsafeMutableBytes { try disk.read(at: 16_384, into: UnsafeMutableRawBufferPointer(rebasing: $0[..<4096])) }
        #expect(read[..<4096].allSatisfy { $0 == 0 })
    }

    /// Whether the file system has such a thing or not, readers see what was written last, one way or the other.
    @Test(arguments: [0, 1]) func writesPastTheCache(shift: Int) throws {
        let directory = try TemporaryDirectory()
        let disk = try FileDisk.create("\(directory.path)/disk", byteCount: 16 << 20)
        let size = 4 << 20
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size + 4096, alignment: 4096)
        defer { buffer.deallocate() }
        let bytes = UnsafeMutableRawBufferPointer(rebasing: buffer[shift..<shift + size])
        var read = [UInt8](repeating: 0, count: size)
        for (round, isPast) in [true, false, true, true, false].enumerated() {
            for index in stride(from: 0, to: size, by: 512) { bytes[index] = UInt8(truncatingIfNeeded: index / 512 &+ round) }
            let parts = stride(from: 0, to: size, by: 1 << 16).map { UnsafeRawBufferPointer(rebasing: bytes[$0..<$0 + 1 << 16]) }
            if isPast { try disk.writePastCache(parts, at: 8192) } else { try disk.write(parts, at: 8192) }
            try read.withUnsafeMutableBytes { try disk.read(at: 8192, into: $0) }
            #expect(read.elementsEqual(bytes), "round \(round)")
        }
        try disk.flush()
        let end = UnsafeRawBufferPointer(rebasing: buffer[..<4096])
        #expect(throws: DiskError.self) { try disk.writePastCache([end], at: 16 << 20) }
        #expect(throws: DiskError.self) { try disk.writePastCache([end], at: .max - 4095) }
        let readOnly = try FileDisk.open(disk.name, readOnly: true)
        #expect(throws: DiskError.self) { try readOnly.writePastCache([end], at: 0) }
    }

    @Test func refusesWhatLiesBeyondTheEnd() throws {
        let directory = try TemporaryDirectory()
        let disk = try FileDisk.create("\(directory.path)/disk", byteCount: 1 << 20)
        let bytes = [UInt8](repeating: 1, count: 4096)
        #expect(throws: DiskError.self) { try bytes.withUnsafeBytes { try disk.write([$0], at: 1 << 20) } }
        #expect(throws: DiskError.self) { try bytes.withUnsafeBytes { try disk.write([$0], at: .max - 100) } }
        var target = bytes
        #expect(throws: DiskError.self) { try target.withUnsafeMutableBytes { try disk.read(at: 1 << 20, into: $0) } }
        #expect(throws: DiskError.self) { try FileDisk.create("\(directory.path)/disk", byteCount: 1) }
        #expect(throws: DiskError.self) { try FileDisk.open("/dev/null") }
        let readOnly = try FileDisk.open("\(directory.path)/disk", readOnly: true)
        #expect(throws: DiskError.self) { try bytes.withUnsafeBytes { try readOnly.write([$0], at: 0) } }
    }

    @Test func locksConflictWithinAProcessAndEndWithTheirOwner() throws {
        let directory = try TemporaryDirectory()
        let disk = try FileDisk.create("\(directory.path)/disk", byteCount: 1 << 20)
        let other = try FileDisk.open("\(directory.path)/disk")
        var shared = try disk.lock(.gate, exclusive: false, wait: false)
        #expect(shared != nil)
        #expect(try other.lock(.gate, exclusive: false, wait: false) != nil)
        #expect(try disk.lock(.gate, exclusive: true, wait: false) == nil)
        #expect(try disk.isLocked(.gate) == false)
        shared = nil
        let exclusive = try disk.lock(.gate, exclusive: true, wait: false)
        #expect(exclusive != nil)
        #expect(try other.isLocked(.gate))
        #expect(try disk.isLocked(.gate))
        #expect(try disk.lock(.gate, exclusive: false, wait: false) == nil)
        #expect(try disk.lock(.stream(slot: 7), exclusive: true, wait: false) != nil)
        withExtendedLifetime(exclusive) {}
    }

    /// What can only be read is listed, verified and scrubbed; what would change it is refused with the reason.
    @Test func aReadOnlyStoreCanBeRead() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/disk"
        let disk = try FileDisk.create(path, byteCount: 40 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 4, identity: StoreIdentity(low: 1, high: 2)))
        do {
            let writer = try Store.open(disk, memory: .alone).createStream(name: "one", time: 1)
            try writer.begin(1)
            try PageContents.add([(PageKey(rawValue: 3), 7)], to: writer)
            try writer.close(bytes: [1], time: 1)
            try writer.finish()
        }
        let readOnly = try FileDisk.open(path, readOnly: true)
        let store = try Store.open(readOnly, memory: .alone)
        #expect(try store.history("one").map(\.number) == [1])
        #expect(try PageContents.read(PageKey(rawValue: 3), from: store.checkpoint(stream: "one")) == PageContents.bytes(7))
        #expect(try store.verify().findingCount == 0 && store.scrub().findingCount == 0)
        // While it is looked at, nobody changes it; and the other way round.
        let reading = try readOnly.lock(.collection, exclusive: true, wait: false)
        #expect(try disk.lock(.collection, exclusive: true, wait: false) == nil)
        withExtendedLifetime(reading) {}
        let error = #expect(throws: StoreError.self) { try store.createStream(name: "two", time: 1) }
        #expect("\(error.map { "\($0)" } ?? "")".contains("Read-only file system"), "\(String(describing: error))")
        #expect(throws: StoreError.self) { try store.removeStream("one") }
        #expect(try store.history("one").count == 1)
    }

    @Test func usersOfOtherSharedMemoryAreSeen() throws {
        let directory = try TemporaryDirectory()
        let disk = try FileDisk.create("\(directory.path)/disk", byteCount: 1 << 20)
        let mine = try disk.lock(.sharedMemory(10), exclusive: false, wait: false)
        #expect(try disk.lock(.otherSharedMemories(than: 10), exclusive: true, wait: false) != nil)
        #expect(try disk.lock(.otherSharedMemories(than: 11), exclusive: true, wait: false) == nil)
        #expect(try disk.lock(.otherSharedMemories(than: 9), exclusive: true, wait: false) == nil)
        withExtendedLifetime(mine) {}
    }
}
