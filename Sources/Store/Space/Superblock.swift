/// The first thing on a store's disk: what it is, how large, which version.
///
/// Written twice, and never changed by normal work.
/// Invariants: both copies say the same; numbers are those of a possible layout; a newer major version or an unknown incompatible
/// feature is refused before anything else is believed.
struct Superblock: Hashable, Sendable {
    /// "AURORAST".
    static let magic: UInt64 = 0x5453_4152_4F52_5541
    /// The format this program writes and the newest it reads.
    static let majorVersion: UInt16 = 1
    /// Older programs read it as well: 1 brought the stamp of the last collection and the identity of a copy.
    static let minorVersion: UInt16 = 1
    /// Features without which the store cannot be read; none yet.
    static let knownIncompatible: UInt32 = 0
    /// Whoever collects leaves a stamp: without it, others would share what was freed.
    static let stampFeature: UInt32 = 1
    /// Features without which it cannot be written.
    static let knownReadOnlyCompatible = stampFeature

    var minor: UInt16 = Self.minorVersion
    var incompatible: UInt32 = 0
    var readOnlyCompatible = Self.stampFeature
    /// Keys all checksums, so that it can never change.
    var identity: StoreIdentity
    /// Tells a copy that was given an identity of its own from what it was copied from; zeros in a store that was made so.
    var copyIdentity = StoreIdentity(low: 0, high: 0)
    /// Nanoseconds since 1970 UTC.
    var createdAt: Int64
    var layout: StoreLayout

    /// The sector of a copy (0 or 1).
    func encode(copy: Int) -> [UInt8] {
        var writer = ByteWriter()
        writer.put(Self.magic)
        writer.put(Self.majorVersion)
        writer.put(minor)
        writer.put(incompatible)
        writer.put(readOnlyCompatible)
        writer.put(UInt32(copy))
        writer.put(identity.low)
        writer.put(identity.high)
        writer.put(createdAt)
        writer.put(UInt32(StoreFormat.blockBytes))
        writer.put(UInt32(StoreFormat.segmentBlocks))
        writer.put(layout.slotCount)
        writer.put(layout.segmentCount)
        writer.put(copyIdentity.low)
        writer.put(copyIdentity.high)
        return Sector.seal(writer, seed: Self.seed(copy: copy))
    }

    /// Reads a copy (0 or 1).
    ///
    /// - Throws: `StoreError.unsupported` for what this program does not know, `.damaged` for anything else that is wrong.
    init(_ bytes: UnsafeRawBufferPointer, copy: Int, store: String) throws(StoreError) {
        let place = StoreLayout.superblockOffsets[copy]
        var reader = ByteReader(bytes, what: "superblock", place: place)
        guard try reader.take(UInt64.self) == Self.magic else { throw reader.damage("no store begins here; aurora store init makes one") }
        guard Sector.check(bytes, seed: Self.seed(copy: copy)) == .valid else { throw reader.damage("its checksum is wrong") }
        let major: UInt16 = try reader.take()
        guard major == Self.majorVersion else {
            throw .unsupported(
                what: "the format", store: store, reason: "its version is \(major), this program reads \(Self.majorVersion)")
        }
        minor = try reader.take()
        incompatible = try reader.take()
        readOnlyCompatible = try reader.take()
        let unknown = incompatible & ~Self.knownIncompatible
        guard unknown == 0 else {
            throw .unsupported(what: "features \(String(unknown, radix: 16))", store: store, reason: "use a newer program")
        }
        let unwritable = readOnlyCompatible & ~Self.knownReadOnlyCompatible
        guard unwritable == 0 else {
            throw .unsupported(
                what: "features \(String(unwritable, radix: 16))", store: store, reason: "use a newer program, which can write it")
        }
        guard try reader.take(UInt32.self) == UInt32(copy) else { throw reader.damage("it is the other copy") }
        identity = StoreIdentity(low: try reader.take(), high: try reader.take())
        createdAt = try reader.take()
        guard try reader.take(UInt32.self) == UInt32(StoreFormat.blockBytes),
            try reader.take(UInt32.self) == UInt32(StoreFormat.segmentBlocks)
        else { throw reader.damage("other sizes of blocks or segments than this version has") }
        let slots: UInt32 = try reader.take()
        let segments: UInt32 = try reader.take()
        guard let layout = StoreLayout(slotCount: slots, segmentCount: segments) else {
            throw reader.damage("\(slots) slots and \(segments) segments")
        }
        self.layout = layout
        copyIdentity = StoreIdentity(low: try reader.take(), high: try reader.take())
    }

    /// What tells this store from all others, a copy with an identity of its own from its origin among them.
    var ownIdentity: StoreIdentity { copyIdentity.low == 0 && copyIdentity.high == 0 ? identity : copyIdentity }

    init(identity: StoreIdentity, createdAt: Int64, layout: StoreLayout) {
        self.identity = identity
        self.createdAt = createdAt
        self.layout = layout
    }

    /// The identity is not known before it is read, so it does not key this checksum.
    private static func seed(copy: Int) -> UInt64 {
        Sector.seed(.superblock, StoreIdentity(low: 0, high: 0), at: StoreLayout.superblockOffsets[copy])
    }
}
