/// One copy of a slot: who lives there, and where the newest durable anchor lies.
struct SlotSector: Hashable, Sendable {
    private static let magic: UInt32 = 0x544F_4C53  // "SLOT"

    /// Counts the writes of both copies; the higher one is the newer.
    var generation: UInt64
    /// Nil in a free slot.
    var record: SlotRecord?

    func encode(identity: StoreIdentity, at offset: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        let name = record.map { Array($0.name.utf8) } ?? []
        writer.put(Self.magic)
        writer.put(UInt8(record == nil ? 0 : 1))
        writer.put(UInt8(truncatingIfNeeded: name.count))
        writer.put(UInt16(0))
        writer.put(generation)
        if let record {
            writer.put(record.stream.low)
            writer.put(record.stream.high)
            writer.put(record.anchor)
            writer.put(bytes: name)
        }
        return Sector.seal(writer, seed: Sector.seed(.slot, identity, at: offset))
    }

    /// Reads a copy; nil for one that was never written.
    ///
    /// - Throws: `StoreError.damaged`.
    static func decode(_ bytes: UnsafeRawBufferPointer, identity: StoreIdentity, at offset: UInt64) throws(StoreError) -> SlotSector? {
        var reader = ByteReader(bytes, what: "slot", place: offset)
        switch Sector.check(bytes, seed: Sector.seed(.slot, identity, at: offset)) {
        case .blank: return nil
        case .damaged: throw reader.damage("its checksum is wrong")
        case .valid: break
        }
        guard try reader.take(UInt32.self) == magic else { throw reader.damage("it holds no slot") }
        let state: UInt8 = try reader.take()
        let nameCount = Int(try reader.take(UInt8.self))
        try reader.skipZeros(2)
        let generation: UInt64 = try reader.take()
        guard generation > 0, state <= 1 else { throw reader.damage("state \(state) in generation \(generation)") }
        guard state == 1 else { return SlotSector(generation: generation, record: nil) }
        let stream = StreamIdentity(low: try reader.take(), high: try reader.take())
        let anchor = try reader.takeReference()
        let name = try reader.takeName(count: nameCount)
        guard !name.isEmpty else { throw reader.damage("a stream without a name") }
        return SlotSector(generation: generation, record: SlotRecord(stream: stream, name: name, anchor: anchor))
    }
}
