extension WriterCore {
    /// Writes the history so far, and what the slot will refer to after the next flush.
    ///
    /// When that fails nothing of it is referred to later.
    func writeAnchor() throws(StoreError) {
        // Nothing of it may wait in the block of an open epoch's commit.
        layout.closeSmall()
        let before = (history, anchor)
        // The log does not lead to it, so until the slot does a collection knows of it only by who owns its segments.
        layout.holdsPlaces = true
        defer { layout.holdsPlaces = false }
        do throws(StoreError) { try writeHistoryAndAnchor() } catch {
            (history, anchor) = before
            if epoch == nil { layout.abandonEpoch() }
            throw error
        }
    }

    private func writeHistoryAndAnchor() throws(StoreError) {
        (anchor.history, anchor.names) = try history.store(place: layout.place)
        anchor.lastSequence = lastSequence
        anchor.lastNumber = lastNumber
        anchor.lastChecksum = lastChecksum
        anchor.lastOffset = lastOffset
        anchor.entryCount = history.count
        anchor.next = layout.head
        let reference = try History.placed(anchor.encode(), layout.place)
        if var epoch {
            self.epoch = nil
            defer { self.epoch = epoch }
            try drain(&epoch)
            try land(&epoch)
        } else {
            try layout.drain()
            try layout.land()
        }
        pendingAnchor = reference
    }

    /// What a flush has to settle: asked before it, told after it.
    var flushTarget: (sequence: UInt64, number: UInt64, anchor: DataReference?) { (lastSequence, lastNumber, pendingAnchor) }

    /// A flush has covered this.
    func flushed(_ target: (sequence: UInt64, number: UInt64, anchor: DataReference?)) throws(StoreError) {
        if target.sequence > durableSequence {
            durableSequence = target.sequence
            durableNumber = target.number
        }
        guard let reference = target.anchor, reference == pendingAnchor else { return }
        var newer = record
        newer.anchor = reference
        try guarded { () throws(StoreError) in try ground.write(newer, toSlot: slot) }
        record = newer
        pendingAnchor = nil
        layout.letGo()
    }

    /// Makes the history as it is now durable, slot and all.
    func anchorNow() throws(StoreError) {
        try checkUsable()
        try guarded { () throws(StoreError) in try writeAnchor() }
        try settleAnchor()
    }

    /// Makes the anchor that was written the one that counts.
    private func settleAnchor() throws(StoreError) {
        try guarded { () throws(StoreError) in
            try flusher.settle()
            try flushed(flushTarget)
            try flusher.settle()
        }
    }

    /// Removes what the policy does not keep from the history; durable with the next anchor.
    func thin() throws(StoreError) {
        guard let policy = options.retention else { return }
        let dropped = try history.all().filter { !policy.keeps($0.number, newest: lastNumber) && isDroppable($0) }
        try history.remove(Set(dropped.map(\.number)))
    }

    private func isDroppable(_ entry: CheckpointEntry) -> Bool {
        entry.name.isEmpty && entry.number != lastNumber && !kept.contains(entry.number)
            && CheckpointReference(stream: record.stream, number: entry.number) != parent
    }

    /// Removes all checkpoints older than one that nobody holds; returns how many.
    func drop(olderThan number: UInt64) throws(StoreError) -> Int {
        try checkUsable()
        let dropped = try history.all().filter { $0.number < number && isDroppable($0) }
        guard !dropped.isEmpty else { return 0 }
        try remove(Set(dropped.map(\.number)))
        return dropped.count
    }

    /// Makes a history durable that others were dropped from: the last blocks may be used for that.
    ///
    /// Where there is no room even for that, nothing is dropped.
    private func remove(_ numbers: Set<UInt64>) throws(StoreError) {
        layout.usesReserve = true
        defer { layout.usesReserve = false }
        let before = history
        try history.remove(numbers)
        do throws(StoreError) { try guarded { () throws(StoreError) in try writeAnchor() } } catch {
            if error.isNoRoom { history = before }
            throw error
        }
        try settleAnchor()
    }

    /// Removes checkpoints from the history.
    ///
    /// - Parameter force: named ones, too.
    func drop(_ numbers: [UInt64], force: Bool) throws(StoreError) {
        try checkUsable()
        for number in numbers {
            guard let entry = try history.find(number) else { throw .noCheckpoint(stream: record.name, wanted: "number \(number)") }
            if number == lastNumber || CheckpointReference(stream: record.stream, number: number) == parent {
                throw .checkpointProtected(stream: record.name, number: number, reason: "the stream goes on from it")
            }
            // Whatever is forced: pages of it may be read until the writer ends.
            if kept.contains(number) {
                throw .checkpointProtected(stream: record.name, number: number, reason: "a running machine still reads from it")
            }
            if !entry.name.isEmpty, !force {
                throw .checkpointProtected(stream: record.name, number: number, reason: "it is named \(entry.name)")
            }
        }
        try remove(Set(numbers))
    }

    /// Names a checkpoint; an empty name takes it away.
    func setName(_ name: String, of number: UInt64) throws(StoreError) {
        try checkUsable()
        try Store.check(name: name, of: "checkpoint", mayBeEmpty: true)
        guard try history.find(number) != nil else { throw .noCheckpoint(stream: record.name, wanted: "number \(number)") }
        if !name.isEmpty, let other = history.number(named: name), other != number {
            throw .checkpointExists(stream: record.name, name: name)
        }
        guard history.names.count < History.namesMax || name.isEmpty else {
            throw .invalid(what: "name", reason: "\(record.name) has \(History.namesMax) names already")
        }
        history.setName(name, of: number)
        try anchorNow()
    }
}
