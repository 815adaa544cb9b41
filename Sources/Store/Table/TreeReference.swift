/// A tree as whoever refers to it keeps it: 40 bytes on the disk.
struct TreeReference: Hashable, Sendable {
    /// Bytes on the disk.
    static let byteCount = 40
    /// More than any tree needs: 128^9 entries are 2^63.
    static let heightMax = 9

    /// The root; meaningless when there are no entries.
    var root: DataReference
    /// Entries in all leaves.
    var entryCount: UInt64
    /// How many nodes lie on the way to an entry; 0 for an empty tree.
    var height: Int
    /// A table's level in its chain; `baseLevel` for the oldest.
    var level: Int

    /// The level of a table below which there is nothing.
    static let baseLevel = 63
    /// A tree without entries.
    static let empty = TreeReference(
        root: DataReference(location: .zero, checksum: Checksum(low: 0, high: 0)), entryCount: 0, height: 0, level: 0)

    func encode(to writer: inout ByteWriter) {
        writer.put(root)
        writer.put(entryCount)
        writer.put(UInt8(truncatingIfNeeded: height))
        writer.put(UInt8(truncatingIfNeeded: level))
        writer.pad(to: writer.bytes.count + 6)
    }

    init(root: DataReference, entryCount: UInt64, height: Int, level: Int) {
        self.root = root
        self.entryCount = entryCount
        self.height = height
        self.level = level
    }

    init(from reader: inout ByteReader) throws(StoreError) {
        root = try reader.takeReference()
        entryCount = try reader.take()
        height = Int(try reader.take(UInt8.self))
        level = Int(try reader.take(UInt8.self))
        try reader.skipZeros(6)
        guard height <= Self.heightMax, level <= Self.baseLevel, (height == 0) == (entryCount == 0), entryCount < 1 << 60 else {
            throw reader.damage("a tree of \(entryCount) entries with \(height) steps at level \(level)")
        }
    }
}
