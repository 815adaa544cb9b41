/// The slots on the disk: two copies each, written in turn.
struct SlotTable: Sendable {
    let disk: any Disk
    let identity: StoreIdentity
    let layout: StoreLayout

    /// Both copies of a slot as they are.
    struct Copies {
        /// Nil where a copy was never written or is damaged.
        var sectors: [SlotSector?] = [nil, nil]
        /// What is wrong with a copy.
        var damage: [StoreError?] = [nil, nil]
        /// Whether there is anything in either.
        var isWritten: Bool { sectors[0] != nil || sectors[1] != nil || damage[0] != nil || damage[1] != nil }
        /// The stream in it, as the copy that counts says.
        var record: SlotRecord? { newest.flatMap { sectors[$0]?.record } }
        /// The copy that counts: the newer of the valid ones.
        var newest: Int? {
            switch (sectors[0]?.generation, sectors[1]?.generation) {
            case (nil, nil): nil
            case (nil, _): 1
            case (_, nil): 0
            case (let first?, let second?): first >= second ? 0 : 1
            }
        }
    }

    private static let rereadsMax = 3

    /// Reads a slot; nil when it is free.
    ///
    /// - Throws: `StoreError.damaged` when a copy cannot be read and the other names no stream.
    func record(at index: UInt32) throws(StoreError) -> SlotRecord? {
        guard index < layout.slotCount else { return nil }
        var copies = try copies(of: index..<index + 1)[0]
        // A sector that is read while it is being written looks damaged.
        for _ in 0..<Self.rereadsMax where copies.damage[0] != nil || copies.damage[1] != nil {
            copies = try self.copies(of: index..<index + 1)[0]
        }
        return try Self.record(copies)
    }

    static func record(_ copies: Copies) throws(StoreError) -> SlotRecord? {
        if let newest = copies.newest, let record = copies.sectors[newest]?.record { return record }
        // The damaged copy may be the newer one, and a stream may live in it.
        if let damage = copies.damage[0] ?? copies.damage[1] { throw damage }
        return nil
    }

    /// Reads both copies of consecutive slots.
    ///
    /// - Parameter pastCache: as a power cut would leave them.
    func copies(of slots: Range<UInt32>, pastCache: Bool = false) throws(StoreError) -> [Copies] {
        var result = [Copies](repeating: Copies(), count: slots.count)
        let (sector, block) = (StoreFormat.sectorBytes, UInt64(StoreFormat.blockBytes))
        for copy in 0..<2 {
            let start = layout.slotOffset(slots.lowerBound, copy: copy)
            let end = start + UInt64(slots.count * sector)
            // Whole blocks: a copy of all slots ends with one.
            let first = start / block * block
            let buffer = UnsafeMutableRawBufferPointer.allocate(
                byteCount: Int((end - first + block - 1) / block * block), alignment: StoreFormat.blockBytes)
            defer { buffer.deallocate() }
            do throws(DiskError) {
                if pastCache { try disk.readPastCache(at: first, into: buffer) } else { try disk.read(at: first, into: buffer) }
            } catch { throw .disk(error) }
            for index in 0..<slots.count {
                let place = Int(start - first) + index * sector
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[place..<place + sector])
                do throws(StoreError) {
                    result[index].sectors[copy] = try SlotSector.decode(bytes, identity: identity, at: start + UInt64(index * sector))
                } catch {
                    result[index].damage[copy] = error
                }
            }
        }
        return result
    }

    /// Slots whose copies are read at once where all are.
    private static let slotsAtOnce: UInt32 = 256

    /// Both copies of all slots that were ever written; what never was is not even read where the disk knows.
    ///
    /// - Parameter pastCache: as a power cut would leave them.
    func written(pastCache: Bool = false) throws(StoreError) -> [(index: UInt32, copies: Copies)] {
        let sector = UInt64(StoreFormat.sectorBytes)
        var result: [(index: UInt32, copies: Copies)] = []
        var first: UInt32 = 0
        while first < layout.slotCount {
            let data = (0..<2).map { copy in
                let start = layout.slotOffset(0, copy: copy)
                let found = disk.firstData(from: layout.slotOffset(first, copy: copy))
                return UInt32(clamping: (found - start) / sector)
            }
            first = max(first, min(data[0], data[1]))
            guard first < layout.slotCount else { break }
            let end = min(layout.slotCount, first + Self.slotsAtOnce)
            for (index, copies) in zip(first..<end, try copies(of: first..<end, pastCache: pastCache)) where copies.isWritten {
                result.append((index, copies))
            }
            first = end
        }
        return result
    }

    /// Writes over the older copy.
    func write(_ record: SlotRecord?, to index: UInt32) throws(StoreError) {
        guard index < layout.slotCount else { throw .invalid(what: "slot", reason: "\(index) of \(layout.slotCount)") }
        let copies = try copies(of: index..<index + 1)[0]
        let newest = copies.newest
        let generation = newest.flatMap { copies.sectors[$0]?.generation } ?? 0
        guard generation < .max else { throw .invalid(what: "slot", reason: "it has been written too often") }
        try write(SlotSector(generation: generation + 1, record: record), to: index, copy: newest == 0 ? 1 : 0)
        // When neither copy could be read nothing is lost by writing over both, and what is left of the other would look newer.
        if newest == nil, copies.damage[1] != nil {
            try write(SlotSector(generation: generation + 2, record: record), to: index, copy: 1)
        }
    }

    /// Writes one copy.
    func write(_ slot: SlotSector, to index: UInt32, copy: Int) throws(StoreError) {
        let offset = layout.slotOffset(index, copy: copy)
        let sector = slot.encode(identity: identity, at: offset)
        let failure: DiskError? = sector.withUnsafeBytes { bytes in
            do throws(DiskError) { try disk.write([bytes], at: offset) } catch { return error }
            return nil
        }
        if let failure { throw .disk(failure) }
    }
}
