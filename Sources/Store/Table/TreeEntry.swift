/// An entry of a tree: 32 bytes on the disk.
struct TreeEntry: Hashable, Sendable {
    /// In a leaf: what is looked for.
    ///
    /// In a node above: the first key of the node below.
    var key: UInt64
    /// The page, or the node below.
    var location: PageLocation
    /// Of the page's contents (uncompressed), or of the node's bytes.
    var checksum: Checksum

    var reference: DataReference { DataReference(location: location, checksum: checksum) }

    init(key: UInt64, location: PageLocation, checksum: Checksum) {
        self.key = key
        self.location = location
        self.checksum = checksum
    }

    init(key: UInt64, _ reference: DataReference) {
        self.init(key: key, location: reference.location, checksum: reference.checksum)
    }

    /// Reads the entry at an offset that the caller has checked.
    @inline(__always)
    init(unchecked bytes: UnsafeRawBufferPointer, at offset: Int) {
        key = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
        location = PageLocation(rawValue: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 8, as: UInt64.self)))
        checksum = Checksum(
            low: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 16, as: UInt64.self)),
            high: UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 24, as: UInt64.self)))
    }

    /// Writes the entry to an offset that the caller has checked.
    @inline(__always)
    func store(to bytes: UnsafeMutableRawBufferPointer, at offset: Int) {
        bytes.storeBytes(of: key.littleEndian, toByteOffset: offset, as: UInt64.self)
        bytes.storeBytes(of: location.rawValue.littleEndian, toByteOffset: offset + 8, as: UInt64.self)
        bytes.storeBytes(of: checksum.low.littleEndian, toByteOffset: offset + 16, as: UInt64.self)
        bytes.storeBytes(of: checksum.high.littleEndian, toByteOffset: offset + 24, as: UInt64.self)
    }
}
