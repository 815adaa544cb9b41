/// What a collection leaves in the store, so that shared memory that did not see it knows: a random number, in a sector of its own.
///
/// It lies in the block of the first superblock, which a file has for certain: a collection must not need room.
enum CollectionStamp {
    /// Where it lies.
    static let offset: UInt64 = 512
    /// "COLL".
    private static let magic: UInt32 = 0x4C4C_4F43
    /// Stands for a stamp that cannot be read: differs from any that a collection leaves.
    static let damaged: UInt64 = 1
    /// Of a store in which nobody has collected.
    static let none: UInt64 = 0

    /// A number that no collection has left before.
    static func random() -> UInt64 { .random(in: 2 ... .max) }

    /// The sector of a stamp.
    static func encode(_ stamp: UInt64, identity: StoreIdentity) -> [UInt8] {
        var writer = ByteWriter()
        writer.put(magic)
        writer.put(UInt32(0))
        writer.put(stamp)
        return Sector.seal(writer, seed: Sector.seed(.stamp, identity, at: offset))
    }

    /// The stamp in a sector; `none` in a blank one, `damaged` when it is not what it should be.
    static func decode(_ bytes: UnsafeRawBufferPointer, identity: StoreIdentity) -> UInt64 {
        switch Sector.check(bytes, seed: Sector.seed(.stamp, identity, at: offset)) {
        case .blank: return none
        case .damaged: return damaged
        case .valid: break
        }
        var reader = ByteReader(bytes, what: "stamp", place: offset)
        do throws(StoreError) {
            guard try reader.take(UInt32.self) == magic else { return damaged }
            try reader.skipZeros(4)
            return max(damaged, try reader.take())
        } catch { return damaged }
    }

    /// The stamp that the last collection left.
    static func read(_ disk: any Disk, identity: StoreIdentity) throws(StoreError) -> UInt64 {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.sectorBytes, alignment: 64)
        defer { buffer.deallocate() }
        do throws(DiskError) { try disk.read(at: offset, into: buffer) } catch { throw .disk(error) }
        return decode(UnsafeRawBufferPointer(buffer), identity: identity)
    }
}
