internal import CLinux
internal import Linux

/// The file in the runtime directory that backs a store's shared memory.
struct SharedMemoryFile {
    private static let magic: UInt64 = 0x5952_4D45_4D41_5541  // "AUAMEMRY"
    private static let version: UInt64 = 2
    private static let numberOffset = 96
    private static let bucketCountOffset = 104
    /// Where the header's place of the store begins.
    private static let placeWord = 8
    private static let pathOffset = 1024
    private static let pathBytesMax = 3000

    let path: String
    let layout: StoreLayout
    /// What the header must begin with: of this store, on this host, since its last start.
    private let header: [UInt64]
    /// By what path the store is found again; empty where that says nothing.
    private let storePath: String

    /// - Parameter directory: must exist, and belong to this user only: what lies there is believed.
    ///
    /// A copy of a store has the same identity: it is told by where it lies.
    init(directory: String, identity: StoreIdentity, disk: any Disk, layout: StoreLayout) throws(SystemError) {
        let place = disk.place ?? DiskPlace(device: 0, inode: 0, birth: 0)
        let found = disk.place == nil ? nil : FileDisk.absolute(disk.name)
        storePath = found.flatMap { $0.utf8.count <= Self.pathBytesMax ? $0 : nil } ?? ""
        path = "\(directory)/store-\(identity)-\(String(place.device, radix: 16))-\(String(place.inode, radix: 16))"
        self.layout = layout
        let boot = try Self.bootIdentity()
        header = [
            Self.magic, Self.version, identity.low, identity.high, boot.low, boot.high, UInt64(layout.segmentCount),
            UInt64(layout.slotCount), place.device, place.inode, place.birth,
        ]
    }

    /// Maps the file; nil when there is none, or one of an earlier start of the host.
    func openExisting() throws(SystemError) -> (mapping: Mapping, shape: SharedMemoryShape, number: UInt32, use: SharedDescriptor)? {
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
        let mapping = try Mapping.file(descriptor, count: shape.byteCount, shared: true, what: path)
        return (mapping, shape, memory, use(descriptor))
    }

    /// Tells others that the file is in use, until the result is let go.
    private func use(_ descriptor: consuming OwnedDescriptor) -> SharedDescriptor {
        // Whoever cannot have the lock is at removing a file that is of no use.
        _ = clinux_ofd_lock(descriptor.rawValue, Int16(F_RDLCK), 0, 1, 0)
        return SharedDescriptor(descriptor)
    }

    // MARK: - What is left of other stores

    /// Removes the files of stores that are gone: nobody uses them, and where the store was there is none, or another one.
    ///
    /// What such a file holds is hints: losing them costs nothing but time. Called by whoever makes a file, which is rare.
    static func removeForsaken(in directory: String) {
        for name in (try? FileTree.names(in: directory)) ?? [] where name.hasPrefix("store-") && !name.hasSuffix(".new") {
            removeIfForsaken("\(directory)/\(name)")
        }
    }

    private static func removeIfForsaken(_ path: String) {
        guard let descriptor = try? OwnedDescriptor.open(path, O_RDWR | O_NOFOLLOW),
            clinux_ofd_lock(descriptor.rawValue, Int16(F_WRLCK), 0, 1, 0) >= 0
        else { return }
        var page = [UInt8](repeating: 0, count: 4096)
        let number = descriptor.rawValue
        guard page.withUnsafeMutableBytes({ clinux_pread(number, $0.baseAddress, $0.count, 0) }) == page.count else { return }
        let isForsaken = page.withUnsafeBytes { bytes -> Bool in
            func word(_ index: Int) -> UInt64 { bytes.load(fromByteOffset: 8 * index, as: UInt64.self) }
            let count = Int(clamping: bytes.load(fromByteOffset: pathOffset, as: UInt64.self))
            guard word(0) == magic, word(1) == version, (1...pathBytesMax).contains(count) else { return false }
            let store = String(decoding: bytes[pathOffset + 8..<pathOffset + 8 + count], as: UTF8.self)
            let place = DiskPlace(device: word(placeWord), inode: word(placeWord + 1), birth: word(placeWord + 2))
            return FileDisk.place(of: store) != place
        }
        if isForsaken { _ = unlink(path) }
    }

    /// Makes the file, in place of one that is of no use; the caller keeps others from doing the same.
    ///
    /// Its memory is allocated at once (the marks excepted, which a collection allocates): a page that cannot be had later would end
    /// the process with SIGBUS. The index becomes smaller when there is not enough.
    func create(
        indexBytes: Int
    ) throws(SystemError) -> (mapping: Mapping, shape: SharedMemoryShape, number: UInt32, use: SharedDescriptor) {
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
        mapping.bytes.storeBytes(of: UInt64(storePath.utf8.count), toByteOffset: Self.pathOffset, as: UInt64.self)
        for (index, byte) in storePath.utf8.enumerated() { mapping.bytes[Self.pathOffset + 8 + index] = byte }
        let use = use(descriptor)
        try systemCall("rename", temporary) { clinux_renameat2(temporary, path, 0) }
        return (mapping, shape, number, use)
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
