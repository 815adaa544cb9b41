import Synchronization

/// Reads nodes and other small stored things, verified; keeps the nodes that were used last.
final class NodeSource: Sendable {
    let disk: any Disk
    private let nodesMax: Int
    private let cache = Mutex(Cache())

    /// Two generations: what is not used while one fills is forgotten.
    ///
    /// No list to keep in order.
    fileprivate struct Cache {
        var young: [DataReference: TreeNode] = [:]
        var old: [DataReference: TreeNode] = [:]
    }

    /// - Parameter nodesMax: nodes (4 KiB each) to keep; half of them are dropped at once.
    init(disk: any Disk, nodesMax: Int = 4096) {
        self.disk = disk
        self.nodesMax = nodesMax
    }

    /// Reads and checks the bytes of a reference, then passes them on.
    func withBytes<Result>(
        of reference: DataReference, what: String, _ body: (UnsafeRawBufferPointer) throws(StoreError) -> Result
    ) throws(StoreError) -> Result {
        let place = reference.location.offset
        let length = reference.location.length
        guard length > 0, length <= StoreFormat.blockBytes else {
            throw .damaged(.init(what, offset: place, reason: "a reference to \(length) bytes"))
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 64)
        defer { buffer.deallocate() }
        try disk.load(at: place, into: buffer, what: what)
        let bytes = UnsafeRawBufferPointer(buffer)
        guard Checksum(of: bytes) == reference.checksum else {
            throw .damaged(.init(what, offset: place, reason: "its checksum is wrong"))
        }
        return try body(bytes)
    }

    /// A node, from the cache or read and checked.
    func node(_ reference: DataReference, lower: UInt64?, upper: UInt64?) throws(StoreError) -> TreeNode {
        // By place and checksum: what was freed and overwritten is never taken for what is there now.
        if let node = cache.withLock({ $0.find(reference) }) { return node }
        let node = try withBytes(of: reference, what: "table") { bytes throws(StoreError) in
            try TreeNode(bytes, place: reference.location.offset, lower: lower, upper: upper)
        }
        cache.withLock { $0.insert(reference, node, half: nodesMax / 2) }
        return node
    }
}

extension NodeSource.Cache {
    fileprivate mutating func find(_ name: DataReference) -> TreeNode? {
        if let node = young[name] { return node }
        guard let node = old.removeValue(forKey: name) else { return nil }
        young[name] = node
        return node
    }

    fileprivate mutating func insert(_ name: DataReference, _ node: TreeNode, half: Int) {
        if young.count >= half {
            old = young
            young = [:]
        }
        young[name] = node
    }
}

extension Disk {
    /// Reads a range that a reference names: outside the disk is damage, not an I/O error.
    func load(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer, what: String) throws(StoreError) {
        guard offset <= byteCount, byteCount - offset >= UInt64(buffer.count) else {
            throw .damaged(.init(what, offset: offset, reason: "it lies outside the store"))
        }
        do throws(DiskError) { try read(at: offset, into: buffer) } catch { throw .disk(error) }
    }

    /// Something to flush by, with the store's error; once it has failed it goes on failing.
    func flusher() throws(StoreError) -> any DiskFlusher {
        do throws(DiskError) { return LastingFlusher(try openFlusher(), disk: name) } catch { throw .disk(error) }
    }
}

extension DiskFlusher {
    /// Flushes, with the store's error.
    func settle() throws(StoreError) {
        do throws(DiskError) { try flush() } catch { throw .disk(error) }
    }
}
