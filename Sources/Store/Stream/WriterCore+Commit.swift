/// What a caller gives with an epoch when it closes it.
struct EpochClosing {
    var state: UnsafeRawBufferPointer
    var name: String
    var time: UInt64
    var statistics: [UInt8]
}

extension WriterCore {
    /// Writes the open epoch with its commit block; durable after the next flush.
    func close(_ closing: EpochClosing) throws(StoreError) -> (checkpoint: CheckpointReference, statistics: EpochStatistics) {
        try checkUsable()
        guard var epoch else { throw .invalid(what: "closing", reason: "no epoch is open") }
        if let failure = epoch.failure { throw failure }
        try check(closing)
        self.epoch = nil
        do throws(StoreError) {
            try guarded { () throws(StoreError) in
                if epoch.gate == nil { epoch.gate = try ground.enterGate() }
                try commit(&epoch, closing)
            }
        } catch {
            epoch.failure = error
            self.epoch = epoch
            throw error
        }
        publish(&epoch)
        epoch.gate = nil
        try prepareForLater()
        return (parent, epoch.statistics)
    }

    /// Now and then an anchor, and what is needed to drop checkpoints on a full disk.
    ///
    /// The checkpoint is there already: what finds no room now is done with a later one.
    private func prepareForLater() throws(StoreError) {
        do throws(StoreError) {
            try guarded { () throws(StoreError) in
                if lastSequence - anchor.lastSequence >= Self.anchorEvery {
                    try thin()
                    try writeAnchor()
                }
                if history.count >= Self.reserveFrom { try layout.fillReserve() }
            }
        } catch {
            guard error.isNoRoom, broken == nil else { throw error }
        }
    }

    private func check(_ closing: EpochClosing) throws(StoreError) {
        try Store.check(name: closing.name, of: "checkpoint", mayBeEmpty: true)
        guard closing.statistics.count <= CommitBlock.statisticsBytesMax else {
            throw .invalid(what: "statistics", reason: "\(closing.statistics.count) bytes, at most \(CommitBlock.statisticsBytesMax) fit")
        }
        if !closing.name.isEmpty, history.number(named: closing.name) != nil {
            throw .checkpointExists(stream: record.name, name: closing.name)
        }
    }

    private func commit(_ epoch: inout OpenEpoch, _ closing: EpochClosing) throws(StoreError) {
        let own = epoch.sortedEntries()
        let before = epoch.statistics.newPageBytes
        let (delta, chain) = try writeTables(own, &epoch)
        let state = try writeState(closing.state)
        var flags: UInt32 = 0
        if epoch.aheadBytes + UInt64(layout.waitingBytes) > options.settleBytes {
            try drain(&epoch)
            try land(&epoch)
            try flusher.settle()
            flags |= CommitBlock.settledFlag
        }
        let next = try layout.takeNextHead()
        epoch.statistics.writtenBytes += UInt64(layout.waitingBytes + StoreFormat.blockBytes)
        epoch.statistics.metadataBytes = epoch.statistics.writtenBytes - min(before, epoch.statistics.writtenBytes)
        let block = CommitBlock(
            stream: record.stream, sequence: lastSequence + 1, number: epoch.number, parent: parent.number, parentStream: parent.stream,
            time: closing.time, offset: layout.head, next: next, previous: lastChecksum, durableSequence: durableSequence, flags: flags,
            pageCount: UInt64(own.count), newPageCount: epoch.statistics.newPages, writtenBytes: epoch.statistics.writtenBytes,
            stateBytes: UInt64(closing.state.count), state: state, delta: delta, name: closing.name, statistics: closing.statistics,
            chain: chain)
        try write(block)
    }

    /// Writes a commit block and what waits for it, and makes it the newest.
    func write(_ block: CommitBlock) throws(StoreError) {
        let (bytes, checksum) = block.encode(store: ground.identity)
        try layout.finish(head: bytes, next: block.next)
        try history.append(CheckpointEntry(block, checksum: checksum))
        chain = block.chain
        parent = CheckpointReference(stream: record.stream, number: block.number)
        lastSequence = block.sequence
        lastNumber = block.number
        lastChecksum = checksum
        lastOffset = block.offset
    }

    /// Writes the epoch's table and merges what its number asks for.
    private func writeTables(_ own: [TreeEntry], _ epoch: inout OpenEpoch) throws(StoreError) -> (TreeReference, [TreeReference]) {
        let plan = ChainPlan(number: epoch.number, ownCount: own.count, chain: chain)
        let kept = Array(chain.dropFirst(plan.merged))
        if plan.merged == 0 {
            let entries = plan.isBase ? own.filter { !$0.location.isZero } : own
            let table = try writeTable(entries, level: plan.level)
            return (table, table.entryCount == 0 ? kept : [table] + kept)
        }
        let delta = try writeTable(own, level: 0)
        let start = options.monotonic()
        var merger = try TableMerger(own: own, Array(trees.prefix(plan.merged)))
        var builder = TreeBuilder(place: layout.place)
        while let entry = try merger.next() {
            epoch.statistics.mergedEntries += 1
            if !(plan.isBase && entry.location.isZero) { try builder.add(entry) }
            if layout.waitingBytes >= BlockLayout.drainBytes { try drain(&epoch) }
        }
        let table = try builder.finish(level: plan.level)
        epoch.statistics.mergeNanoseconds = options.monotonic() &- start
        return (delta, table.entryCount == 0 ? kept : [table] + kept)
    }

    private func writeTable(_ entries: [TreeEntry], level: Int) throws(StoreError) -> TreeReference {
        var builder = TreeBuilder(place: layout.place)
        for entry in entries { try builder.add(entry) }
        return try builder.finish(level: level)
    }

    /// Writes the state in pieces of a block.
    private func writeState(_ state: UnsafeRawBufferPointer) throws(StoreError) -> TreeReference {
        var builder = TreeBuilder(place: layout.place)
        var start = 0
        while start < state.count {
            let piece = UnsafeRawBufferPointer(rebasing: state[start..<min(start + StoreFormat.blockBytes, state.count)])
            try builder.add(
                TreeEntry(key: UInt64(start), location: try layout.place(piece), checksum: Checksum(of: piece)))
            start += piece.count
        }
        return try builder.finish()
    }
}
