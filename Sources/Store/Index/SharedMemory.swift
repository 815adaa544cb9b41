internal import CLinux
internal import Linux
internal import Synchronization

/// Memory that all processes which use a store share: hints (index of pages, free space) and the marks of a running collection.
///
/// Nothing in it survives the host, and nothing in it is needed to read the store. While processes are alive that do not share the same
/// memory nobody can collect: a lock with the memory's number tells. A collection leaves a stamp in the store (`CollectionStamp`): memory
/// that was not in use meanwhile, and so has not seen it, forgets its hints when it is used again.
/// `@unchecked Sendable`: every word that is shared is atomic; the rest is written before anyone else sees it.
final class SharedMemory: @unchecked Sendable {
    /// Words at fixed places of the header, each an atomic.
    enum Word: Int {
        /// Not 0 while a collection wants to know what is used.
        case marking = 128
        /// Free blocks in all segments, where `counted` is set.
        case freeBlocks = 136
        /// Whether free blocks have been counted.
        case counted = 152
        /// The stamp of the last collection that this memory knows of.
        case collection = 160
        /// Which things could not be read when `keptWords` was filled; 0 where nothing is kept.
        case unreadable = 168
    }
    /// How long to wait for a collection that others make, and between two looks.
    private static let waitSeconds = 120
    private static let waitMicroseconds: UInt32 = 20_000

    let shape: SharedMemoryShape
    /// The file behind it; nil for memory of this process alone.
    let file: SharedMemoryFile?
    /// Told from any other shared memory of the store, in 1…2^32 - 2.
    let number: UInt32
    /// Whether this call has made it, so that it holds nothing yet.
    let isNew: Bool
    private let mapping: Mapping
    /// Held as long as this is in use, so that a collector sees who uses which memory.
    private let presence: any DiskLockHandle
    /// Held for the same time: nobody removes the file behind it.
    private let use: SharedDescriptor?

    /// Uses a mapping whose header has been written or checked; nil when somebody collects with another one.
    private init?(
        _ mapping: Mapping, shape: SharedMemoryShape, number: UInt32, file: SharedMemoryFile?, use: SharedDescriptor?, isNew: Bool,
        disk: any Disk
    ) throws(StoreError) {
        do throws(DiskError) {
            guard let presence = try disk.lock(.sharedMemory(number), exclusive: false, wait: false) else { return nil }
            self.presence = presence
        } catch { throw .disk(error) }
        self.mapping = mapping
        self.file = file
        self.use = use
        self.shape = shape
        self.number = number
        self.isNew = isNew
    }

    /// Memory of this process alone, for tests and for stores nobody else uses.
    static func alone(_ shape: SharedMemoryShape, disk: any Disk) throws(StoreError) -> SharedMemory {
        try whenNobodyCollects(disk) { () throws(StoreError) in
            let mapping: Mapping
            do throws(SystemError) { mapping = try Mapping.anonymous(count: shape.byteCount, what: "the store's index") } catch {
                throw StoreError(error)
            }
            let number = UInt32.random(in: 1..<UInt32.max)
            return try SharedMemory(mapping, shape: shape, number: number, file: nil, use: nil, isNew: true, disk: disk)
        }
    }

    /// Memory in a directory of the runtime file system, which is made when it is not there.
    ///
    /// - Parameters:
    ///   - directory: must exist, and belong to this user only.
    ///   - identity: the store's own, also of a copy.
    static func inDirectory(
        _ directory: String, identity: StoreIdentity, layout: StoreLayout, indexBytes: Int, disk: any Disk
    ) throws(StoreError) -> SharedMemory {
        try whenNobodyCollects(disk) { () throws(StoreError) in
            let lock = try disk.take(.slots)
            defer { withExtendedLifetime(lock) {} }
            let file: SharedMemoryFile
            let found: (mapping: Mapping, shape: SharedMemoryShape, number: UInt32, use: SharedDescriptor)
            let isNew: Bool
            do throws(SystemError) {
                file = try SharedMemoryFile(directory: directory, identity: identity, disk: disk, layout: layout)
                let existing = try file.openExisting()
                isNew = existing == nil
                if let existing { found = existing } else { found = try file.create(indexBytes: indexBytes) }
            } catch {
                throw StoreError(error)
            }
            if isNew { SharedMemoryFile.removeForsaken(in: directory) }
            return try SharedMemory(
                found.mapping, shape: found.shape, number: found.number, file: file, use: found.use, isNew: isNew, disk: disk)
        }
    }

    /// Tries until nobody collects with other memory.
    private static func whenNobodyCollects(
        _ disk: any Disk, _ body: () throws(StoreError) -> SharedMemory?
    ) throws(StoreError) -> SharedMemory {
        for _ in 0..<waitSeconds * 1_000_000 / Int(waitMicroseconds) {
            if let memory = try body() { return memory }
            usleep(waitMicroseconds)
        }
        throw .busy(
            store: disk.name,
            reason: "for \(waitSeconds) s a collection has run with another runtime directory. Wait for it, or set the same one")
    }

    func word(_ word: Word) -> UnsafeMutablePointer<Atomic<UInt64>> { atomic(at: word.rawValue) }

    /// The session of the writer that last took a slot.
    func session(ofSlot slot: UInt32) -> UnsafeMutablePointer<Atomic<UInt64>> {
        precondition(slot < shape.slotCount)
        return atomic(at: shape.sessionsOffset + 8 * Int(slot))
    }

    /// Free blocks of a segment plus one in the lower half (0: not known), its owner's slot plus one in the upper half.
    func segmentHint(_ segment: UInt32) -> UnsafeMutablePointer<Atomic<UInt32>> {
        precondition(segment < shape.segmentCount)
        return (mapping.base + shape.segmentsOffset + 4 * Int(segment)).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// The words of the index: 16 to a bucket.
    var indexWords: UnsafeMutablePointer<Atomic<UInt64>> { atomic(at: shape.indexOffset) }
    /// The marks: a bit a block.
    var markWords: UnsafeMutablePointer<Atomic<UInt64>> { atomic(at: shape.marksOffset) }
    /// What is kept on behalf of a stream that cannot be read: a bit a block.
    var keptWords: UnsafeMutablePointer<Atomic<UInt64>> { atomic(at: shape.keptOffset) }

    private func atomic(at offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (mapping.base + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
}
