extension WriterCore {
    /// Keeps a checkpoint that is in the history.
    func hold(_ number: UInt64) throws(StoreError) {
        guard try history.find(number) != nil else { throw .noCheckpoint(stream: record.name, wanted: "number \(number)") }
        kept.keep(number)
    }

    /// Makes a checkpoint's contents the newest checkpoint: its tables and state, referred to and not copied.
    ///
    /// Durable after the next flush. Where that cannot be written the stream goes on from where it was.
    func goBack(to checkpoint: CheckpointReader, time: UInt64, statistics: [UInt8]) throws(StoreError) -> CheckpointReference {
        try checkContinues(checkpoint)
        guard let number = lastNumber.addingOrNil(1) else {
            throw .invalid(what: "going back", reason: "\(record.name) has no number left")
        }
        guard statistics.count <= CommitBlock.statisticsBytesMax else {
            throw .invalid(what: "statistics", reason: "\(statistics.count) bytes, at most \(CommitBlock.statisticsBytesMax) fit")
        }
        let gate = try ground.enterGate()
        defer { withExtendedLifetime(gate) {} }
        // One block, also on a full disk: whoever goes back may do so to get rid of what filled it.
        layout.usesReserve = true
        defer { layout.usesReserve = false }
        try guarded { () throws(StoreError) in
            layout.beginEpoch()
            do throws(StoreError) { try writeAgain(checkpoint, as: number, time, statistics) } catch {
                layout.abandonEpoch()
                throw error
            }
        }
        current.forget()
        return parent
    }

    private func writeAgain(
        _ checkpoint: CheckpointReader, as number: UInt64, _ time: UInt64, _ statistics: [UInt8]
    ) throws(StoreError) {
        let source = checkpoint.block
        try write(
            CommitBlock(
                stream: record.stream, sequence: lastSequence + 1, number: number, parent: source.number, parentStream: source.stream,
                time: time, offset: layout.head, next: try layout.takeNextHead(), previous: lastChecksum,
                durableSequence: durableSequence, flags: 0, pageCount: 0, newPageCount: 0,
                writtenBytes: UInt64(StoreFormat.blockBytes), stateBytes: source.stateBytes, state: source.state, delta: .empty, name: "",
                statistics: statistics, chain: source.chain))
    }

    /// Refuses what the next epoch cannot be made upon.
    func checkContinues(_ checkpoint: CheckpointReader) throws(StoreError) {
        try checkUsable()
        guard epoch == nil else { throw .invalid(what: "going back", reason: "epoch \(epoch?.number ?? 0) is still open") }
        // One that was dropped since it was opened may lose its tables at any time.
        guard checkpoint.reference.stream == record.stream, try history.find(checkpoint.number)?.sequence == checkpoint.block.sequence
        else { throw .noCheckpoint(stream: record.name, wanted: "number \(checkpoint.number) to go back to") }
    }
}
