internal import CLinux
internal import Linux
internal import Synchronization

/// Memory that all processes which use a store share: hints (index of pages, free space) and the marks of a running collection.
///
/// Nothing in it survives the host, and nothing in it is needed to read the store. All processes that are alive at once and do not share
/// the same memory merely cannot collect: a lock with the memory's number tells.
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
    }

    let shape: SharedMemoryShape
    /// The file behind it; nil for memory of this process alone.
    let file: SharedMemoryFile?
    /// Told from any other shared memory of the store, in 1…2^32 - 2.
    let number: UInt32
    private let mapping: Mapping
    /// Held as long as this is in use, so that a collector sees who uses which memory.
    private let presence: any DiskLockHandle

    /// Uses a mapping whose header has been written or checked.
    init(_ mapping: Mapping, shape: SharedMemoryShape, number: UInt32, file: SharedMemoryFile?, disk: any Disk) throws(StoreError) {
        self.mapping = mapping
        self.file = file
        self.shape = shape
        self.number = number
        do throws(DiskError) {
            guard let presence = try disk.lock(.sharedMemory(number), exclusive: false, wait: false) else {
                throw DiskError(.lock, disk.name, code: EBUSY)
            }
            self.presence = presence
        } catch  where error.code == EBUSY {
            throw StoreError.busy(
                store: disk.name, reason: "a collection runs in another runtime directory. Wait for it, or set the same one")
        } catch {
            throw StoreError.disk(error)
        }
    }

    /// Memory of this process alone, for tests and for stores nobody else uses.
    static func alone(_ shape: SharedMemoryShape, disk: any Disk) throws(StoreError) -> SharedMemory {
        let mapping: Mapping
        do throws(SystemError) { mapping = try Mapping.anonymous(count: shape.byteCount, what: "the store's index") } catch {
            throw StoreError(error)
        }
        return try SharedMemory(mapping, shape: shape, number: UInt32.random(in: 1..<UInt32.max), file: nil, disk: disk)
    }

    /// Memory in a directory of the runtime file system, which is made when it is not there.
    ///
    /// - Parameter directory: must exist, and belong to this user only.
    static func inDirectory(
        _ directory: String, identity: StoreIdentity, layout: StoreLayout, indexBytes: Int, disk: any Disk
    ) throws(StoreError) -> SharedMemory {
        let lock: (any DiskLockHandle)?
        do throws(DiskError) { lock = try disk.lock(.slots, exclusive: true, wait: true) } catch { throw .disk(error) }
        defer { withExtendedLifetime(lock) {} }
        let file: SharedMemoryFile
        let found: (mapping: Mapping, shape: SharedMemoryShape, number: UInt32)
        do throws(SystemError) {
            file = try SharedMemoryFile(directory: directory, identity: identity, layout: layout)
            if let existing = try file.openExisting() { found = existing } else { found = try file.create(indexBytes: indexBytes) }
        } catch {
            throw StoreError(error)
        }
        return try SharedMemory(found.mapping, shape: found.shape, number: found.number, file: file, disk: disk)
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

    private func atomic(at offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (mapping.base + offset).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
}
