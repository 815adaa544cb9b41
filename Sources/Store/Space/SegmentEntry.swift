/// What is known of a segment: who owns it, and which of its blocks are in use.
///
/// While a writer owns a segment all of its blocks are in use: whatever becomes of the writer, nothing it wrote can be overwritten
/// before a collection has looked. A blank sector is a segment that was never used.
struct SegmentEntry: Hashable, Sendable {
    private static let magic: UInt32 = 0x4D47_4553  // "SEGM"

    /// A writer: the slot of its stream, and a number that tells it from earlier and later writers of the slot.
    struct Owner: Hashable, Sendable {
        var slot: UInt32
        var session: UInt64
    }

    /// Counts the writes of the entry.
    var generation: UInt64 = 0
    /// Nil when no writer owns it.
    var owner: Owner?
    /// Blocks in use.
    var used = SegmentBits.none

    func encode(identity: StoreIdentity, at offset: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.put(Self.magic)
        writer.put(owner?.slot ?? .max)
        writer.put(generation)
        writer.put(owner?.session ?? 0)
        writer.put(UInt64(0))
        for index in 0..<16 { writer.put(used.words[index]) }
        return Sector.seal(writer, seed: Sector.seed(.segment, identity, at: offset))
    }

    /// Reads an entry.
    ///
    /// - Throws: `StoreError.damaged`; the caller then takes all blocks for used.
    init(_ bytes: UnsafeRawBufferPointer, identity: StoreIdentity, at offset: UInt64) throws(StoreError) {
        var reader = ByteReader(bytes, what: "segment entry", place: offset)
        switch Sector.check(bytes, seed: Sector.seed(.segment, identity, at: offset)) {
        case .blank: return
        case .damaged: throw reader.damage("its checksum is wrong")
        case .valid: break
        }
        guard try reader.take(UInt32.self) == Self.magic else { throw reader.damage("it holds no segment entry") }
        let slot: UInt32 = try reader.take()
        generation = try reader.take()
        let session: UInt64 = try reader.take()
        try reader.skipZeros(8)
        for index in 0..<16 { used.words[index] = try reader.take() }
        guard slot == .max || slot < StoreConfiguration.slotsMax else { throw reader.damage("its owner is slot \(slot)") }
        if slot != .max { owner = Owner(slot: slot, session: session) }
    }

    init(used: SegmentBits = .none) { self.used = used }
}
