extension WriterCore {
    /// Takes changed pages into the open epoch.
    ///
    /// - Parameter retained: the bytes stay as they are until the epoch is closed or abandoned, so they need not be copied.
    func add(_ inputs: [PageInput], retained: Bool) throws(StoreError) {
        try checkUsable()
        guard var epoch else { throw .invalid(what: "pages", reason: "no epoch is open") }
        if let failure = epoch.failure { throw failure }
        // Moved out and back, so that it is changed in place.
        self.epoch = nil
        defer { self.epoch = epoch }
        do throws(StoreError) {
            try guarded { () throws(StoreError) in
                if epoch.gate == nil { epoch.gate = try ground.enterGate() }
                // Not for these alone each time: a first checkpoint of gigabytes comes in a thousand calls, and would be copied in each.
                let needed = epoch.entries.count + inputs.count
                if needed > epoch.entries.capacity { epoch.entries.reserveCapacity(max(needed, 2 * epoch.entries.capacity)) }
                for input in inputs {
                    try add(input, retained: retained, to: &epoch)
                    if layout.waitingBytes >= BlockLayout.drainBytes { try drain(&epoch) }
                }
            }
        } catch {
            epoch.failure = error
            throw error
        }
    }

    private func add(_ input: PageInput, retained: Bool, to epoch: inout OpenEpoch) throws(StoreError) {
        let key = input.key.rawValue
        epoch.statistics.offeredPages += 1
        guard let bytes = input.bytes, !Compression.isZero(bytes) else {
            if try digest(of: key) == CurrentPages.zero {
                epoch.statistics.unchangedPages += 1
                return
            }
            epoch.statistics.zeroPages += 1
            current.set(key, to: CurrentPages.zero)
            epoch.entries.append(TreeEntry(key: key, location: .zero, checksum: Checksum(low: 0, high: 0)))
            return
        }
        let checksum = Checksum(of: UnsafeRawBufferPointer(start: bytes, count: StoreFormat.blockBytes))
        let digest = CurrentPages.digest(checksum)
        if try self.digest(of: key) == digest {
            epoch.statistics.unchangedPages += 1
            return
        }
        let location: PageLocation
        if let shared = find(checksum, bytes, in: epoch) {
            location = shared
            epoch.statistics.sharedPages += 1
        } else {
            location = try store(bytes, checksum, retained: retained, in: &epoch)
        }
        current.set(key, to: digest)
        epoch.entries.append(TreeEntry(key: key, location: location, checksum: checksum))
    }

    /// What is known of the page as it is now; looked up in the chain if it has not been met yet.
    private func digest(of key: UInt64) throws(StoreError) -> UInt64 {
        let known = current.value(key)
        if known != CurrentPages.unknown { return known }
        var found = CurrentPages.zero
        for table in chain {
            guard let entry = try Tree(reference: table, source: source).find(key) else { continue }
            if !entry.location.isZero { found = CurrentPages.digest(entry.checksum) }
            break
        }
        current.set(key, to: found)
        return found
    }

    /// Where the same bytes are stored, compared byte by byte.
    private func find(_ checksum: Checksum, _ bytes: UnsafeRawPointer, in epoch: OpenEpoch) -> PageLocation? {
        if let waiting = epoch.waiting[checksum] ?? epoch.waitingBehind[checksum], Compression.isEqual(waiting.bytes, bytes) {
            return waiting.location
        }
        for candidate in ground.candidates(for: checksum) {
            // Before it is read: what is in use by its segment's entry stays as it is. A hint that cannot be read is no hint.
            guard ground.share(candidate), (try? pages.fill(candidate, into: scratch)) != nil, let base = scratch.baseAddress,
                Compression.isEqual(base, bytes)
            else { continue }
            return candidate
        }
        return nil
    }

    private func store(
        _ bytes: UnsafeRawPointer, _ checksum: Checksum, retained: Bool, in epoch: inout OpenEpoch
    ) throws(StoreError) -> PageLocation {
        let location: PageLocation
        if epoch.sample.wants(options.compression, newPages: epoch.statistics.newPages), let packed = compress(bytes, &epoch) {
            location = try layout.place(packed)
        } else {
            let offset = try layout.place(page: bytes, copy: !retained)
            guard let place = PageLocation(offset: offset, length: StoreFormat.blockBytes) else {
                throw .invalid(what: "place in the store", reason: "the store is larger than the format allows")
            }
            location = place
            if retained { epoch.waiting[checksum] = (location, bytes) }
        }
        epoch.statistics.newPages += 1
        epoch.statistics.newPageBytes += UInt64(location.length)
        epoch.unpublished.append((checksum, location))
        return location
    }

    private func compress(_ bytes: UnsafeRawPointer, _ epoch: inout OpenEpoch) -> UnsafeRawBufferPointer? {
        let packed = compression.compress(bytes)
        epoch.sample.record(storedBytes: packed?.count ?? StoreFormat.blockBytes)
        return packed
    }

    /// Begins to write what waits, and tells others about what was begun before.
    func drain(_ epoch: inout OpenEpoch) throws(StoreError) {
        try land(&epoch)
        let isCached = epoch.aheadBytes < options.cachedBytes
        epoch.aheadBytes += UInt64(layout.waitingBytes)
        epoch.statistics.writtenBytes += UInt64(layout.waitingBytes)
        try layout.drain(isCached: isCached)
        swap(&epoch.waiting, &epoch.waitingBehind)
        epoch.publishedNext = epoch.unpublished.filter { !layout.isInHead($0.location) }
        epoch.unpublished.removeAll { !layout.isInHead($0.location) }
    }

    /// Waits until all is written that was begun, and tells others about it.
    func land(_ epoch: inout OpenEpoch) throws(StoreError) {
        do throws(StoreError) { try layout.land() } catch {
            // It has to be written again.
            epoch.unpublished = epoch.publishedNext + epoch.unpublished
            epoch.publishedNext = []
            throw error
        }
        publish(&epoch.publishedNext)
        epoch.waitingBehind.removeAll(keepingCapacity: true)
    }

    /// Tells others about all pages, which have been written.
    func publish(_ epoch: inout OpenEpoch) {
        publish(&epoch.publishedNext)
        publish(&epoch.unpublished)
    }

    private func publish(_ pages: inout [(checksum: Checksum, location: PageLocation)]) {
        for page in pages { ground.publish(page.checksum, at: page.location) }
        pages.removeAll(keepingCapacity: true)
    }
}
