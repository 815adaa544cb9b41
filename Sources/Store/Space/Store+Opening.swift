internal import Synchronization

/// Where processes that use the same store find the memory they share.
public enum StoreMemory: Sendable, Hashable {
    /// In a directory of the runtime file system that belongs to this user only.
    case directory(String)
    /// Nowhere: no other process that is alive can collect, and none shares what this one writes.
    case alone
}

extension Store {
    /// Makes a store on a disk that holds nothing else.
    ///
    /// - Throws: `StoreError.invalid` when the disk is too small or too large, or holds something and `overwrites` is false; `.busy` when
    ///   what would be overwritten is in use.
    public static func create(on disk: any Disk, _ configuration: StoreConfiguration) throws(StoreError) {
        guard let layout = StoreLayout(byteCount: disk.byteCount, slotCount: configuration.slotCount) else {
            throw .invalid(
                what: "size of \(disk.name)",
                reason: "\(disk.byteCount) bytes with \(configuration.slotCount) slots are too few, or more than 1 PiB")
        }
        let users = try keepOthersOut(of: disk)
        defer { withExtendedLifetime(users) {} }
        if !configuration.overwrites { try refuseOther(disk, layout) }
        let flusher = try disk.flusher()
        try erase(disk, 0..<layout.dataOffset)
        try flusher.settle()
        try write(Superblock(identity: configuration.identity, createdAt: configuration.createdAt, layout: layout), to: disk)
    }

    /// Opens a store.
    ///
    /// - Parameter indexBytes: bytes of the index if this call makes the shared memory.
    /// - Throws: `StoreError.damaged` when no store is there, `.unsupported` for one of another version.
    public static func open(
        _ disk: any Disk, memory: StoreMemory, indexBytes: Int = 64 << 20
    ) throws(StoreError) -> Store {
        Store(ground: try openGround(disk, memory: memory, indexBytes: indexBytes))
    }

    static func openGround(_ disk: any Disk, memory: StoreMemory, indexBytes: Int = 64 << 20) throws(StoreError) -> Ground {
        var superblock = try readSuperblock(disk)
        if superblock.readOnlyCompatible & Superblock.stampFeature == 0, !disk.isReadOnly { superblock = try upgrade(disk) }
        let shared: SharedMemory
        switch memory {
        case .alone: shared = try SharedMemory.alone(SharedMemoryShape(superblock.layout, indexBytes: indexBytes), disk: disk)
        case .directory(let path):
            shared = try SharedMemory.inDirectory(
                path, identity: superblock.ownIdentity, layout: superblock.layout, indexBytes: indexBytes, disk: disk)
        }
        if shared.isNew {
            // It has no hints that a collection could have made wrong.
            let stamp = try CollectionStamp.read(disk, identity: superblock.identity)
            shared.word(.collection).pointee.store(stamp, ordering: .releasing)
        }
        return Ground(disk: disk, superblock: superblock, memory: shared)
    }

    /// Says in a store of an earlier version that collections leave stamps, so that programs that leave none write it no more.
    private static func upgrade(_ disk: any Disk) throws(StoreError) -> Superblock {
        let slots = try disk.take(.slots)
        defer { withExtendedLifetime(slots) {} }
        var superblock = try readSuperblock(disk)
        superblock.minor = max(superblock.minor, Superblock.minorVersion)
        superblock.readOnlyCompatible |= Superblock.stampFeature
        try write(superblock, to: disk)
        return superblock
    }

    /// Gives a copy of a store an identity of its own: nothing that is kept about the original is taken for the copy's.
    ///
    /// - Throws: `StoreError.busy` when somebody uses it.
    public static func renewIdentity(of disk: any Disk, as identity: StoreIdentity = .random()) throws(StoreError) -> StoreIdentity {
        let users = try keepOthersOut(of: disk)
        defer { withExtendedLifetime(users) {} }
        var superblock = try readSuperblock(disk)
        superblock.minor = max(superblock.minor, Superblock.minorVersion)
        superblock.copyIdentity = identity
        try write(superblock, to: disk)
        return superblock.ownIdentity
    }

    /// Excludes all who have the store open: each uses one of its shared memories, of which none has the number zero.
    private static func keepOthersOut(of disk: any Disk) throws(StoreError) -> any DiskLockHandle {
        do throws(DiskError) {
            if let users = try disk.lock(.otherSharedMemories(than: 0), exclusive: true, wait: false) { return users }
        } catch { throw .disk(error) }
        throw .busy(store: disk.name, reason: "groups or commands use the store that is there")
    }

    /// Writes both copies of the superblock; the first copy last: a store that is found was made completely.
    private static func write(_ superblock: Superblock, to disk: any Disk) throws(StoreError) {
        let flusher = try disk.flusher()
        for copy in [1, 0] {
            try write(superblock.encode(copy: copy), at: StoreLayout.superblockOffsets[copy], disk)
            try flusher.settle()
        }
    }

    /// The identity that tells this store from all others: its own, also of a copy that was given one.
    public var identity: StoreIdentity { get throws(StoreError) { try wholeGround().superblock.ownIdentity } }

    /// The first copy of the superblock that can be read.
    ///
    /// - Throws: what is wrong with the first copy when neither can.
    static func readSuperblock(_ disk: any Disk) throws(StoreError) -> Superblock {
        var failure: StoreError?
        for copy in 0..<2 {
            do throws(StoreError) {
                let superblock = try superblock(disk, copy: copy)
                guard superblock.layout.endOffset <= disk.byteCount else {
                    throw .damaged(
                        .init(
                            "superblock", offset: StoreLayout.superblockOffsets[copy],
                            reason: "the disk has \(disk.byteCount) bytes, the store \(superblock.layout.endOffset)"))
                }
                return superblock
            } catch {
                // A version this program does not know says more than a damaged copy.
                if case .unsupported = error { failure = error } else { failure = failure ?? error }
            }
        }
        throw failure ?? .invalid(what: "store", reason: "it has no superblock")
    }

    static func superblock(_ disk: any Disk, copy: Int) throws(StoreError) -> Superblock {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.sectorBytes, alignment: 64)
        defer { buffer.deallocate() }
        let place = StoreLayout.superblockOffsets[copy]
        guard disk.byteCount >= place + UInt64(buffer.count) else {
            throw .damaged(.init("superblock", offset: place, reason: "the disk ends at byte \(disk.byteCount)"))
        }
        do throws(DiskError) { try disk.read(at: place, into: buffer) } catch { throw .disk(error) }
        return try Superblock(UnsafeRawBufferPointer(buffer), copy: copy, store: disk.name)
    }

    private static func refuseOther(_ disk: any Disk, _ layout: StoreLayout) throws(StoreError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(StoreLayout.slotTableOffset), alignment: 64)
        defer { buffer.deallocate() }
        do throws(DiskError) { try disk.read(at: 0, into: buffer) } catch { throw .disk(error) }
        guard let first = buffer.firstIndex(where: { $0 != 0 }) else { return }
        throw .invalid(
            what: "disk \(disk.name)", reason: "it is not empty (byte \(first)). To overwrite it: aurora store init --force")
    }

    /// Writes zeros where there is something else: a new sparse file stays sparse.
    private static func erase(_ disk: any Disk, _ range: Range<UInt64>) throws(StoreError) {
        let zeros = [UInt8](repeating: 0, count: 1 << 18)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: zeros.count, alignment: 64)
        defer { buffer.deallocate() }
        var offset = range.lowerBound
        while offset < range.upperBound {
            let count = Int(min(UInt64(zeros.count), range.upperBound - offset))
            let part = UnsafeMutableRawBufferPointer(rebasing: buffer[..<count])
            do throws(DiskError) { try disk.read(at: offset, into: part) } catch { throw .disk(error) }
            if !Sector.isBlank(UnsafeRawBufferPointer(part)) { try write(Array(zeros[..<count]), at: offset, disk) }
            offset += UInt64(count)
        }
    }

    static func write(_ bytes: [UInt8], at offset: UInt64, _ disk: any Disk) throws(StoreError) {
        let failure: DiskError? = bytes.withUnsafeBytes { buffer in
            do throws(DiskError) { try disk.write([buffer], at: offset) } catch { return error }
            return nil
        }
        if let failure { throw .disk(failure) }
    }
}
