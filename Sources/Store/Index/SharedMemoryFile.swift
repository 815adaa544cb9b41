internal import CLinux
internal import Linux

/// The file in the runtime directory that backs a store's shared memory.
struct SharedMemoryFile {
    private static let magic: UInt64 = 0x5952_4D45_4D41_5541  // "AUAMEMRY"
    private static let version: UInt64 = 2
    private static let numberOffset = 96
    private static let bucketCountOffset = 104

    let path: String
    let layout: StoreLayout
    /// What the header must begin with: of this store, on this host, since its last start.
    private let header: [UInt64]

    /// - Parameter directory: must exist, and belong to this user only: what lies there is believed.
    ///
    /// A copy of a store has the same identity: it is told by where it lies.
    init(directory: String, identity: StoreIdentity, place: DiskPlace?, layout: StoreLayout) throws(SystemError) {
        let place = place ?? DiskPlace(device: 0, inode: 0, birth: 0)
        path = "\(directory)/store-\(identity)-\(String(place.device, radix: 16))-\(String(place.inode, radix: 16))"
        self.layout = layout
        let boot = try Self.bootIdentity()
        header = [
            Self.magic, Self.version, identity.low, identity.high, boot.low, boot.high, UInt64(layout.segmentCount),
            UInt64(layout.slotCount), place.device, place.inode, place.birth,
        ]
    }

    /// Maps the file; nil when there is none, or one of an earlier start of the host.
    func openExisting() throws(SystemError) -> (mapping: Mapping, shape: SharedMemoryShape, number: UInt32)? {
        let descriptor: OwnedDescriptor
        do throws(SystemError) { descriptor = try OwnedDescriptor.open(path, O_RDWR | O_NOFOLLOW) } catch {
            if error.errno == .noEntry { return nil }
            throw error
        }
        var status = stat()
        let number = descriptor.rawValue
        try systemCall("examine", path) { clinux_fstat(number, &status) }
        guard status.st_uid == geteuid(), status.st_size >= 4096 else { return nil }
        let first = try Mapping.file(descriptor, count: 4096, shared: true, writable: false, what: path)
        let words = UnsafeRawBufferPointer(first.bytes)
        for (index, word) in header.enumerated() where words.load(fromByteOffset: 8 * index, as: UInt64.self) != word { return nil }
        let memory = words.load(fromByteOffset: Self.numberOffset, as: UInt32.self)
        let buckets = words.load(fromByteOffset: Self.bucketCountOffset, as: UInt64.self)
        guard let shape = SharedMemoryShape(layout, bucketCount: buckets), (1..<UInt32.max).contains(memory),
            status.st_size >= shape.byteCount
        else { return nil }
        return (try Mapping.file(descriptor, count: shape.byteCount, shared: true, what: path), shape, memory)
    }

    /// Makes the file, in place of one that is of no use; the caller keeps others from doing the same.
    ///
    /// Its memory is allocated at once (the marks excepted, which a collection allocates): a page that cannot be had later would end
    /// the process with SIGBUS. The index becomes smaller when there is not enough.
    func create(indexBytes: Int) throws(SystemError) -> (mapping: Mapping, shape: SharedMemoryShape, number: UInt32) {
        let temporary = "\(path).new"
        _ = unlink(temporary)
        let descriptor = try OwnedDescriptor.open(temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW)
        let file = descriptor.rawValue
        var wanted = indexBytes
        var shape = SharedMemoryShape(layout, indexBytes: wanted)
        while true {
            try systemCall("enlarge", temporary) { clinux_ftruncate(file, Int64(shape.byteCount)) }
            let result = FileSpace.allocate(file, at: 0, count: Int64(shape.marksOffset))
            if result == -Int(ENOSPC), wanted > SharedMemoryShape.indexBytesMin {
                wanted /= 2
                shape = SharedMemoryShape(layout, indexBytes: wanted)
                try systemCall("empty", temporary) { clinux_ftruncate(file, 0) }
                continue
            }
            // A file system without fallocate is not one in memory, and hardly a full one.
            if result < 0, result != -Int(EOPNOTSUPP) {
                _ = unlink(temporary)
                throw SystemError("make room for", temporary, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
            }
            break
        }
        let mapping = try Mapping.file(descriptor, count: shape.byteCount, shared: true, what: temporary)
        let number = UInt32.random(in: 1..<UInt32.max)
        for (index, word) in header.enumerated() { mapping.bytes.storeBytes(of: word, toByteOffset: 8 * index, as: UInt64.self) }
        mapping.bytes.storeBytes(of: number, toByteOffset: Self.numberOffset, as: UInt32.self)
        mapping.bytes.storeBytes(of: UInt64(shape.bucketCount), toByteOffset: Self.bucketCountOffset, as: UInt64.self)
        try systemCall("rename", temporary) { clinux_renameat2(temporary, path, 0) }
        return (mapping, shape, number)
    }

    /// Allocates the memory of the marks, or of what is kept.
    ///
    /// - Throws: `SystemError` when there is not enough.
    func allocateMarks(_ shape: SharedMemoryShape, kept: Bool = false) throws(SystemError) {
        let descriptor = try OwnedDescriptor.open(path, O_RDWR | O_NOFOLLOW)
        let file = descriptor.rawValue
        let start = kept ? shape.keptOffset : shape.marksOffset
        let result = FileSpace.allocate(file, at: Int64(start), count: Int64(shape.markBytes))
        if result < 0, result != -Int(EOPNOTSUPP) {
            throw SystemError("make room for", path, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
        }
    }

    private static func bootIdentity() throws(SystemError) -> (low: UInt64, high: UInt64) {
        let path = "/proc/sys/kernel/random/boot_id"
        let descriptor = try OwnedDescriptor.open(path, O_RDONLY)
        let file = descriptor.rawValue
        let text = UnsafeMutableRawBufferPointer.allocate(byteCount: 36, alignment: 8)
        defer { text.deallocate() }
        let count = try systemCall("read", path) { clinux_read(file, text.baseAddress, text.count) }
        let checksum = Checksum(of: UnsafeRawBufferPointer(rebasing: text[..<count]))
        return (checksum.low, checksum.high)
    }
}
